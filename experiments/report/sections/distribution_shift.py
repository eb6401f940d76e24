"""Rates of safe success over the training distance and over physical quantities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import escape_label
from experiments.report.measures.summary import OUTCOMES, Rate, Results, group_results, is_oracle, list_splits, rank_methods
from experiments.report.sections.section import Columns, ReportSection, make_rates_figure, select_legend
from sim.variation import Variation

MAX_BINS = 5
MIN_BIN_EPISODES = 5
COLUMNS: Columns = {
    "method": "method", "range": lambda item: f"{item.low:.3g} to {item.high:.3g}", "episodes": "episodes",
    "safe success": "safe_success", "success": "success",
}  # fmt: skip


@dataclass(frozen=True)
class RateBin:
    """Rates of a method in one range of a quantity."""

    quantity: str
    method: str
    low: float
    high: float
    median: float
    safe_success: Rate
    success: Rate
    episodes: int


def bin_results(results: Results, get_value: Callable[[EpisodeResult], float], quantity: str) -> list[RateBin]:
    """Compute the rates of each method in ranges of a quantity, without oracles.

    Ranges contain equally many episodes. A quantity with few values has a range for each value.
    Ranges with fewer than MIN_BIN_EPISODES episodes of a method are left out.
    """
    methods = [method for method in rank_methods(results) if not is_oracle(method)]
    if not methods:
        return []
    values = np.array([get_value(result) for result in results])
    most = max(sum(result.method == method for result in results) for method in methods)
    num_bins = min(MAX_BINS, max(1, most // MIN_BIN_EPISODES))
    edges = np.append(np.unique(values), np.inf)
    if len(edges) > num_bins + 1:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, num_bins + 1)))
    indices = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = []
    for method in methods:
        for i in range(max(1, len(edges) - 1)):
            members = [result for result, index in zip(results, indices, strict=True) if index == i and result.method == method]
            if len(members) >= MIN_BIN_EPISODES:
                bin_values = [get_value(result) for result in members]
                numbers = (min(bin_values), max(bin_values), float(np.median(bin_values)))
                safe_success, success = (Rate.compute(members, outcome) for outcome in OUTCOMES)
                bins.append(RateBin(quantity, method, *numbers, safe_success, success, len(members)))
    return bins


def build_training_distance_section(results: Results, colours: Mapping[str, str]) -> ReportSection | None:
    """Plot rates over the training distance; None if it is unknown."""
    known = [result for result in results if result.training_distance is not None]
    bins = bin_results(known, lambda result: result.training_distance or 0.0, "distance") if known else []
    if not bins:
        return None
    figure = make_rates_figure(bins, "method", "median", colours, "training distance")
    figure.update_xaxes(type="log", tickvals=[digit * 10**power for power in range(-1, 4) for digit in (1, 2, 5)])
    medians = []
    for split in list_splits(known):
        distances = {result.layout_id: result.training_distance for result in known if result.split == split}
        medians.append(f"{split} {np.median(list(distances.values())):.1f}")
    legend = select_legend(results, colours)
    return ReportSection("distance", COLUMNS, bins, [figure], legend, facts={"medians": ", ".join(medians)})


def build_physics_section(results: Results, colours: Mapping[str, str]) -> ReportSection | None:
    """Plot rates over each physical quantity that a split varies; None if no split varies any."""
    figures = list[go.Figure]()
    all_bins = list[RateBin]()
    names = [item.name for item in fields(Variation) if item.name != "appearance"]
    groups = group_results(results, "split")
    for split in list_splits(results):
        label = groups[split][0].split_label
        varied = [name for name in names if len({getattr(result.variation, name) for result in groups[split]}) > 1]
        for name in varied:
            other_quantities = [_format_quantity(other) for other in varied if other != name]
            condition = f"with {', '.join(other_quantities)}" if other_quantities else "alone"
            quantity = _format_quantity(name)
            bins = bin_results(groups[split], attrgetter(f"variation.{name}"), f"{label}: {quantity}, {condition}")
            if bins:
                title = f"{quantity}<br>{escape_label(label)}, {condition}"
                figures.append(make_rates_figure(bins, "method", "median", colours, title))
                all_bins += bins
    if not figures:
        return None
    return ReportSection("physics", {**COLUMNS, "quantity": "quantity"}, all_bins, figures, select_legend(results, colours))


def _format_quantity(name: str) -> str:
    """Format a variation's name as words with its unit."""
    for suffix, unit in (("_kg", " [kg]"), ("_m_s", " [m/s]"), ("_steps", " [steps]")):
        name = name.replace(suffix, unit)
    return name.replace("_", " ")
