"""Numbers and tables as text: for a terminal, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TEXT_COLUMNS = ("scene", "split", "method")  # aligned to the left


def format_number(value: float | None, digits: int = 0) -> str:
    """Format a number with thousands separators, or a dash where it is unknown or infinite."""
    return f"{value:,.{digits}f}" if value is not None and math.isfinite(value) else "–"


def format_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """Format as "1.20 [0.90, 1.50]", with true minus signs."""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")


def scale_to_percent(shares: Sequence[float]) -> list[float]:
    """Convert shares to percent."""
    return [100 * share for share in shares]


def format_percent_interval(interval: Sequence[float]) -> str:
    """Format shares as "40 % [17–69]", or a dash where they are unknown."""
    value, low, high = scale_to_percent(interval)
    return "–" if math.isnan(value) else f"{value:.0f} % [{low:.0f}–{high:.0f}]"


def format_no_difference(min_detectable: float, unit: str, digits: int = 0) -> str:
    """State that no difference is shown, and the smallest detectable (inf: none, nan: unknown)."""
    special = "unknown" if math.isnan(min_detectable) else "none"
    text = f"{min_detectable:.{digits}f}{unit}" if math.isfinite(min_detectable) else special
    return f"no difference shown (smallest detectable: {text})"


def format_kind(kind: str) -> str:
    """Format the name of a kind of violation as words."""
    return kind.replace("_", " ")


def join_names(names: Sequence[str]) -> str:
    """Join as "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def format_markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table, text to the left and numbers to the right."""
    alignments = ["---" if column in TEXT_COLUMNS else "---:" for column in columns]
    return "".join(f"| {' | '.join(map(_escape_markdown, row))} |\n" for row in (columns, alignments, *rows))


def format_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Format records as comma-separated values with a heading; unknown values are empty."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(replace_nan, records))
    return text.getvalue()


def replace_nan(record: Mapping[str, Any]) -> dict[str, Any]:
    """Replace nan by None, which JSON and CSV can hold."""
    return {name: None if value != value else value for name, value in record.items()}


def make_interval_record(name: str, interval: Sequence[float]) -> dict[str, float]:
    """Name a value and its interval NAME, NAME_low and NAME_high."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def _escape_markdown(text: str) -> str:
    """Escape what would end a Markdown cell or start HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
