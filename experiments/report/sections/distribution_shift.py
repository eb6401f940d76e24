"""Rates over a quantity in which episodes differ: the training distance, and the physics that episodes sampled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import escape_label, make_dotted_trace, make_rate_trace
from experiments.report.measures.layout_distance import DESCRIPTOR_NOTE
from experiments.report.measures.summary import OUTCOMES, Rate, is_oracle, list_splits, rank_methods
from experiments.report.sections.section import RATES_NOTE, ReportSection, flatten_record, select_legend
from sim.variation import Variation

MAX_BINS = 5
MIN_BIN_EPISODES = 5


@dataclass(frozen=True)
class RateBin:
    """A method's rates in a range of a quantity."""

    quantity: str
    method: str
    low: float
    high: float
    median: float
    safe_success: Rate
    success: Rate


def bin_results(results: Sequence[EpisodeResult], get_value: Callable[[EpisodeResult], float], quantity: str) -> list[RateBin]:
    """Compute rates of every method but oracles in ranges of a quantity.

    Ranges hold equally many episodes, or are single values where there are few; those with fewer than MIN_BIN_EPISODES of a
    method are left out.
    """
    methods = [method for method in rank_methods(results) if not is_oracle(method)]
    if not methods:
        return []
    values = np.array([get_value(result) for result in results])
    most = max(sum(result.method == method for result in results) for method in methods)
    num_bins = min(MAX_BINS, max(1, most // MIN_BIN_EPISODES))
    edges = np.unique(values)
    if len(edges) <= num_bins:
        edges = np.append(edges, np.inf)
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, num_bins + 1)))
    indices = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = []
    for method in methods:
        for i in range(max(1, len(edges) - 1)):
            pairs = zip(results, indices, strict=True)
            members = [result for result, index in pairs if index == i and result.method == method]
            if len(members) >= MIN_BIN_EPISODES:
                bin_values = [get_value(result) for result in members]
                rates = (Rate.compute(members, outcome) for outcome in OUTCOMES)
                bins.append(RateBin(quantity, method, min(bin_values), max(bin_values), float(np.median(bin_values)), *rates))
    return bins


def _make_rates_figure(bins: Sequence[RateBin], colours: Mapping[str, str], title: str) -> go.Figure:
    figure = go.Figure()
    for method in dict.fromkeys(item.method for item in bins):
        shown = [item for item in bins if item.method == method]
        x, colour = [item.median for item in shown], colours[method]
        rates = [item.safe_success.value_and_interval for item in shown]
        hover_texts = [f"{item.safe_success} of {item.safe_success.total}" for item in shown]
        figure.add_scatter(**make_rate_trace(x, rates, method, colour), customdata=hover_texts)
        figure.add_scatter(**make_dotted_trace(x, [item.success.value for item in shown], colour))
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="episodes [%]", range=[-3, 103])
    return figure


def _make_cells(item: RateBin, *texts: str, prefix: str = "") -> tuple[str, ...]:
    value_range = f"{prefix}{item.low:.3g} to {item.high:.3g}"
    return item.method, value_range, *texts, str(item.safe_success.total), str(item.safe_success), str(item.success)


def _flatten_bin(item: RateBin) -> dict[str, Any]:
    return {**flatten_record(item), "episodes": item.safe_success.total}


def build_training_distance_section(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> ReportSection | None:
    """Plot rates over the distance from the training layouts; None where it is unknown."""
    distances = {
        (result.split, result.layout_id): result.training_distance for result in results if result.training_distance is not None
    }
    known = [result for result in results if result.training_distance is not None]
    bins = bin_results(known, lambda result: result.training_distance or 0.0, "distance") if known else []
    if not bins:
        return None
    figure = _make_rates_figure(bins, colours, "training distance")
    figure.update_xaxes(type="log", tickvals=[digit * 10**power for power in range(-1, 4) for digit in (1, 2, 5)])
    medians = []
    for split in list_splits(known):
        values = [distance for (layout_split, _), distance in distances.items() if layout_split == split]
        medians.append(f"{split} {np.median(values):.1f}")
    notes = "Ranges hold equally many episodes. With several runs, each has its own training layouts."
    return ReportSection(
        "distance",
        "New layouts",
        f"Rates by training distance: 1 is the typical distance between training layouts.{RATES_NOTE}",
        ("method", "distance", "episodes", "safe success", "success"),
        list(map(_make_cells, bins)),
        list(map(_flatten_bin, bins)),
        [figure],
        f"{DESCRIPTOR_NOTE} Medians: {', '.join(medians)}. {notes}",
        select_legend(results, colours),
    )


def build_physics_section(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> ReportSection | None:
    """Plot rates over each physical quantity that a split varies; None where nothing varies."""
    figures, cells, records = list[go.Figure](), list[Sequence[str]](), list[dict[str, Any]]()
    for split in list_splits(results):
        split_results = [result for result in results if result.split == split]
        numbers = [item.name for item in fields(Variation) if item.type in (float, int, "float", "int")]
        varied = [name for name in numbers if len({getattr(result.variation, name) for result in split_results}) > 1]
        for name in varied:
            others = [_format_quantity(other) for other in varied if other != name]
            condition = f"with {', '.join(others)}" if others else "alone"
            quantity = _format_quantity(name)

            def get_value(result: EpisodeResult, name: str = name) -> float:
                return float(getattr(result.variation, name))

            bins = bin_results(split_results, get_value, f"{split}: {quantity}, {condition}")
            if bins:
                figures.append(_make_rates_figure(bins, colours, f"{quantity}<br>{escape_label(split)}, {condition}"))
                cells += [_make_cells(item, split, prefix=f"{quantity} ") for item in bins]
                records += map(_flatten_bin, bins)
    if not figures:
        return None
    return ReportSection(
        "physics",
        "Other physics",
        f"Rates by the physics that episodes sampled.{RATES_NOTE}",
        ("method", "range", "split", "episodes", "safe success", "success"),
        cells,
        records,
        figures,
        "Ranges hold equally many episodes. Where a split varies several quantities, each plot is over all values of the others.",
        select_legend(results, colours),
    )


def _format_quantity(name: str) -> str:
    """Format a variation's name as words with its unit."""
    for suffix, unit in (("_kg", " [kg]"), ("_m_s", " [m/s]"), ("_steps", " [steps]")):
        name = name.replace(suffix, unit)
    return name.replace("_", " ")
