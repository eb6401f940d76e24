"""Rates of arms over a quantity that episodes differ in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import flatten_record
from experiments.report.pairs import rank_methods
from experiments.report.plots import make_dotted_trace, make_rate_trace
from experiments.report.summary import OUTCOMES, EpisodeResult, Rate, is_oracle

MAX_BINS, MIN_BIN_EPISODES = 5, 5  # at most, in a rate's plot; episodes in one


@dataclass(frozen=True)
class RateBin:
    """An arm's rates in some range of a quantity."""

    quantity: str
    method: str
    low: float
    high: float
    median: float
    safe_success: Rate
    success: Rate


def bin_results(results: Sequence[EpisodeResult], get_value: Callable[[EpisodeResult], float], quantity: str) -> list[RateBin]:
    """Every arm but oracles, in ranges that hold equally many episodes, or of each value where there are few; those with fewer
    episodes than LEAST are left out."""
    methods = [method for method in rank_methods(results) if not is_oracle(method)]
    values = np.array([get_value(result) for result in results])
    max_episodes = max(sum(result["agent"] == method for result in results) for method in methods) if methods else 0
    edges, num_bins = np.unique(values), min(MAX_BINS, max(1, max_episodes // MIN_BIN_EPISODES))
    edges = (
        np.append(edges, np.inf) if len(edges) <= num_bins else np.unique(np.quantile(values, np.linspace(0, 1, num_bins + 1)))
    )
    bin_indices = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = []
    for method in methods:
        for i in range(max(1, len(edges) - 1)):
            bin_episodes = [
                result
                for result, bin_index in zip(results, bin_indices, strict=True)
                if bin_index == i and result["agent"] == method
            ]
            if len(bin_episodes) >= MIN_BIN_EPISODES:
                bin_values = [get_value(result) for result in bin_episodes]
                rates = (Rate.compute(bin_episodes, outcome) for outcome in OUTCOMES)
                bins.append(RateBin(quantity, method, min(bin_values), max(bin_values), float(np.median(bin_values)), *rates))
    return bins


def make_rates_figure(bins: Sequence[RateBin], colours: Mapping[str, str], title: str) -> go.Figure:
    figure = go.Figure()
    for method in dict.fromkeys(rate_bin.method for rate_bin in bins):
        method_bins = [rate_bin for rate_bin in bins if rate_bin.method == method]
        x = [rate_bin.median for rate_bin in method_bins]
        safe_success_rates = [(rate_bin.safe_success.value, *rate_bin.safe_success.interval) for rate_bin in method_bins]
        figure.add_scatter(
            **make_rate_trace(x, safe_success_rates, method, colours[method]),
            customdata=[f"{rate_bin.safe_success} of {rate_bin.safe_success.total}" for rate_bin in method_bins],
        )
        figure.add_scatter(**make_dotted_trace(x, [rate_bin.success.value for rate_bin in method_bins], colours[method]))
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="episodes [%]", range=[-3, 103])
    return figure


def make_rate_cells(bins: Sequence[RateBin], quantity: str) -> tuple[Sequence[str], list[Sequence[str]]]:
    cells: list[Sequence[str]] = []
    for rate_bin in bins:
        cells.append(
            (
                rate_bin.method,
                f"{rate_bin.low:.3g} to {rate_bin.high:.3g}",
                str(rate_bin.safe_success.total),
                str(rate_bin.safe_success),
                str(rate_bin.success),
            )
        )
    return ("arm", quantity, "episodes", "without violation", "success"), cells


def flatten_bin(rate_bin: RateBin) -> dict[str, Any]:
    return {**flatten_record(rate_bin), "episodes": rate_bin.safe_success.total}
