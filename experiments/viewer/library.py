"""The recorded episodes of a run: found, filtered, sorted, and watched, several arms on the same space beside each other."""

from pathlib import Path
from typing import Any

import viser

from experiments.evaluation import episode_of, read_rows
from experiments.viewer.page import Page
from experiments.viewer.player import whole

ANY = "any"
OUTCOMES = {ANY: lambda row: True, "failed": lambda row: not row["success"], "solved": lambda row: row["success"],
            "solved with a violation": lambda row: row["success"] and not row["clean"]}  # fmt: skip
ORDERS = {
    "space": lambda row: (row["split"], row["index"]),
    "longest first": lambda row: -row["steps"],
    "highest cost first": lambda row: -row["total_cost"],
    "most overrated plan first": lambda row: -_overrated(row),
}


class Library:
    """Rows of a run directory, and the page's controls for them. Damaged or unfinished rows are left out."""

    def __init__(self, run: Path, page: Page) -> None:
        self._run, self._page = run, page
        self.rows = read_rows(run / "results")

    def choose(self, split: str = ANY, arm: str = ANY, outcome: str = ANY, order: str = "space") -> list[dict[str, Any]]:
        """Rows that fit, in order."""
        fitting = [row for row in self.rows if split in (ANY, row["split"]) and arm in (ANY, row["agent"])]
        return sorted(filter(OUTCOMES[outcome], fitting), key=ORDERS[order])

    def watch(self, row: dict[str, Any], beside: str | None = None, play: bool = False) -> None:
        """Show a recorded episode, and another arm's on the same space beside it."""
        others = [other for other in self.rows if _same_space(row, other) and other["agent"] == beside and other is not row]
        takes = [whole(self._page.scene, episode_of(self._run / "results" / one["agent"], one)) for one in [row, *others[:1]]]
        self._page.show(takes, play)
        if row["model"] and row["agent"] in self._page.arms:
            self._page.think(takes[0], row["agent"])

    def add_controls(self, gui: viser.GuiApi) -> None:
        """Filters, the list of episodes that fit, and what to show beside the chosen one."""
        arms = tuple(dict.fromkeys(row["agent"] for row in self.rows))
        splits = tuple(dict.fromkeys(row["split"] for row in self.rows))
        with gui.add_folder(f"Recorded episodes of {self._run.name}", order=0):
            split = gui.add_dropdown("split", (ANY, *splits))
            arm = gui.add_dropdown("arm", (ANY, *arms))
            outcome = gui.add_dropdown("outcome", tuple(OUTCOMES))
            order = gui.add_dropdown("order", tuple(ORDERS))
            episode = gui.add_dropdown("episode", (ANY,))
            beside = gui.add_dropdown("beside it", ("nothing", *arms))
            button = gui.add_button("Watch")
        found: dict[str, dict[str, Any]] = {}

        def fill(_: Any = None) -> None:
            found.clear()
            found.update({title(row): row for row in self.choose(split.value, arm.value, outcome.value, order.value)})
            episode.options = tuple(found) or ("no such episode",)

        def start(_: Any) -> None:
            if episode.value in found:
                self.watch(found[episode.value], beside.value, play=True)

        for filter_ in (split, arm, outcome, order):
            filter_.on_update(fill)
        button.on_click(start)
        fill()


def title(row: dict[str, Any]) -> str:
    """A line of the list."""
    end = "solved" if row["success"] else "failed"
    return f"{row['split']} {row['index']} · {row['agent']} · {end} in {row['steps']}"


def _same_space(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return (row["layout_id"], row["seed"]) == (other["layout_id"], other["seed"])


def _overrated(row: dict[str, Any]) -> float:
    """How much worse chosen plans went than predicted [m]."""
    return (row["realised_cost"] or 0.0) - (row["predicted_cost"] or 0.0)
