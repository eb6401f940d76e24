"""Success by the amount of experience."""

import math
from collections.abc import Mapping, Sequence

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.costs import compute_efficiency
from experiments.report.measures.formats import format_number
from experiments.report.measures.summary import select_first_split
from experiments.report.sections.section import RATES_NOTE, Columns, ReportSection, make_rates_figure


def build_efficiency_section(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> ReportSection | None:
    """Plot the rates of learners on the first split by env steps; None without two points."""
    results = select_first_split(results)
    points = compute_efficiency(results)
    split = results[0].split_label
    if len(points) < 2:
        return None
    families = {
        family: [point for point in points if point.method_family == family]
        for family in dict.fromkeys(point.method_family for point in points)
    }
    figure = make_rates_figure(families, "env_steps", colours, "env steps of experience", f"episodes of {split} [%]")
    ticks = [factor * 10**power for power in range(1, 9) for factor in (1, 2, 5)]
    powers = [math.log10(point.env_steps) for point in points]
    axis_range = [min(powers) - 0.2, max(powers) + 0.2]
    figure.update_xaxes(type="log", range=axis_range, tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    columns: Columns = {
        "method": "method", "family": "method_family", "env steps": lambda point: format_number(point.env_steps),
        "trainings": "trainings", "episodes": "episodes", "safe success": "safe_success", "success": "success",
    }  # fmt: skip
    definitions = (
        "95 % intervals are Wilson's over layouts, wider where several trainings differ; with one training they do not cover the "
        "choice of training. The validation episodes that select a checkpoint are not counted as env steps."
    )
    caption = f"Experience that each family of learners needs, on split {split}.{RATES_NOTE}"
    legend = {family: colours[family] for family in families}
    return ReportSection("efficiency", "Sample efficiency", caption, columns, points, [figure], definitions, legend)
