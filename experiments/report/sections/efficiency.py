"""Success by the amount of experience."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.costs import compute_efficiency
from experiments.report.measured import RATES_NOTE, ReportSection, flatten_records
from experiments.report.plots import get_method_colours, make_dotted_trace, make_rate_trace
from experiments.report.summary import EpisodeResult, format_number, summarise


def build_efficiency_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    split = summarise(results)[0].split
    points = compute_efficiency(results, split)
    if not points:
        return None
    figure, families = go.Figure(), list(dict.fromkeys(point.method_family for point in points))
    for name, colour in zip(families, get_method_colours(families), strict=True):
        family_points = [point for point in points if point.method_family == name]
        env_steps = [point.env_steps for point in family_points]
        hover_texts = [f"{point.method}: {point.safe_success}, {point.trainings} trainings" for point in family_points]
        safe_success_rates = [(point.safe_success.value, *point.safe_success.interval) for point in family_points]
        figure.add_scatter(**make_rate_trace(env_steps, safe_success_rates, name, colour), customdata=hover_texts)
        figure.add_scatter(**make_dotted_trace(env_steps, [point.success.value for point in family_points], colour))
    figure.update_layout(height=340, showlegend=False)
    ticks = [factor * 10**power for power in range(1, 9) for factor in (1, 2, 5)]
    low, high = (math.log10(select_end([point.env_steps for point in points])) for select_end in (min, max))
    figure.update_xaxes(title="env steps of experience", type="log", range=[low - 0.2, high + 0.2])
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks], tickangle=0)
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    columns = ("arm", "kind", "env steps", "trainings", "episodes", "without violation", "success")
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
    caption = f"How much experience each kind of learner needs, on split {split}."
    definitions = (
        "95 % intervals are Wilson's over spaces, wider where several trainings differ; with one they do not tell what another "
        "training would have given. A model's env steps are those that it trains on; the held-out episodes that choose among its "
        "checkpoints come on top."
    )
    return ReportSection(
        "efficiency",
        "Sample efficiency",
        caption + RATES_NOTE,
        [figure],
        columns,
        cells,
        flatten_records(points),
        definitions,
        families,
    )
