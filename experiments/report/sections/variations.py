"""Success by the physics that episodes drew."""

from collections.abc import Sequence
from dataclasses import fields
from operator import itemgetter

from experiments.report.measured import RATES_NOTE, ReportSection, assign_method_colours
from experiments.report.plots import escape_label
from experiments.report.sections.bins import bin_results, flatten_bin, make_rate_cells, make_rates_figure
from experiments.report.summary import EpisodeResult, is_known, summarise
from sim.variation import Variation


def build_physics_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Each varied quantity, in each split that varies it."""
    figures, cells, records = [], [], []
    for split in dict.fromkeys(summary.split for summary in summarise(results)):
        split_results = [result for result in results if result["split"] == split]
        results_by_quantity = {
            field.name: [result for result in split_results if is_known(result, field.name)] for field in fields(Variation)
        }
        varied_names = [
            name
            for name, quantity_results in results_by_quantity.items()
            if len({result[name] for result in quantity_results}) > 1
        ]
        for name in varied_names:
            other_names = [_format_quantity(varied_name) for varied_name in varied_names if varied_name != name]
            condition = f"with {', '.join(other_names)}" if other_names else "alone"
            bins = bin_results(results_by_quantity[name], itemgetter(name), f"{split}: {_format_quantity(name)}, {condition}")
            figures.append(
                make_rates_figure(
                    bins, assign_method_colours(results), f"{_format_quantity(name)}<br>{escape_label(split)}, {condition}"
                )
            )
            cells += [
                (*row_cells[:1], f"{_format_quantity(name)} {row_cells[1]}", split, *row_cells[2:])
                for row_cells in make_rate_cells(bins, "range")[1]
            ]
            records += [flatten_bin(rate_bin) for rate_bin in bins]
    if not figures:
        return None
    caption = "Whether arms still succeed where the physics is not what it was."
    definitions = (
        "Values that episodes drew, in ranges that hold equally many. Where a split varies several, each plot is over the others."
    )
    columns = ("arm", "range", "split", "episodes", "without violation", "success")
    return ReportSection(
        "variations",
        "Other physics",
        caption + RATES_NOTE,
        figures,
        columns,
        cells,
        records,
        definitions,
        list(assign_method_colours(results)),
    )


def _format_quantity(name: str) -> str:
    """A variation's name as words."""
    for suffix, unit_text in (("_kg", " [kg]"), ("_m_s", " [m/s]"), ("_steps", " [steps]")):
        name = name.replace(suffix, unit_text)
    return name.replace("_", " ")
