"""Typical costs of episodes, and how probably the best arm's are lower."""

from collections.abc import Sequence

from experiments.report.measured import ReportSection, flatten_record, format_percent_interval
from experiments.report.measures import compute_aggregates
from experiments.report.pairs import format_interval
from experiments.report.summary import EpisodeResult


def build_typical_cost_section(results: Sequence[EpisodeResult]) -> ReportSection:
    """Of every arm on every split."""
    aggregates = compute_aggregates(results)
    best_method = aggregates[0].method
    columns = ("split", "arm", "episodes", "trainings", "cost, IQM [m]", "shared", f"{best_method} is better", "verdict")
    cells = [
        (
            aggregate.split,
            aggregate.method,
            str(aggregate.episodes),
            str(aggregate.trainings),
            format_interval(*aggregate.cost),
            str(aggregate.shared_episodes),
            "–" if aggregate.improvement_probability is None else format_percent_interval(aggregate.improvement_probability),
            aggregate.verdict,
        )
        for aggregate in aggregates
    ]
    caption = f"What a typical episode costs, and how probably an episode of {best_method} costs less than another arm's."
    definitions = (
        "IQM: mean of the middle half of the episodes' costs. Is better: probability that the best arm's cost is lower in an "
        "episode that both played, ties count half (Agarwal et al. 2021). 95 % intervals by a bootstrap over trainings and "
        "episodes; with one training they tell of the episodes alone. No difference is shown where the interval holds one "
        "half, or with fewer than six episodes; the smallest is what so many would have shown in four of five samples."
    )
    records = [{**flatten_record(aggregate), "verdict": aggregate.verdict} for aggregate in aggregates]
    return ReportSection("aggregates", "Typical costs", caption, [], columns, cells, records, definitions)
