"""The report: one self-contained HTML page that opens from disk without a network."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from experiments.report.figures.plots import assign_colours
from experiments.report.measures.comparison import build_answers, format_headline
from experiments.report.measures.summary import Results, select_benchmark_results, select_full_data_results
from experiments.report.sections import costs, distribution_shift, plans
from experiments.report.sections import results as result_sections
from experiments.report.sections.section import render_report_section, render_section
from experiments.report.sections.violations import render_violations_section
from experiments.report.terms import link_terms, render_definitions
from sim.utils.files import write_text

PAGE_TEMPLATE, PAGE_CSS = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".html", ".css"))


def write_report(
    path: Path,
    title: str,
    results: Results,
    open_loop_errors: Sequence[Mapping[str, Any]],
    command: str,
    notes: Sequence[str] = (),
    more_sections: Sequence[str] = (),
) -> None:
    """Write the page; every text is escaped.

    Args:
        results: with their training distances.
        open_loop_errors: of models, by horizon.
        command: the command that writes the page; the page shows it.
        notes: notices about the results, shown above them.
        more_sections: HTML after the sections of numbers; empty sections are left out.
    """
    notices = (f'<p class="notice">{escape(note)}</p>' for note in notes)
    sections = [_render_heading(title, command, results), *notices, *render_sections(results, open_loop_errors, command)]
    _write_page(path, title, [*sections, *more_sections])


def render_sections(results: Results, errors: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Render all sections that the results have numbers for.

    Args:
        results: with their training distances.
        errors: open-loop errors of models, by horizon.
        command: the command that writes the page; the page shows it.
    """
    if not results:
        return []
    benchmark = select_benchmark_results(results)
    full_data = select_full_data_results(benchmark)
    colours = assign_colours(results, dict.fromkeys(error["model"] for error in errors))
    measures = (
        plans.build_regret_section(benchmark),
        plans.build_exploitation_section(benchmark),
        distribution_shift.build_training_distance_section(full_data, colours),
        distribution_shift.build_physics_section(full_data, colours),
        costs.build_compute_costs_section(benchmark, colours),
        costs.build_efficiency_section(benchmark, colours),
        plans.build_predicted_violations_section(benchmark),
        costs.build_cost_profile_section(full_data, colours),
        costs.build_typical_cost_section(full_data),
    )
    sections = [
        result_sections.render_results_section(results, command),
        render_report_section(result_sections.build_success_section(full_data, colours), command),
        result_sections.render_indicators_section(benchmark, command),
        result_sections.render_differences_section(benchmark, command),
        *(render_report_section(section, command) for section in measures),
        result_sections.render_open_loop_section(errors, results[0].scene, command, colours),
        render_report_section(plans.build_plan_costs_section(benchmark), command),
        render_violations_section(results, command),
    ]
    return [section for section in sections if section]


def write_open_loop_page(path: Path, open_loop_errors: Sequence[Mapping[str, Any]], scene: str, command: str) -> None:
    """Write a page with the open-loop errors by horizon alone."""
    colours = assign_colours([], dict.fromkeys(error["model"] for error in open_loop_errors))
    _write_page(path, "Open-loop error", [result_sections.render_open_loop_section(open_loop_errors, scene, command, colours)])


def _write_page(path: Path, title: str, sections: Sequence[str]) -> None:
    body, terms = link_terms("\n".join(section for section in sections if section))
    if terms:
        body += "\n" + render_section("terms", render_definitions(terms))
    write_text(path, PAGE_TEMPLATE.format(title=escape(title), style=PAGE_CSS, plotly=get_plotlyjs(), body=body))


def _render_heading(title: str, command: str, results: Results) -> str:
    command_html = f'<p class="note">Made with <code class="command">{escape(command)}</code></p>'
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(answer)}</dd>" for name, answer in build_answers(results))
    answers_html = f'<dl class="answers">{items}</dl>' if items else ""
    return f'<h1>{escape(title)}</h1>{command_html}<p class="headline">{escape(format_headline(results))}</p>{answers_html}'


def render_panels_section(heading: str, panels_svg: str, colour_key: str) -> str:
    """Render episodes from above."""
    content = f'<h3>{escape(heading)}</h3><div class="images wide">{panels_svg}</div>'
    return render_section("episodes", content, colours=colour_key)


def render_recordings_section(recordings: Sequence[tuple[str, str]]) -> str:
    """Render links to recordings, given as (text, relative address)."""
    links = "".join(f'<li><a href="{escape(address)}">{escape(text)}</a></li>' for text, address in recordings)
    return render_section("recordings", f"<ul>{links}</ul>") if links else ""


def render_facts_section(facts: Sequence[tuple[str, str]]) -> str:
    """Render facts, given as (name, value)."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts)
    return render_section("facts", f'<table class="facts">{rows}</table>') if rows else ""
