"""The report's measures as sections of its page: a plot each, what it shows in a line, and its numbers one click away."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np
import plotly.graph_objects as go

from experiments.report import measures as m
from experiments.report.html import SYMBOLS, _arm_colours, _label, _legend, _plot, _section, _table
from experiments.report.spaces import DESCRIPTOR_SAYS
from experiments.report.summary import Rate, Row, is_oracle, number, summarise
from experiments.statistics import performance_profile
from sim.variation import Variation

BINS, LEAST = 5, 5  # of a rate's plot; episodes in one
PART_COLOURS = {m.MODEL: "#dc2626", m.SEARCH: "#d97706", m.BOTH: "#be5a3c", m.REST: "#9ca3af"}
RATES_SAY = " Solid: solved without violation, with 95 % intervals; dotted: solved."


@dataclass(frozen=True)
class Measured:
    """One measure, ready to be shown."""

    name: str  # of its figure and its file
    heading: str
    says: str  # what the plot shows, in a line
    plots: Sequence[go.Figure]
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    records: Sequence[Mapping[str, Any]]  # the numbers, for a file
    how: str = ""  # definitions
    arms: Sequence[str] = ()  # of a legend


def sections(rows: Sequence[Row], distances: Mapping[str, float], command: str) -> list[str]:
    """The page's sections, of what the rows tell; `distances` of layouts from the training set by their ids."""
    if not rows:
        return []
    shown = (
        _regret(rows),
        _exploitation(rows),
        _distance(rows, distances),
        _variations(rows),
        _ledger(rows),
        _efficiency(rows),
        _touching(rows),
        _aggregates(rows),
    )
    return [html_of(measured, command) for measured in shown if measured is not None]


def html_of(measured: Measured, command: str) -> str:
    """A section whose numbers open below its plot, and can be kept as a file."""
    plots = "".join(_plot(figure, f"plot-{measured.name}-{i}") for i, figure in enumerate(measured.plots))
    legend = _legend(list(measured.arms)) if measured.arms else ""
    how = f'<p class="note">{escape(measured.how)}</p>' if measured.how else ""
    return _section(measured.heading, measured.says, legend + plots + _numbers(measured, how, command))


def _numbers(measured: Measured, how: str, command: str) -> str:
    link = f'<a download="{measured.name}.csv" href="data:text/csv;charset=utf-8,{quote(csv_of(measured.records))}">CSV</a>'
    made = f'<p class="note">As a file: {link}. Made with <code class="command">{escape(command)}</code></p>'
    table = _table(measured.columns, measured.cells)
    return f"<details><summary>Numbers, and how they are defined</summary>{how}{table}{made}</details>"


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as comma-separated values; unknown ones are empty."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: None if value != value else value for name, value in record.items()} for record in records])
    return text.getvalue()


def flat(thing: Any) -> dict[str, Any]:
    """A dataclass of numbers as one level of names: intervals and rates as name, name_low and name_high."""
    record: dict[str, Any] = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, Rate):
            record |= _ends(field.name, (value.value, *value.interval))
        elif isinstance(value, tuple):
            record |= _ends(field.name, value)
        elif isinstance(value, dict):
            parts = ((f"{key} {name}", number) for key, part in value.items() for name, number in asdict(part).items())
            record |= {name.replace(" ", "_"): number for name, number in parts}
        elif is_dataclass(value):
            record |= {f"{field.name}_{name}": number for name, number in flat(value).items()}
        else:
            record[field.name] = value
    return record


def _ends(name: str, interval: Sequence[float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def _regret(rows: Sequence[Row]) -> Measured | None:
    regrets = m.regrets(rows)
    if not regrets:
        return None
    figure, arms = go.Figure(), [_label(f"{regret.agent} ({regret.episodes})") for regret in regrets]
    names = [name for name in PART_COLOURS if any(name in regret.parts for regret in regrets)]
    for name in names:
        own = [regret.parts.get(name) for regret in regrets]
        figure.add_bar(
            x=[part.value if part else None for part in own],
            y=arms,
            orientation="h",
            name=name,
            marker_color=PART_COLOURS[name],
            hovertemplate=f"{name}: %{{x:.2f}} m",
        )
    figure.add_scatter(**_dots([regret.total for regret in regrets], arms, "sum", "#1c2530"))
    figure.update_layout(barmode="relative", height=110 + 46 * len(arms), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="above the best known way [m]")
    columns = ("arm", "episodes", "trainings", "regret [m]", *(f"{name} [m]" for name in names), "same budget", "largest search")
    cells = [
        (
            regret.agent,
            str(regret.episodes),
            str(regret.trainings),
            m.between(*regret.total),
            *(_part(regret.parts.get(name), name) for name in names),
            regret.twin or "none",
            regret.reference,
        )
        for regret in regrets
    ]
    says = (
        "What each planner's episodes cost more than the best known way, and how much of that its model and its search explain."
    )
    how = (
        "An episode costs the metres to go, mean over all the steps that it may have; nothing from its success on. The best "
        "known way is the cheapest of all arms in that episode. Model error: the arm against the true dynamics with the same "
        "search and budget; search error: that against the largest search on the true dynamics; the rest: that against the "
        "best known way. The parts add up. Without an oracle of the same budget, model and search cannot be told apart; "
        "without one of a larger budget the search error is in the rest. Episodes that all of them played; 95 % intervals from"
        " a paired bootstrap over trainings and episodes; no difference shown where the signed-rank test leaves more than 5 % "
        "to chance or the interval holds zero, with the smallest mean difference that so many episodes would have shown in "
        "four of five samples."
    )
    return Measured("regret", "Regret, and where it comes from", says, [figure], columns, cells, _flat(regrets), how)


def _part(part: m.Difference | None, name: str) -> str:
    return "–" if part is None else f"{part}" if name == m.REST else f"{part}, {part.verdict()}"


def _exploitation(rows: Sequence[Row]) -> Measured | None:
    found = m.exploitation(rows)
    if not found:
        return None
    figure, arms = go.Figure(), [_label(f"{one.agent} ({one.episodes})") for one in found]
    for name, colour, symbol in (("chosen", "#dc2626", "diamond"), ("random", "#6b7280", "circle")):
        intervals = [_interval(getattr(one, name)) for one in found]
        figure.add_scatter(**_dots(intervals, arms, f"{name} plans", colour, symbol), offsetgroup=name)
    figure.add_vline(x=0, line_color="#9ca3af", line_dash="dot")
    figure.update_layout(scattermode="group", height=130 + 50 * len(arms), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="cost that came − foreseen [m]")
    columns = (
        "arm",
        "episodes",
        "chosen [m]",
        "random [m]",
        "chosen − random [m]",
        "verdict",
        "apart [mm]",
        "random, apart [mm]",
    )
    cells = [
        (
            one.agent,
            str(one.episodes),
            str(one.chosen),
            str(one.random),
            str(one.excess),
            one.excess.verdict(),
            number(one.disagreement_mm, 1),
            number(one.random_disagreement_mm, 1),
        )
        for one in found
    ]
    says = "Right of zero plans cost more than foreseen. Where chosen ones do and random ones do not, the model is exploited."
    how = (
        "Every tenth decision the chosen plan and two random smooth plans from the same state are carried out to their ends in"
        " the true simulator, beside the episode. Apart: how far a model's particles see the first load apart, mean over a "
        "plan; a single model has none. Along recorded data the table of fidelity tells it. Intervals and verdicts as for the "
        "regret."
    )
    return Measured("exploitation", "Is the model exploited?", says, [figure], columns, cells, _flat(found), how)


def _distance(rows: Sequence[Row], distances: Mapping[str, float]) -> Measured | None:
    near = [row for row in rows if row["layout_id"] in distances]
    if not near:
        return None

    def of(row: Row) -> float:
        return distances[row["layout_id"]]

    binned = _binned(near, of, "distance")
    figure = _rates_figure(binned, _colours(rows), "distance to the nearest training space")
    figure.update_xaxes(type="log", dtick=1)
    tiers = []
    for split in dict.fromkeys(summary.split for summary in summarise(rows)):
        values = {row["layout_id"]: of(row) for row in near if row["split"] == split}.values()
        if values:
            tiers.append(f"{split} {np.median(list(values)):.1f}")
    says = "Whether arms still succeed in spaces unlike those trained in: 1 is as far as training spaces are from each other."
    how = f"{DESCRIPTOR_SAYS} Medians: {', '.join(tiers)}. Bins hold equally many spaces."
    columns, cells = _rate_cells(binned, "distance")
    records = [_flat_bin(one) for one in binned]
    return Measured("distance", "New spaces", says + RATES_SAY, [figure], columns, cells, records, how, list(_colours(rows)))


@dataclass(frozen=True)
class _Bin:
    """An arm's rates in some range of a quantity."""

    what: str
    agent: str
    low: float
    high: float
    middle: float
    clean: Rate
    success: Rate


def _binned(rows: Sequence[Row], value: Any, what: str) -> list[_Bin]:
    """Every arm but oracles, in ranges that hold equally many episodes; those with fewer than LEAST are left out."""
    values = np.array([value(row) for row in rows])
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    number_of = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for agent in (agent for agent in m.ranked(rows) if not is_oracle(agent)):
        for i in range(max(1, len(edges) - 1)):
            own = [row for row, n in zip(rows, number_of, strict=True) if n == i and row["agent"] == agent]
            if len(own) >= LEAST:
                inside = [value(row) for row in own]
                rates = (Rate(sum(bool(row[outcome]) for row in own), len(own)) for outcome in ("clean", "success"))
                found.append(_Bin(what, agent, min(inside), max(inside), float(np.median(inside)), *rates))
    return found


def _rates_figure(bins: Sequence[_Bin], colours: Mapping[str, str], title: str) -> go.Figure:
    figure = go.Figure()
    for agent in dict.fromkeys(one.agent for one in bins):
        own = [one for one in bins if one.agent == agent]
        x = [one.middle for one in own]
        clean = [(one.clean.value, *one.clean.interval) for one in own]
        figure.add_scatter(**_line(x, clean, agent, colours[agent]), customdata=[f"{one.clean} of {one.clean.of}" for one in own])
        figure.add_scatter(**_dotted(x, [one.success.value for one in own], colours[agent]))
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="episodes [%]", range=[-3, 103])
    return figure


def _rate_cells(bins: Sequence[_Bin], what: str) -> tuple[Sequence[str], list[Sequence[str]]]:
    cells: list[Sequence[str]] = []
    for one in bins:
        cells.append((one.agent, f"{one.low:.3g} to {one.high:.3g}", str(one.clean.of), str(one.clean), str(one.success)))
    return ("arm", what, "episodes", "without violation", "success"), cells


def _flat_bin(one: _Bin) -> dict[str, Any]:
    return {**flat(one), "episodes": one.clean.of}


def _variations(rows: Sequence[Row]) -> Measured | None:
    """Each varied quantity, in each split that varies it."""
    plots, cells, records = [], [], []
    for split in dict.fromkeys(summary.split for summary in summarise(rows)):
        own = [row for row in rows if row["split"] == split]
        varied = [field.name for field in fields(Variation) if len({row.get(field.name) for row in own}) > 1]
        for name in varied:
            others = [_plain(other) for other in varied if other != name]
            alone = f"with {', '.join(others)}" if others else "alone"
            bins = _binned(own, lambda row, name=name: float(row[name]), f"{split}: {_plain(name)}, {alone}")
            plots.append(_rates_figure(bins, _colours(rows), f"{_plain(name)}<br>{_label(split)}, {alone}"))
            cells += [(*line[:1], f"{_plain(name)} {line[1]}", split, *line[2:]) for line in _rate_cells(bins, "range")[1]]
            records += [_flat_bin(one) for one in bins]
    if not plots:
        return None
    says = "Whether arms still succeed where the physics is not what it was."
    how = (
        "Values that episodes drew, in ranges that hold equally many. Where a split varies several, each plot is over the others."
    )
    columns = ("arm", "range", "split", "episodes", "without violation", "success")
    return Measured("variations", "Other physics", says + RATES_SAY, plots, columns, cells, records, how, list(_colours(rows)))


def _ledger(rows: Sequence[Row]) -> Measured:
    spent, colours = m.spendings(rows), _colours(rows)
    plots = [
        _pareto_figure(spent, colours, "decision_ms", "ms per decision"),
        _pareto_figure(spent, colours, "env_steps", "env steps of experience"),
    ]
    columns = (
        "arm", "episodes", "without violation", "success", "env steps", "data [MB]", "CPU-s collecting", "CPU-s training",
        "ms per decision", "s deciding, an episode", "CPU-s a success, deciding", "CPU-s a success, all",
    )  # fmt: skip
    cells = [
        (
            one.agent,
            str(one.episodes),
            str(one.clean),
            str(one.success),
            number(one.env_steps),
            number(one.data_bytes / 1e6, 1),
            number(one.collect_cpu_s),
            number(one.train_cpu_s),
            number(one.decision_ms, 2),
            number(one.decide_s, 2),
            *(number(value, 2) if math.isfinite(value) else "–" for value in (one.decide_s_per_success, one.cpu_s_per_success)),
        )
        for one in spent
    ]
    says = "What success costs: up is better, left is cheaper; no arm is surely as good and cheaper than those on the line."
    how = (
        "All splits together, so arms that played fewer or easier episodes are not on a par: see the numbers of episodes. The "
        "line is the Pareto front of success without violation, oracles left out. The last column spreads collecting and "
        "training over the successes here: it falls with every further episode. Where rows do not tell collecting apart, "
        "training holds it."
    )
    return Measured("ledger", "What it costs", says, plots, columns, cells, _flat(spent), how, list(colours))


def _pareto_figure(spent: Sequence[m.Spent], colours: Mapping[str, str], name: str, title: str) -> go.Figure:
    """Success without violation against a cost on a logarithmic axis; what is free stands at its left end."""
    positive = [getattr(one, name) for one in spent if getattr(one, name) > 0]
    free = min(positive, default=1.0) / 10
    at = {one.agent: max(getattr(one, name), free) for one in spent}
    figure = go.Figure()
    rivals = [one for one in spent if not is_oracle(one.agent)]
    front = [rivals[i] for i in m.pareto([(at[one.agent], one.clean.interval[0]) for one in rivals])]
    steps = [(at[one.agent], 100 * one.clean.value) for one in front]
    figure.add_scatter(
        x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line={"color": "#1c2530", "width": 1},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for position, one in enumerate(spent):
        rate = (one.clean.value, *one.clean.interval)
        dots = _line([at[one.agent]], [rate], one.agent, colours[one.agent])
        symbol = SYMBOLS[position % len(SYMBOLS)]
        dots |= {"mode": "markers", "marker": {"size": 10, "symbol": symbol, "color": colours[one.agent]}}
        told = f"{one.clean} of {one.episodes}, {number(getattr(one, name), 2)}"
        figure.add_scatter(**dots, customdata=[told])
    figure.update_layout(height=320, showlegend=False)
    figure.update_xaxes(title=title, type="log", tickangle=0, dtick=1)
    if any(getattr(one, name) <= 0 for one in spent):
        ends = [10.0**power for power in range(math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive))) + 1)]
        figure.update_xaxes(tickvals=[free, *ends], ticktext=["none", *(f"{end:,.0f}" for end in ends)])
    figure.update_yaxes(title="without violation [%]", range=[-3, 103])
    return figure


def _efficiency(rows: Sequence[Row]) -> Measured | None:
    split = summarise(rows)[0].split
    found = m.efficiency(rows, split)
    if not found:
        return None
    figure, families = go.Figure(), list(dict.fromkeys(one.family for one in found))
    for name, colour in zip(families, _arm_colours(families), strict=True):
        own = [one for one in found if one.family == name]
        x = [one.env_steps for one in own]
        told = [f"{one.agent}: {_percents(one.clean)}, {one.trainings} trainings" for one in own]
        figure.add_scatter(**_line(x, [one.clean for one in own], name, colour), customdata=told)
        figure.add_scatter(**_dotted(x, [one.success[0] for one in own], colour))
    figure.update_layout(height=340, showlegend=False)
    ticks = [factor * 10**power for power in range(1, 9) for factor in (1, 2, 5)]
    low, high = (math.log10(end([one.env_steps for one in found])) for end in (min, max))
    figure.update_xaxes(title="env steps of experience", type="log", range=[low - 0.2, high + 0.2])
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks], tickangle=0)
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    columns = ("arm", "kind", "env steps", "trainings", "episodes", "without violation", "success")
    cells = [
        (
            one.agent,
            one.family,
            number(one.env_steps),
            str(one.trainings),
            str(one.episodes),
            _percents(one.clean),
            _percents(one.success),
        )
        for one in found
    ]
    says = f"How much experience each kind of learner needs, on split {split}."
    how = (
        "With several trainings the 95 % interval is a bootstrap over trainings and episodes. With one it is Wilson's, over "
        "episodes alone: it does not tell what another training would have given."
    )
    return Measured("efficiency", "Sample efficiency", says + RATES_SAY, [figure], columns, cells, _flat(found), how, families)


def _touching(rows: Sequence[Row]) -> Measured | None:
    found = m.touching(rows)
    if not found:
        return None
    figure, arms = go.Figure(), [_label(f"{one.agent} ({one.plans})") for one in found]
    for name, colour, symbol in (("predicted", "#2563eb", "circle"), ("realised", "#dc2626", "diamond")):
        word = {"predicted": "foreseen", "realised": "happened"}[name]
        intervals = [tuple(100 * end for end in getattr(one, name)) for one in found]
        figure.add_scatter(**_dots(intervals, arms, word, colour, symbol), offsetgroup=name)
    figure.update_layout(scattermode="group", height=130 + 50 * len(arms), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="plans that touch racks or walls [%]", rangemode="tozero")
    columns = ("arm", "plans", "foreseen", "happened", "of these not foreseen", "foreseen in vain")
    cells = [
        (one.agent, str(one.plans), *map(_percents, (one.predicted, one.realised, one.missed, one.needless))) for one in found
    ]
    says = "Whether planners know when their plans touch racks or walls: foreseen beside what happened to the same plans."
    how = (
        "Of every tenth chosen plan: whether, before it reaches the goal, the outline of robot or load comes within 5 mm of "
        "what stands still: in the model's imagination, and in the true simulator that carries the plan out. Of states with "
        "hard contact 97 % lie within that distance, of those without contact 0.6 %. Forces are not imagined, so whether a "
        "touch would be a violation cannot be foreseen: those are counted as they happened, below. Intervals: bootstrap over "
        "trainings and episodes."
    )
    return Measured("touching", "Are collisions foreseen?", says, [figure], columns, cells, _flat(found), how)


def _aggregates(rows: Sequence[Row]) -> Measured:
    found, colours = m.aggregates(rows), _colours(rows)
    split = found[0].split
    here = [row for row in rows if row["split"] == split]
    figure = go.Figure()
    costs = {agent: np.array([m.episode_cost(row) for row in here if row["agent"] == agent]) for agent in m.ranked(here)}
    ends = np.concatenate(list(costs.values()))
    thresholds = np.linspace(0, float(ends.max()), 120)
    for agent, values in costs.items():
        share = performance_profile(-values, -thresholds - 1e-12)
        figure.add_scatter(
            x=thresholds, y=100 * share, mode="lines", name=_label(agent), line={"color": colours[agent], "width": 2},
            hovertemplate=f"{_label(agent)}: %{{y:.0f}} % cost at most %{{x:.2f}} m<extra></extra>",
        )  # fmt: skip
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title="cost of an episode [m]")
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    best = found[0].agent
    columns = ("split", "arm", "episodes", "trainings", "cost, IQM [m]", "shared", f"{best} is better", "verdict")
    cells = [
        (
            one.split,
            one.agent,
            str(one.episodes),
            str(one.trainings),
            m.between(*one.cost),
            str(one.shared),
            "–" if one.improvement is None else _percents(one.improvement),
            one.verdict,
        )
        for one in found
    ]
    says = "Performance profiles: the share of episodes that cost at most so much. The higher line is the better arm."
    how = (
        "IQM: mean of the middle half of the episodes' costs. Is better: probability that the best arm's cost is lower in an "
        "episode that both played, ties count half (Agarwal et al. 2021). 95 % intervals by a bootstrap over trainings and "
        "episodes; with one training they tell of the episodes alone. No difference is shown where the interval holds one "
        "half, or with fewer than six episodes; the smallest is what so many would have shown in four of five samples."
    )
    records = [{**flat(one), "verdict": one.verdict} for one in found]
    return Measured("profiles", "Costs of episodes", says, [figure], columns, cells, records, how, list(costs))


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    arms = m.ranked(rows)
    return dict(zip(arms, _arm_colours(arms), strict=True))


def _flat(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [flat(one) for one in found]


def _interval(difference: m.Difference) -> m.Interval:
    return difference.value, difference.low, difference.high


def _percents(interval: Sequence[float]) -> str:
    value, low, high = (100 * end for end in interval)
    return "–" if math.isnan(value) else f"{value:.0f} % [{low:.0f}–{high:.0f}]"


def _plain(name: str) -> str:
    """A variation's name as words."""
    for unit, short in (("_kg", " [kg]"), ("_m_s", " [m/s]"), ("_steps", " [steps]")):
        name = name.replace(unit, short)
    return name.replace("_", " ")


def _dots(
    intervals: Sequence[Sequence[float]], y: Sequence[str], name: str, colour: str, symbol: str = "circle"
) -> dict[str, Any]:
    """Values with intervals along x."""
    value, low, high = (list(ends) for ends in zip(*intervals, strict=True))
    return {
        "x": value, "y": list(y), "name": name, "mode": "markers", "orientation": "h",
        "marker": {"color": colour, "size": 9, "symbol": symbol},
        "error_x": _errors(value, low, high),
        "hovertemplate": f"{name}: %{{x:.2f}}<extra></extra>",
    }  # fmt: skip


def _line(x: Sequence[float], rates: Sequence[Sequence[float]], name: str, colour: str) -> dict[str, Any]:
    """Rates with intervals along y, in percent."""
    value, low, high = ([100 * end for end in ends] for ends in zip(*rates, strict=True))
    return {
        "x": list(x), "y": value, "name": _label(name), "mode": "lines+markers", "line": {"color": colour, "width": 2},
        "marker": {"size": 8}, "error_y": _errors(value, low, high),
        "hovertemplate": f"{_label(name)}: %{{customdata}}<extra></extra>",
    }  # fmt: skip


def _dotted(x: Sequence[float], shares: Sequence[float], colour: str) -> dict[str, Any]:
    return {
        "x": list(x), "y": [100 * share for share in shares], "mode": "lines", "hoverinfo": "skip",
        "line": {"color": colour, "width": 1.5, "dash": "dot"}, "showlegend": False,
    }  # fmt: skip


def _errors(value: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3,
        "array": [max(0.0, b - v) for v, b in zip(value, high, strict=True)],
        "arrayminus": [max(0.0, v - a) for v, a in zip(value, low, strict=True)],
    }  # fmt: skip
