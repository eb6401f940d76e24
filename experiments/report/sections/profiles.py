"""Performance profiles of costs, and how probably the best arm's are lower."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import Measured, colours_of, flat, percents
from experiments.report.measures import aggregates
from experiments.report.pairs import between, episode_cost, ranked
from experiments.report.plots import label
from experiments.report.summary import Row
from experiments.statistics import performance_profile


def measured(rows: Sequence[Row]) -> Measured:
    found, colours = aggregates(rows), colours_of(rows)
    split = found[0].split
    here = [row for row in rows if row["split"] == split]
    figure = go.Figure()
    costs = {agent: np.array([episode_cost(row) for row in here if row["agent"] == agent]) for agent in ranked(here)}
    ends = np.concatenate(list(costs.values()))
    thresholds = np.linspace(0, float(ends.max()), 120)
    for agent, values in costs.items():
        share = performance_profile(-values, -thresholds - 1e-12)
        figure.add_scatter(
            x=thresholds, y=100 * share, mode="lines", name=label(agent), line={"color": colours[agent], "width": 2},
            hovertemplate=f"{label(agent)}: %{{y:.0f}} % cost at most %{{x:.2f}} m<extra></extra>",
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
            between(*one.cost),
            str(one.shared),
            "–" if one.improvement is None else percents(one.improvement),
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
