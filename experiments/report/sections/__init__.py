"""Sections of the report, in their order."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import assign_colours
from experiments.report.measures.summary import select_benchmark_results, select_full_data_results
from experiments.report.sections import costs, distribution_shift, plans
from experiments.report.sections import results as result_sections
from experiments.report.sections.open_loop import render_open_loop_section
from experiments.report.sections.regret import build_regret_section
from experiments.report.sections.section import render_report_section
from experiments.report.sections.violations import render_violations_section


def render_sections(results: Sequence[EpisodeResult], errors: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Render all sections that the results have numbers for.

    Args:
        results: with their training distances.
        errors: open-loop errors of models, by horizon.
        command: that makes the page.
    """
    if not results:
        return []
    benchmark = select_benchmark_results(results)
    full_data = select_full_data_results(benchmark)
    colours = assign_colours(results, dict.fromkeys(error["model"] for error in errors))
    measures = (
        build_regret_section(benchmark),
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
        render_open_loop_section(errors, results[0].scene, command, colours),
        render_report_section(plans.build_plan_costs_section(benchmark), command),
        render_violations_section(results, command),
    ]
    return [section for section in sections if section]
