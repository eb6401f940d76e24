"""Success by the amount of experience."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import make_dotted_trace, make_rate_trace
from experiments.report.measures.costs import compute_efficiency
from experiments.report.measures.formats import format_number
from experiments.report.measures.summary import select_first_split
from experiments.report.sections.section import RATES_NOTE, ReportSection, flatten_records


def build_efficiency_section(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> ReportSection | None:
    """Plot the rates of learners on the first split by env steps; None where nothing was learned."""
    results = select_first_split(results)
    points = compute_efficiency(results)
    split = results[0].split_label
    if not points:
        return None
    figure = go.Figure()
    families = dict.fromkeys(point.method_family for point in points)
    for family in families:
        shown = [point for point in points if point.method_family == family]
        env_steps = [point.env_steps for point in shown]
        hover_texts = [f"{point.method}: {point.safe_success}, {point.trainings} trainings" for point in shown]
        rates = [point.safe_success.value_and_interval for point in shown]
        figure.add_scatter(**make_rate_trace(env_steps, rates, family, colours[family]), customdata=hover_texts)
        figure.add_scatter(**make_dotted_trace(env_steps, [point.success.value for point in shown], colours[family]))
    figure.update_layout(height=340, showlegend=False)
    ticks = [factor * 10**power for power in range(1, 9) for factor in (1, 2, 5)]
    powers = [math.log10(point.env_steps) for point in points]
    axis_range = [min(powers) - 0.2, max(powers) + 0.2]
    tick_texts = [f"{tick:,}" for tick in ticks]
    figure.update_xaxes(title="env steps of experience", type="log", range=axis_range, tickvals=ticks, ticktext=tick_texts)
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    cells = [
        (
            point.method,
            point.method_family,
            format_number(point.env_steps),
            str(point.trainings),
            str(point.episodes),
            str(point.safe_success),
            str(point.success),
        )
        for point in points
    ]
    definitions = (
        "95 % intervals are Wilson's over layouts, wider where several trainings differ; with one training they do not cover the "
        "choice of training. A model's env steps are those that it trains on; the validation episodes that select its checkpoint "
        "are not counted."
    )
    return ReportSection(
        "efficiency",
        "Sample efficiency",
        f"Experience that each family of learners needs, on split {split}.{RATES_NOTE}",
        ("method", "family", "env steps", "trainings", "episodes", "safe success", "success"),
        cells,
        flatten_records(points),
        [figure],
        definitions,
        {family: colours[family] for family in families},
    )
