"""Write the tables of docs/results.md and docs/glossary.md, and docs/pictures/results.svg: `python docs/generate_tables.py`.

Results come from experiments/results, terms from the report's dictionary. A table stands behind a comment
`<!-- table: KIND ARGUMENTS -->`; its rows are replaced.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from statistics import median

from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import binomtest

from experiments.colours import get_method_colours
from experiments.evaluation.results import EpisodeResult, read_result_table
from experiments.report.measures.summary import Rate
from experiments.report.terms import TERMS
from sim.bodies import CONTROL_DT_S

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "experiments" / "results"
PAGES = (DOCS / "results.md", DOCS / "glossary.md")
PICTURE = DOCS / "pictures" / "results.svg"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n\n)(?:\|.*\n)*")
SCENES = {
    "tote-push": "tote-push (mobile robot)",
    "push-fixture": "push-fixture (robot arm)",
    "aisle-traffic": "aisle-traffic (mobile robot)",
}
METHODS = {
    "oracle": "oracle: true dynamics",
    "graph+mppi": "graph+mppi: one model for each scene",
    "joint+mppi": "joint+mppi: one model for all scenes",
    "constant-velocity+mppi": "traffic predicted: constant velocity",
    "static+mppi": "traffic predicted: static",
    "scripted": "scripted expert",
    "random": "random actions",
}


@lru_cache
def read_results(run: str) -> tuple[EpisodeResult, ...]:
    """Read the episode results of an experiment."""
    return tuple(read_result_table(next((RESULTS / run).glob("*.parquet"))))


def select(run: str, split: str, method: str, first: int = 0) -> list[EpisodeResult]:
    """Select the results of one method in the layouts of a split, from a number on."""
    return [r for r in read_results(run) if (r.split, r.method) == (split, method) and r.index >= first]


def build_method_table(run: str, split: str, methods: str, first: str = "0") -> Iterable[list[str]]:
    """Build rows of methods in one split, the best lower end of safe success first."""
    yield ["method", "episodes", "safe success", "success", "time to success", "decision", "env steps"]
    rows = []
    for method in methods.split(","):
        results = select(run, split, method, int(first))
        num_trainings = len({r.train_seed for r in results})
        num_layouts = len({r.layout_id for r in results})
        safe = Rate.compute(results, "safe_success")
        solved = [r.steps * CONTROL_DT_S for r in results if r.success]
        row = [
            method,
            f"{num_trainings} × {num_layouts}" if num_trainings > 1 else str(num_layouts),
            str(safe),
            str(Rate.compute(results, "success")),
            f"{sum(solved) / len(solved):.1f} s" if solved else "–",
            f"{median(r.decision_ms_p50 for r in results):,.1f} ms",
            f"{results[0].env_steps:,}",
        ]
        rows.append((safe.interval[0], row))
    yield from (row for _, row in sorted(rows, key=lambda item: -item[0]))


def build_shift_table(run: str, methods: str) -> Iterable[list[str]]:
    """Build rows of distribution shifts with the safe success of methods."""
    names = methods.split(",")
    yield ["distribution shift", "episodes", *(f"safe success: {name}" for name in names)]
    splits = sorted({r.split for r in read_results(run) if r.split.startswith("shift-")})
    for split in splits:
        results = [select(run, split, name) for name in names]
        yield [split, str(len(results[0])), *(str(Rate.compute(rows, "safe_success")) for rows in results)]


def build_pair_table(run: str, method_a: str, method_b: str, *parts: str) -> Iterable[list[str]]:
    """Build rows of paired comparisons of safe success: parts are SPLIT:FIRST:LAST."""
    totals_head = [f"safe success: {name}" for name in (method_a, method_b)]
    yield ["layouts", "episodes", *totals_head, f"only {method_a}", f"only {method_b}", "p (sign test)"]
    for part in parts:
        split, first, last = part.split(":")
        safe_a, safe_b = (
            {r.index: r.safe_success for r in select(run, split, name, int(first)) if r.index <= int(last)}
            for name in (method_a, method_b)
        )
        both = sorted(safe_a.keys() & safe_b.keys())
        only_a = sum(safe_a[index] and not safe_b[index] for index in both)
        only_b = sum(safe_b[index] and not safe_a[index] for index in both)
        p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        totals = [sum(safe[index] for index in both) for safe in (safe_a, safe_b)]
        yield [f"{split} {first} to {last}", str(len(both)), *map(str, totals), str(only_a), str(only_b), f"{p:.2g}"]


def build_term_table() -> Iterable[list[str]]:
    """Build rows of the terms that reports explain."""
    yield ["term", "meaning", "symbol", "unit"]
    for name, term in TERMS.items():
        yield [name, term.definition.replace("|", "\\|"), term.symbol, "" if term.unit == "1" else term.unit]


BUILDERS: dict[str, Callable[..., Iterable[list[str]]]] = {
    "methods": build_method_table,
    "shifts": build_shift_table,
    "pairs": build_pair_table,
    "terms": build_term_table,
}


def update_tables(page: str) -> str:
    """Replace the rows of every table of a page."""

    def build(match: re.Match[str]) -> str:
        kind, *arguments = match[2].split()
        head, *rows = BUILDERS[kind](*arguments)
        alignment = "---" if kind == "terms" else "---:"
        lines = [head, ["---", *[alignment] * (len(head) - 1)], *rows]
        return match[1] + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    return TABLE.sub(build, page)


def draw_results() -> Figure:
    """Draw a panel for each scene: safe success of each method in the test layouts, with its 95 % interval."""
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    colours = get_method_colours(METHODS)
    for axes, (run, title) in zip(figure.subplots(1, len(SCENES), sharex=True, sharey=True), SCENES.items(), strict=True):
        for position, method in enumerate(METHODS):
            results = select(run, "test", method)
            if not results:
                continue
            rate, low, high = Rate.compute(results, "safe_success").value_and_interval
            interval = {"color": colours[method], "linewidth": 5, "alpha": 0.35, "solid_capstyle": "butt"}
            axes.plot([100 * low, 100 * high], [position, position], **interval)
            axes.plot(100 * rate, position, "o", color=colours[method], markersize=6)
            is_right = rate < 0.5
            axes.annotate(
                f"{100 * rate:.0f} % of {len(results)}",
                (100 * (high if is_right else low), position),
                xytext=(6 if is_right else -6, 0),
                textcoords="offset points",
                ha="left" if is_right else "right",
                va="center",
                fontsize=8,
                color="#374151",
            )
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlim(-2, 102)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.tick_params(labelsize=8, length=0)
        axes.grid(axis="x", color="#e5e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_yticks(range(len(METHODS)), METHODS.values())
        axes.set_ylim(len(METHODS) - 0.4, -0.6)
    figure.supxlabel("safe success in test layouts [%], with 95 % interval", fontsize=9)
    return figure


def save_picture(path: Path) -> None:
    """Write the picture; the same results give the same bytes."""
    with rc_context(
        {"svg.hashsalt": "results", "svg.fonttype": "none", "font.sans-serif": ["Arial", "Helvetica", "DejaVu Sans"]}
    ):
        draw_results().savefig(path, facecolor="white", metadata={"Date": None})


def main() -> None:
    """Update the pages and the picture."""
    for page in PAGES:
        page.write_text(update_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    save_picture(PICTURE)


if __name__ == "__main__":
    main()
