"""The report: one self-contained HTML page that opens from disk without a network."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import FONT_FAMILY, assign_colours
from experiments.report.measures.comparison import build_answers, format_headline
from experiments.report.sections import render_sections
from experiments.report.sections.elements import render_section
from experiments.report.sections.open_loop import render_open_loop_section
from experiments.report.terms import link_terms, render_definitions
from sim.utils.files import write_text

PAGE_TEMPLATE = """<!doctype html>
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

PAGE_CSS = """
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
td:first-child { min-width: 130px; max-width: 300px; white-space: normal; overflow-wrap: break-word; }
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
.term { color: inherit; text-decoration: underline dotted #9ca3af; text-underline-offset: 3px; }
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
  td:first-child { min-width: 96px; max-width: 140px; padding-right: 8px; }
  .compared td:first-child { min-width: 58px; }
  .compared td:nth-child(2), .compared td:nth-child(5), .compared td:nth-child(7) { min-width: 100px; }
  .facts td:first-child { width: 38%; }
  .answers { grid-template-columns: 1fr; gap: 2px; }
  .answers dd { margin-bottom: 8px; }
  .episodes { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
}
""".replace("FONT", FONT_FAMILY)


def write_report(
    path: Path,
    title: str,
    results: Sequence[EpisodeResult],
    open_loop_errors: Sequence[Mapping[str, Any]],
    episode_figures: Sequence[tuple[str, str]],
    recordings: Sequence[tuple[str, str]],
    facts: Sequence[tuple[str, str]],
    command: str,
    notes: Sequence[str] = (),
    failures_html: str = "",
    colour_key: str = "",
) -> None:
    """Write the page. Parts without content are left out; every text is escaped.

    Args:
        results: with their training distances.
        open_loop_errors: of models, by horizon.
        episode_figures: (heading, inline SVG).
        recordings: (text, relative address).
        facts: (name, value).
        command: that makes the page.
        notes: what a reader must know beside the results.
        failures_html: the section of the worst episodes.
        colour_key: of the episode figures.
    """
    sections = [
        _render_heading(title, command, format_headline(results), build_answers(results)),
        *(f'<p class="notice">{escape(note)}</p>' for note in notes),
        *render_sections(results, open_loop_errors, command),
        failures_html,
        _render_episode_figures(episode_figures, colour_key),
        _render_recording_links(recordings),
        _render_facts(facts),
    ]
    _write_page(path, title, sections)


def write_open_loop_page(path: Path, open_loop_errors: Sequence[Mapping[str, Any]], scene: str, command: str) -> None:
    """Write a page with the open-loop errors by horizon alone."""
    colours = assign_colours([], dict.fromkeys(error["model"] for error in open_loop_errors))
    _write_page(path, "Open-loop error", [render_open_loop_section(open_loop_errors, scene, command, colours)])


def _write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    body, terms = link_terms("\n".join(section for section in sections if section))
    if terms:
        body += "\n" + render_section("Terms", "", render_definitions(terms))
    write_text(path, PAGE_TEMPLATE.format(title=escape(title), style=PAGE_CSS, plotly=get_plotlyjs(), body=body))


def _render_heading(title: str, command: str, headline: str, answers: Sequence[tuple[str, str]]) -> str:
    command_html = f'<p class="note">Made with <code class="command">{escape(command)}</code></p>'
    items = "".join(f"<dt>{escape(question)}</dt><dd>{escape(answer)}</dd>" for question, answer in answers)
    answers_html = f'<dl class="answers">{items}</dl>' if items else ""
    return f'<h1>{escape(title)}</h1>{command_html}<p class="headline">{escape(headline)}</p>{answers_html}'


def _render_episode_figures(episode_figures: Sequence[tuple[str, str]], colour_key: str) -> str:
    figures = [f'<h3>{escape(heading)}</h3><div class="pictures wide">{svg}</div>' for heading, svg in episode_figures]
    return render_section("Episodes", f"From above. {colour_key}", "".join(figures)) if figures else ""


def _render_recording_links(recordings: Sequence[tuple[str, str]]) -> str:
    links = "".join(f'<li><a href="{escape(address)}">{escape(text)}</a></li>' for text, address in recordings)
    return render_section("Recordings in 3-D", "Each opens in the browser, from disk.", f"<ul>{links}</ul>") if links else ""


def _render_facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts)
    return render_section("Facts", "", f'<table class="facts">{rows}</table>') if rows else ""
