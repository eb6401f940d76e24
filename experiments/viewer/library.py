"""The recorded episodes of a run: found, filtered, sorted, and watched, several arms on the same space beside each other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from html import escape
from operator import attrgetter
from pathlib import Path
from typing import Any

import viser

from experiments.evaluation.results import read_episode, read_episode_results
from experiments.report.pairs import get_cost_m
from experiments.report.summary import find_best_planner
from experiments.viewer.page import Page
from experiments.viewer.take import Take
from sim.utils.errors import GroundError

ANY = "any"
BEFORE, AFTER = "watch the one before", "watch the next"
OUTCOMES = {ANY: lambda row: True, "failed": lambda row: not row["success"], "solved": lambda row: row["success"],
            "solved with a violation": lambda row: row["success"] and not row["clean"]}  # fmt: skip
ORDERS = {
    "space": lambda row: (row["split"], row["index"], *_training(row)),
    "longest first": lambda row: -row["steps"],
    "highest cost first": lambda row: -row["total_cost"],
    "arm": lambda row: (*_training(row), row["split"], row["index"]),
    "outcome": lambda row: (row["success"], row["clean"], row["split"], row["index"]),
    "layout": lambda row: (row["layout_id"], *_training(row)),
    "most overrated plan first": lambda row: -_overrated(row),
}
LISTED = 100  # rows of the table; filters narrow it down
TABLE_STYLE = "max-height:17em;overflow:auto;font-size:0.75em;line-height:1.5;margin:0 0.5em;white-space:nowrap"


class Library:
    """Rows of a run directory. Damaged or unfinished ones are left out; `look` again finds what has come since."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.look()

    def look(self) -> None:
        self.rows = read_episode_results(self.run / "results")
        self.lost = len(list((self.run / "results").rglob("*.row"))) - len(self.rows)

    def choose(self, split: str = ANY, arm: str = ANY, outcome: str = ANY, order: str = "space") -> list[dict[str, Any]]:
        """Rows that fit, in order."""
        fitting = [row for row in self.rows if split in (ANY, row["split"]) and arm in (ANY, row.method_label)]
        return sorted(filter(OUTCOMES[outcome], fitting), key=ORDERS[order])

    def find(self, split: str, index: int, arm: str) -> dict[str, Any]:
        """One row, or a GroundError that says what there is. An agent's name alone stands for its first training."""
        here = [row for row in self.rows if (row["split"], row["index"]) == (split, index)]
        for name in (attrgetter("method_label"), lambda row: row["agent"]):
            if own := [row for row in here if name(row) == arm]:
                return min(own, key=_training)
        there = ", ".join(sorted(map(attrgetter("method_label"), here))) or "none on this space"
        raise GroundError(f"{self.run} has no episode of {arm} on {split} {index}: there are {there}")

    def takes(self, row: dict[str, Any], beside: Sequence[str] = ()) -> list[Take]:
        """A recorded episode, and other arms' on the same space."""
        same = {other.method_label: other for other in self.rows if _same_space(row, other) and other is not row}
        return [self._take(one) for one in (row, *(same[arm] for arm in beside if arm in same))]

    def _take(self, row: dict[str, Any]) -> Take:
        """Called as the arm is: an episode itself does not say which training of its agent it is of."""
        episode = read_episode(self.run / "results" / row["agent"], row)
        return Take.recorded(row["scene"], replace(episode, behaviour=row.method_label), row["split"])


class Shelf:
    """The page's tab for a library."""

    def __init__(self, library: Library, page: Page) -> None:
        self._library, self._page = library, page
        self._found: dict[str, dict[str, Any]] = {}
        gui = page.server.gui
        with page.panels.tabs.add_tab("Recorded"):
            self._split, self._arm = gui.add_dropdown("split", (ANY,)), gui.add_dropdown("arm", (ANY,))
            self._outcome = gui.add_dropdown("outcome", tuple(OUTCOMES))
            self._order = gui.add_dropdown("order", tuple(ORDERS))
            self._table = gui.add_html("")
            self._episode = gui.add_dropdown("episode", ("",))
            self._folder = gui.add_folder("beside it", expand_by_default=False)
            self._beside: dict[str, viser.GuiCheckboxHandle] = {}
            watch = gui.add_button("Watch", color="blue")
            step = gui.add_button_group("", (BEFORE, AFTER), hint="the episodes in this order, one by one")
            again = gui.add_button("Look for new episodes")
        for filter_ in (self._split, self._arm, self._outcome, self._order):
            filter_.on_update(lambda _: self.fill())
        watch.on_click(lambda event: page.panels.tried(event.client, self.watch))
        step.on_click(lambda event: page.panels.tried(event.client, partial(self.turn, 1 if step.value == AFTER else -1)))
        again.on_click(lambda event: page.panels.tried(event.client, self.look))
        self.name()

    def fill(self) -> None:
        """List what fits the filters."""
        rows = self._library.choose(self._split.value, self._arm.value, self._outcome.value, self._order.value)
        self._found = {title(row): row for row in rows[:LISTED]}
        self._episode.options = tuple(self._found) or ("no such episode",)
        # viser would keep the one chosen before, wherever it is now; it types values as read-only
        self._episode.value = self._episode.options[0]  # type: ignore[misc]
        self._table.content = table(rows, len(self._library.rows), self._library.lost)

    def begin(self, split: str, index: int) -> None:
        """Play the best planner's episode in a space, or its first one and say so. GroundError where there is none yet."""
        rows = self._library.rows
        if not rows:
            lost = f" ({self._library.lost} damaged or unfinished)" if self._library.lost else ""
            raise GroundError(f"{self._library.run} has no episode to show yet{lost}")
        best = find_best_planner(rows)
        own = [row for row in rows if row["agent"] == best]
        wanted = [row for row in own if (row["split"], row["index"]) == (split, index)]
        self.show((wanted or own)[0])
        if not wanted:
            self._page.say(f"there is no episode of {own[0]['agent']} in {split} {index}: this is its first one")

    def watch(self) -> None:
        """Show the chosen episode."""
        row = self._found.get(self._episode.value)
        if row is None:
            raise GroundError("no episode fits the filters")
        self.show(row, [arm for arm, box in self._beside.items() if box.value])

    def turn(self, steps: int) -> None:
        """Show an episode so many places further down the list, which ends where it begins."""
        options = self._episode.options
        at = (options.index(self._episode.value) + steps) % len(options)
        self._episode.value = options[at]  # type: ignore[misc]
        self.watch()

    def show(self, row: dict[str, Any], beside: Sequence[str] = ()) -> None:
        """Play a row's episode, others beside it, and let its planner think again."""
        takes = self._library.takes(row, beside)
        self._page.show(takes, play=True)
        planners = {one.method_label for one in self._library.rows if one["model"]}
        self._page.thinker.begin([take for take in takes if take.name in planners])

    def look(self) -> None:
        """Find what has come since."""
        self._library.look()
        self.name()

    def name(self) -> None:
        """Splits and arms that there are."""
        rows = self._library.rows
        splits, arms = (
            dict.fromkeys(row["split"] for row in rows),
            dict.fromkeys(map(attrgetter("method_label"), sorted(rows, key=_training))),
        )
        for handle, options in ((self._split, (ANY, *splits)), (self._arm, (ANY, *arms))):
            if handle.options != options:
                handle.options = options
        with self._folder:
            self._beside |= {arm: self._page.server.gui.add_checkbox(arm, False) for arm in arms if arm not in self._beside}
        self.fill()


def table(rows: list[dict[str, Any]], of: int, lost: int) -> str:
    """An HTML table of some rows."""
    lines = "".join(
        f"<tr><td>{escape(row['split'])} {row['index']}</td><td>{escape(row.method_label)}</td><td>{_end(row)}</td>"
        f"<td align=right>{row['steps']}</td><td align=right>{get_cost_m(row, 'total_cost'):.0f}</td>"
        f"<td>{row['layout_id'][:8]}</td></tr>"
        for row in rows[:LISTED]
    )
    head = "<tr align=left><th>space</th><th>arm</th><th>outcome</th><th>steps</th><th>Σ cost [m]</th><th>layout</th></tr>"
    left = f", {lost} damaged or unfinished left out" if lost else ""
    whole = f'<table width="100%" style="border-spacing:3px 0">{head}{lines}</table>'
    return f'<div style="{TABLE_STYLE}">{len(rows)} of {of} episodes{left}{whole}</div>'


def title(row: dict[str, Any]) -> str:
    """A line of the list."""
    return f"{row['split']} {row['index']} · {row.method_label} · {_end(row)} in {row['steps']}"


def _end(row: dict[str, Any]) -> str:
    return ("solved" if row["clean"] else "solved, violation") if row["success"] else "failed"


def _training(row: dict[str, Any]) -> tuple[str, int]:
    return row["agent"], row["train_seed"] or 0


def _same_space(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return (row["layout_id"], row["seed"]) == (other["layout_id"], other["seed"])


def _overrated(row: dict[str, Any]) -> float:
    """How much worse chosen plans went than predicted, in the task's unit: to sort by, not to show."""
    return (row["realised_cost"] or 0.0) - (row["predicted_cost"] or 0.0)
