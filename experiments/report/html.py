"""The report: one HTML page, everything in it, that opens from disk without a network."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from experiments.report.comparison import ALL, COMPARED, COMPARED_SAY, answers, comparisons, headline
from experiments.report.summary import COLUMNS, COLUMNS_SAY, Row, Summary, is_oracle, number, summarise, violations_of
from sim.files import write_text

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
COLOURS = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#db2777", "#65a30d", "#0891b2", "#b45309")
ORACLE_COLOUR, GOOD, BAD, FAINT = "#6b7280", "#16a34a", "#dc2626", "#e5e7eb"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")
CONFIG = {"displayModeBar": False, "responsive": True}
ROW_PX = 17  # height of one interval in the plot of successes

FIDELITY_COLUMNS = (
    ("horizon [s]", "horizon_s", 1),
    ("n", "n", 0),
    ("load, median [mm]", "load_mm_median", 1),
    ("load, p90 [mm]", "load_mm_p90", 1),
    ("load turn, median [°]", "load_deg_median", 1),
    ("robot, median [mm]", "robot_mm_median", 1),
    ("robot turn, median [°]", "robot_deg_median", 1),
    ("load moved, median [m]", "moved_m_median", 2),
    ("particles apart [mm]", "disagreement_mm", 1),
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body><main>
{body}
</main></body>
</html>
"""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: #1c2530; font: 16px/1.5 FONT; -webkit-text-size-adjust: 100%; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { margin: 0 0 8px; font-size: 30px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 4px; font-size: 20px; }
h3 { margin: 20px 0 6px; font-size: 15px; overflow-wrap: anywhere; }
p { margin: 4px 0 12px; overflow-wrap: anywhere; }
section { margin-top: 20px; padding: 20px 24px; background: #fff; border: 1px solid #e5e7eb; border-radius: 10px; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.command { display: inline-block; max-width: 100%; padding: 2px 8px; background: #e9ecf0; border-radius: 6px; }
.command { overflow-wrap: anywhere; }
.headline { margin: 20px 0 0; font-size: 19px; line-height: 1.45; }
.note { color: #5b6572; font-size: 14px; }
.wide { overflow-x: auto; background: linear-gradient(90deg, #fff0, #fff 70%) right / 40px 100% no-repeat local,
  linear-gradient(90deg, #fff0, #1c253033) right / 14px 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 8px; border-bottom: 1px solid #e5e7eb; text-align: right; white-space: nowrap; }
th { color: #5b6572; font-weight: 600; line-height: 1.3; vertical-align: bottom; white-space: normal; }
th { border-bottom-color: #c3cad3; }
th:first-child, td:first-child { position: sticky; left: 0; padding-left: 0; background: #fff; text-align: left; }
td:first-child { min-width: 130px; white-space: normal; overflow-wrap: anywhere; }
section > div + .wide { margin-top: 12px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 12px 0 4px; font-size: 14px; overflow-wrap: anywhere; }
.legend i { display: inline-block; width: 10px; height: 10px; margin-right: 7px; border-radius: 50%; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { width: 220px; color: #5b6572; }
.pictures svg { display: block; max-width: 100%; height: auto; font-family: FONT; }
.compared td:nth-child(5), .compared td:nth-child(7) { min-width: 165px; white-space: normal; }
.compared td:nth-child(2) { white-space: normal; }
.notice { margin: 12px 0 0; padding: 8px 14px; background: #fff7e6; border-left: 3px solid #d97706; font-size: 14px; }
.answers { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; margin: 16px 0 0; font-size: 15px; }
.answers dt { color: #5b6572; }
.answers dd { margin: 0; overflow-wrap: anywhere; }
summary { padding: 4px 0; color: #1d4ed8; font-size: 14px; cursor: pointer; }
.episodes { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 16px; margin-top: 10px; }
.episodes figure { margin: 0; font-size: 13px; line-height: 1.4; }
.episodes svg { display: block; width: 100%; height: auto; font-family: FONT; }
ul { margin: 0; padding-left: 20px; }
li { margin: 4px 0; overflow-wrap: anywhere; }
a { color: #1d4ed8; }
@media (min-width: 1000px) {
  .even table { table-layout: fixed; }
  .even th:nth-child(1) { width: 18%; }
  .even th:nth-child(3), .even th:nth-child(4) { width: 16%; }
  .even th:nth-child(6) { width: 15%; }
}
@media (max-width: 640px) {
  main { padding: 20px 12px 40px; }
  h1 { font-size: 24px; }
  section { padding: 16px 12px; }
  .headline { font-size: 17px; }
  .pictures svg { max-width: none; }
  table { font-size: 12px; }
  th, td { padding: 5px; }
  th { hyphens: auto; }
  td:first-child { min-width: 96px; padding-right: 8px; }
  .compared td:first-child { min-width: 58px; }
  .compared td:nth-child(2), .compared td:nth-child(5), .compared td:nth-child(7) { min-width: 100px; }
  .facts td:first-child { width: 38%; }
  .answers { grid-template-columns: 1fr; gap: 2px; }
  .answers dd { margin-bottom: 8px; }
  .episodes { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
}
""".replace("FONT", FONT)


def write_report(
    path: Path,
    title: str,
    rows: list[dict[str, Any]],
    fidelity: list[dict[str, Any]],
    strips: list[tuple[str, str]],
    recordings: list[tuple[str, str]],
    facts: list[tuple[str, str]],
    command: str,
    measures: Sequence[str] = (),
    notes: Sequence[str] = (),
    failures: str = "",
) -> None:
    """Write the page.

    `rows` has one dict per evaluated episode, `fidelity` one per model and horizon; `strips` are (heading, inline svg),
    `recordings` (text, relative address), `facts` (name, value), `measures` sections of their own, `notes` what a reader must
    know beside the results, `failures` the worst episodes' section. Parts without content are left out. Every text is escaped.
    """
    sections = [
        _heading(title, command, headline(rows)) + _answers(answers(rows)),
        _notes(notes),
        _results(summarise(rows)),
        _compared(rows),
        *measures,
        _fidelity(fidelity),
        _predicted(rows),
        _violations(rows),
        failures,
        _strips(strips),
        _recordings(recordings),
        _facts(facts),
    ]
    _write_page(path, title, sections)


def write_fidelity(path: Path, fidelity: list[dict[str, Any]]) -> None:
    """A page with the error by horizon alone."""
    _write_page(path, "Fidelity", [_fidelity(fidelity)])


def _write_page(path: Path, title: str, sections: list[str]) -> None:
    body = "\n".join(section for section in sections if section)
    write_text(path, PAGE.format(title=escape(title), style=STYLE, plotly=get_plotlyjs(), body=body))


def _heading(title: str, command: str, sentence: str) -> str:
    made = f'<p class="note">Made with <code class="command">{escape(command)}</code></p>'
    return f'<h1>{escape(title)}</h1>{made}<p class="headline">{escape(sentence)}</p>'


def _answers(answers: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<dt>{escape(question)}</dt><dd>{escape(answer)}</dd>" for question, answer in answers)
    return f'<dl class="answers">{lines}</dl>' if lines else ""


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="notice">{escape(note)}</p>' for note in notes)


def _results(summaries: list[Summary]) -> str:
    if not summaries:
        return ""
    tables = []
    for split in dict.fromkeys(summary.split for summary in summaries):
        cells = [summary.cells for summary in summaries if summary.split == split]
        tables.append(f'<h3>{escape(split)}</h3><div class="even">{_table(COLUMNS, cells)}</div>')
    arms = dict.fromkeys(summary.agent for summary in summaries)
    oracle = " The oracle plans on the true simulator and is the mark to measure by." if any(map(is_oracle, arms)) else ""
    plot = _legend(list(arms)) + _plot(_success_figure(summaries), "plot-success")
    plotted = _section("Success by arm", "Share of episodes solved, with 95 % intervals of each arm's own episodes.", plot)
    return _section("Results", COLUMNS_SAY + oracle, "".join(tables)) + "\n" + plotted


def _compared(rows: Sequence[Row]) -> str:
    """All splits together, the single ones a click away."""
    lines = [comparison.cells for comparison in comparisons(rows)]
    if not lines:
        return ""
    together, single = (
        f'<div class="compared">{_table(COMPARED, [line for line in lines if (line[0] == ALL) == wanted])}</div>'
        for wanted in (True, False)
    )
    return _section("Differences", COMPARED_SAY, f"{together}<details><summary>By split</summary>{single}</details>")


def _legend(arms: list[str]) -> str:
    """Plotly's own legend would be cut off on a phone."""
    dots = [
        f'<span><i style="background:{colour}"></i>{escape(arm)}</span>'
        for arm, colour in zip(arms, _arm_colours(arms), strict=True)
    ]
    return f'<div class="legend">{"".join(dots)}</div>'


def _success_figure(summaries: list[Summary]) -> go.Figure:
    """Splits down the side, one interval per arm and split."""
    arms = list(dict.fromkeys(summary.agent for summary in summaries))
    splits = list(dict.fromkeys(summary.split for summary in summaries))
    figure = go.Figure()
    for arm, colour in zip(arms, _arm_colours(arms), strict=True):
        own = [summary for summary in summaries if summary.agent == arm]
        values = [100 * summary.success.value for summary in own]
        figure.add_scatter(
            x=values,
            y=[_tick(summary.split) for summary in own],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * summary.success.interval[1] - value for summary, value in zip(own, values, strict=True)],
                "arrayminus": [value - 100 * summary.success.interval[0] for summary, value in zip(own, values, strict=True)],
                "thickness": 2,
                "width": 3,
            },
            name=_label(arm),
            customdata=[f"{_label(arm)}: {summary.success} of {summary.episodes}" for summary in own],
            hovertemplate="%{customdata}<extra></extra>",
            mode="markers",
            marker={"color": colour, "size": 9},
            orientation="h",
            offsetgroup=_label(arm),
        )
    height = 70 + len(splits) * (len(arms) * ROW_PX + 14)
    figure.update_layout(scattermode="group", scattergap=0.25, showlegend=False, height=height)
    figure.update_xaxes(title="episodes solved [%]", range=[-2, 102])
    ticks = [_tick(split) for split in splits]
    figure.update_yaxes(categoryorder="array", categoryarray=ticks, range=[len(splits) - 0.5, -0.5], showgrid=False)
    for border in range(1, len(splits)):
        figure.add_hline(y=border - 0.5, line_color=FAINT, line_width=1)
    return figure


def _fidelity(fidelity: list[dict[str, Any]]) -> str:
    if not fidelity:
        return ""
    columns = ("model", *(name for name, _, _ in FIDELITY_COLUMNS), "load error / moved")
    cells = [_fidelity_cells(line) for line in fidelity]
    says = "Error of the imagined load and robot against what happened, when the model only sees the first state and the actions."
    plot = _plot(_fidelity_figure(fidelity), "plot-fidelity")
    return _section("Error of the world model by horizon", says, plot + _table(columns, cells))


def _fidelity_cells(line: Row) -> tuple[str, ...]:
    numbers = [number(line.get(key), digits) for _, key, digits in FIDELITY_COLUMNS]
    return (str(line["model"]), *numbers, _percent(line["load_relative_median"]))


def _fidelity_figure(fidelity: list[dict[str, Any]]) -> go.Figure:
    figure = go.Figure()
    models = list(dict.fromkeys(str(line["model"]) for line in fidelity))
    for model, colour in zip(models, _arm_colours(models), strict=True):
        lines = sorted((line for line in fidelity if line["model"] == model), key=lambda line: float(line["horizon_s"]))
        for key, what, dash in (("load_mm_median", "median", "solid"), ("load_mm_p90", "p90", "dot")):
            figure.add_scatter(
                x=[line["horizon_s"] for line in lines],
                y=[line[key] for line in lines],
                name=f"{_label(model)}, {what}",
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate="%{y:.0f} mm after %{x:.1f} s",
            )
    figure.update_layout(height=340)
    figure.update_xaxes(title="horizon [s]", rangemode="tozero")
    figure.update_yaxes(title="position error of the load [mm]", rangemode="tozero")
    return figure


def _predicted(rows: Sequence[Row]) -> str:
    planned = [row for row in rows if _known(row["predicted_cost"]) and _known(row["realised_cost"])]
    if not planned:
        return ""
    says = "One dot per episode of an arm that plans: the cost it foresaw, and the cost that came. On the line both agree."
    return _section("Predicted and realised cost", says, _plot(_predicted_figure(planned), "plot-predicted"))


def _predicted_figure(rows: list[Row]) -> go.Figure:
    figure = go.Figure()
    costs = [float(row[key]) for row in rows for key in ("predicted_cost", "realised_cost")]
    ends = [min(0.0, *costs), max(costs)]
    line = {"color": "#9ca3af", "dash": "dot", "width": 1}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    arms = dict.fromkeys(str(row["agent"]) for row in rows)
    for position, arm in enumerate(arms):
        for success, colour, word in ((True, GOOD, "solved"), (False, BAD, "not solved")):
            own = [row for row in rows if row["agent"] == arm and bool(row["success"]) == success]
            figure.add_scatter(
                x=[row["predicted_cost"] for row in own],
                y=[row["realised_cost"] for row in own],
                name=f"{_label(arm)}, {word}",
                mode="markers",
                marker={"color": colour, "size": 8, "opacity": 0.7, "symbol": SYMBOLS[position % len(SYMBOLS)]},
                customdata=[f"{_label(str(row['split']))} {row['index']}, seed {row['seed']}" for row in own],
                hovertemplate="%{customdata}: predicted %{x:.2f}, realised %{y:.2f}",
            )
    figure.update_layout(height=460)
    figure.update_xaxes(title="predicted cost")
    figure.update_yaxes(title="realised cost")
    return figure


def _violations(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    arms = dict.fromkeys(summary.agent for summary in summarise(rows))
    kinds = violations_of(rows)
    columns = ("arm", "episodes", *(kind.replace("_", " ") for kind in kinds), "any of them", "highest force [N]")
    cells = [_violation_cells(arm, kinds, [row for row in rows if row["agent"] == arm]) for arm in arms]
    says = "Episodes, of all splits, in which it happened: hard contact with what stands still, and what else must not be."
    return _section("Violations", says, _table(columns, cells))


def _violation_cells(arm: str, kinds: list[str], rows: list[Row]) -> tuple[str, ...]:
    counts = [sum(bool(row[kind]) for row in rows) for kind in kinds]
    counts.append(sum(any(row[kind] for kind in kinds) for row in rows))
    shares = [f"{count} ({_percent(count / len(rows))})" for count in counts]
    return (arm, str(len(rows)), *shares, number(max(float(row["peak_force_n"]) for row in rows)))


def _strips(strips: list[tuple[str, str]]) -> str:
    drawn = [f'<h3>{escape(heading)}</h3><div class="pictures wide">{svg}</div>' for heading, svg in strips]
    says = "From above: the robot is blue, the load to deliver orange, the goal green; outlines are earlier states."
    return _section("Episodes", says, "".join(drawn)) if drawn else ""


def _recordings(recordings: list[tuple[str, str]]) -> str:
    links = [f'<li><a href="{escape(address)}">{escape(text)}</a></li>' for text, address in recordings]
    return _section("Recordings in 3-D", "Each opens in the browser, from disk.", f"<ul>{''.join(links)}</ul>") if links else ""


def _facts(facts: list[tuple[str, str]]) -> str:
    lines = [f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts]
    return _section("Facts", "", f'<table class="facts">{"".join(lines)}</table>') if lines else ""


def _section(heading: str, says: str, content: str) -> str:
    note = f'<p class="note">{escape(says)}</p>' if says else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{content}</section>"


def _table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plot(figure: go.Figure, name: str) -> str:
    """The figure as a <div> that expects plotly.js in the page."""
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 13, "color": "#1c2530"},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
    )
    figure.update_xaxes(automargin=True, gridcolor=FAINT, zeroline=False, fixedrange=True, title_font_size=13)
    figure.update_yaxes(automargin=True, gridcolor=FAINT, zeroline=False, fixedrange=True, title_font_size=13)
    height = f"{figure.layout.height}px"
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG, div_id=name, default_height=height))


def _arm_colours(arms: list[str]) -> list[str]:
    """A colour each, grey for oracles."""
    return [ORACLE_COLOUR if is_oracle(arm) else COLOURS[position % len(COLOURS)] for position, arm in enumerate(arms)]


def _label(text: str) -> str:
    """Text for a plot, where plotly would read markup."""
    return escape(text, quote=False)


def _tick(split: str) -> str:
    """A split's name in two short lines."""
    return _label(split).replace("shift-", "shift-<br>", 1)


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _percent(share: float | None) -> str:
    return number(None if share is None else 100 * share) + " %"
