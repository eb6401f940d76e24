"""One file per measure that the report shows; this one says which there are, in their order."""

from collections.abc import Sequence

from experiments.report.measured import render_report_section
from experiments.report.sections import (
    aggregates,
    distance,
    efficiency,
    exploitation,
    foreseen,
    ledger,
    profiles,
    regret,
    variations,
)
from experiments.report.summary import EpisodeResult, select_full_data_results


def render_sections(results: Sequence[EpisodeResult], command: str) -> list[str]:
    """The page's sections, of what the rows tell."""
    if not results:
        return []
    full_data_results = select_full_data_results(results)
    report_sections = (
        regret.build_regret_section(results),
        exploitation.build_exploitation_section(results),
        distance.build_layout_distance_section(full_data_results),
        variations.build_physics_section(full_data_results),
        ledger.build_compute_costs_section(results),
        efficiency.build_efficiency_section(results),
        foreseen.build_predicted_violations_section(results),
        profiles.build_cost_profile_section(full_data_results),
        aggregates.build_typical_cost_section(full_data_results),
    )
    return [render_report_section(section, command) for section in report_sections if section is not None]
