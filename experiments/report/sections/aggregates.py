"""Typical costs of episodes, and how probably the best arm's are lower."""

from collections.abc import Sequence

from experiments.report.measured import Measured, flat, percents
from experiments.report.measures import aggregates
from experiments.report.pairs import between
from experiments.report.summary import Row


def measured(rows: Sequence[Row]) -> Measured:
    """Of every arm on every split."""
    found = aggregates(rows)
    best = found[0].agent
    columns = ("split", "arm", "episodes", "trainings", "cost, IQM [m]", "shared", f"{best} is better", "verdict")
    cells = [
        (
            one.split,
            one.agent,
            str(one.episodes),
            str(one.trainings),
            between(*one.cost),
            str(one.shared),
            "–" if one.improvement is None else percents(one.improvement),
            one.verdict,
        )
        for one in found
    ]
    says = f"What a typical episode costs, and how probably an episode of {best} costs less than another arm's."
    how = (
        "IQM: mean of the middle half of the episodes' costs. Is better: probability that the best arm's cost is lower in an "
        "episode that both played, ties count half (Agarwal et al. 2021). 95 % intervals by a bootstrap over trainings and "
        "episodes; with one training they tell of the episodes alone. No difference is shown where the interval holds one "
        "half, or with fewer than six episodes; the smallest is what so many would have shown in four of five samples."
    )
    records = [{**flat(one), "verdict": one.verdict} for one in found]
    return Measured("aggregates", "Typical costs", says, [], columns, cells, records, how)
