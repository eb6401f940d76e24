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
from experiments.viewer.take import Replay
from sim.utils.errors import GroundError

ANY = "any"
PREVIOUS_LABEL, NEXT_LABEL = "watch the one before", "watch the next"
OUTCOME_FILTERS = {ANY: lambda result: True, "failed": lambda result: not result["success"], "solved": lambda result: result["success"],
            "solved with a violation": lambda result: result["success"] and not result["clean"]}  # fmt: skip
SORT_KEYS = {
    "space": lambda result: (result["split"], result["index"], *_get_training_key(result)),
    "longest first": lambda result: -result["steps"],
    "highest cost first": lambda result: -result["total_cost"],
    "arm": lambda result: (*_get_training_key(result), result["split"], result["index"]),
    "outcome": lambda result: (result["success"], result["clean"], result["split"], result["index"]),
    "layout": lambda result: (result["layout_id"], *_get_training_key(result)),
    "most overrated plan first": lambda result: -_compute_cost_overrun(result),
}
MAX_EPISODES_LISTED = 100  # rows of the table; filters narrow it down
TABLE_STYLE = "max-height:17em;overflow:auto;font-size:0.75em;line-height:1.5;margin:0 0.5em;white-space:nowrap"


class EpisodeIndex:
    """Rows of a run directory. Damaged or unfinished ones are left out; `look` again finds what has come since."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.refresh()

    def refresh(self) -> None:
        self.results = read_episode_results(self.run / "results")
        self.num_unreadable = len(list((self.run / "results").rglob("*.row"))) - len(self.results)

    def select(self, split: str = ANY, method: str = ANY, outcome: str = ANY, order: str = "space") -> list[dict[str, Any]]:
        """Rows that fit, in order."""
        matches = [result for result in self.results if split in (ANY, result["split"]) and method in (ANY, result.method_label)]
        return sorted(filter(OUTCOME_FILTERS[outcome], matches), key=SORT_KEYS[order])

    def find(self, split: str, index: int, method: str) -> dict[str, Any]:
        """One row, or a GroundError that says what there is. An agent's name alone stands for its first training."""
        layout_results = [result for result in self.results if (result["split"], result["index"]) == (split, index)]
        for get_name in (attrgetter("method_label"), lambda result: result["agent"]):
            if matches := [result for result in layout_results if get_name(result) == method]:
                return min(matches, key=_get_training_key)
        available_methods = ", ".join(sorted(map(attrgetter("method_label"), layout_results))) or "none on this space"
        raise GroundError(f"{self.run} has no episode of {method} on {split} {index}: there are {available_methods}")

    def make_replays(self, result: dict[str, Any], other_methods: Sequence[str] = ()) -> list[Replay]:
        """A recorded episode, and other arms' on the same space."""
        results_by_method = {
            other_result.method_label: other_result
            for other_result in self.results
            if _has_same_start(result, other_result) and other_result is not result
        }
        return [
            self._make_replay(shown_result)
            for shown_result in (result, *(results_by_method[method] for method in other_methods if method in results_by_method))
        ]

    def _make_replay(self, result: dict[str, Any]) -> Replay:
        """Called as the arm is: an episode itself does not say which training of its agent it is of."""
        episode = read_episode(self.run / "results" / result["agent"], result)
        return Replay.from_episode(result["scene"], replace(episode, behaviour=result.method_label), result["split"])


class EpisodeTab:
    """The page's tab for a library."""

    def __init__(self, episode_index: EpisodeIndex, page: Page) -> None:
        self._episode_index, self._page = episode_index, page
        self._listed_results: dict[str, dict[str, Any]] = {}
        gui = page.server.gui
        with page.panels.tabs.add_tab("Recorded"):
            self._split_dropdown, self._method_dropdown = gui.add_dropdown("split", (ANY,)), gui.add_dropdown("arm", (ANY,))
            self._outcome_dropdown = gui.add_dropdown("outcome", tuple(OUTCOME_FILTERS))
            self._order_dropdown = gui.add_dropdown("order", tuple(SORT_KEYS))
            self._table = gui.add_html("")
            self._episode_dropdown = gui.add_dropdown("episode", ("",))
            self._method_folder = gui.add_folder("beside it", expand_by_default=False)
            self._method_checkboxes: dict[str, viser.GuiCheckboxHandle] = {}
            watch_button = gui.add_button("Watch", color="blue")
            step_buttons = gui.add_button_group("", (PREVIOUS_LABEL, NEXT_LABEL), hint="the episodes in this order, one by one")
            refresh_button = gui.add_button("Look for new episodes")
        for dropdown in (self._split_dropdown, self._method_dropdown, self._outcome_dropdown, self._order_dropdown):
            dropdown.on_update(lambda _: self.update_list())
        watch_button.on_click(lambda event: page.panels.run_action(event.client, self.show_selected))
        step_buttons.on_click(
            lambda event: page.panels.run_action(
                event.client, partial(self.move_selection, 1 if step_buttons.value == NEXT_LABEL else -1)
            )
        )
        refresh_button.on_click(lambda event: page.panels.run_action(event.client, self.refresh))
        self.update_options()

    def update_list(self) -> None:
        """List what fits the filters."""
        results = self._episode_index.select(
            self._split_dropdown.value, self._method_dropdown.value, self._outcome_dropdown.value, self._order_dropdown.value
        )
        self._listed_results = {format_title(result): result for result in results[:MAX_EPISODES_LISTED]}
        self._episode_dropdown.options = tuple(self._listed_results) or ("no such episode",)
        # viser would keep the one chosen before, wherever it is now; it types values as read-only
        self._episode_dropdown.value = self._episode_dropdown.options[0]  # type: ignore[misc]
        self._table.content = format_table(results, len(self._episode_index.results), self._episode_index.num_unreadable)

    def show_best_planner(self, split: str, index: int) -> None:
        """Play the best planner's episode in a space, or its first one and say so. GroundError where there is none yet."""
        results = self._episode_index.results
        if not results:
            unreadable_text = (
                f" ({self._episode_index.num_unreadable} damaged or unfinished)" if self._episode_index.num_unreadable else ""
            )
            raise GroundError(f"{self._episode_index.run} has no episode to show yet{unreadable_text}")
        planner = find_best_planner(results)
        planner_results = [result for result in results if result["agent"] == planner]
        matches = [result for result in planner_results if (result["split"], result["index"]) == (split, index)]
        self.show_result((matches or planner_results)[0])
        if not matches:
            self._page.show_message(
                f"there is no episode of {planner_results[0]['agent']} in {split} {index}: this is its first one"
            )

    def show_selected(self) -> None:
        """Show the chosen episode."""
        result = self._listed_results.get(self._episode_dropdown.value)
        if result is None:
            raise GroundError("no episode fits the filters")
        self.show_result(result, [method for method, checkbox in self._method_checkboxes.items() if checkbox.value])

    def move_selection(self, offset: int) -> None:
        """Show an episode so many places further down the list, which ends where it begins."""
        options = self._episode_dropdown.options
        position = (options.index(self._episode_dropdown.value) + offset) % len(options)
        self._episode_dropdown.value = options[position]  # type: ignore[misc]
        self.show_selected()

    def show_result(self, result: dict[str, Any], other_methods: Sequence[str] = ()) -> None:
        """Play a row's episode, others beside it, and let its planner think again."""
        replays = self._episode_index.make_replays(result, other_methods)
        self._page.show(replays, play=True)
        planners = {entry.method_label for entry in self._episode_index.results if entry["model"]}
        self._page.plan_recomputer.start([replay for replay in replays if replay.name in planners])

    def refresh(self) -> None:
        """Find what has come since."""
        self._episode_index.refresh()
        self.update_options()

    def update_options(self) -> None:
        """Splits and arms that there are."""
        results = self._episode_index.results
        splits, methods = (
            dict.fromkeys(result["split"] for result in results),
            dict.fromkeys(map(attrgetter("method_label"), sorted(results, key=_get_training_key))),
        )
        for handle, options in ((self._split_dropdown, (ANY, *splits)), (self._method_dropdown, (ANY, *methods))):
            if handle.options != options:
                handle.options = options
        with self._method_folder:
            self._method_checkboxes |= {
                method: self._page.server.gui.add_checkbox(method, False)
                for method in methods
                if method not in self._method_checkboxes
            }
        self.update_list()


def format_table(results: list[dict[str, Any]], total: int, num_unreadable: int) -> str:
    """An HTML table of some rows."""
    lines = "".join(
        f"<tr><td>{escape(result['split'])} {result['index']}</td><td>{escape(result.method_label)}</td><td>{_describe_outcome(result)}</td>"
        f"<td align=right>{result['steps']}</td><td align=right>{get_cost_m(result, 'total_cost'):.0f}</td>"
        f"<td>{result['layout_id'][:8]}</td></tr>"
        for result in results[:MAX_EPISODES_LISTED]
    )
    head = "<tr align=left><th>space</th><th>arm</th><th>outcome</th><th>steps</th><th>Σ cost [m]</th><th>layout</th></tr>"
    unreadable_text = f", {num_unreadable} damaged or unfinished left out" if num_unreadable else ""
    table = f'<table width="100%" style="border-spacing:3px 0">{head}{lines}</table>'
    return f'<div style="{TABLE_STYLE}">{len(results)} of {total} episodes{unreadable_text}{table}</div>'


def format_title(result: dict[str, Any]) -> str:
    """A line of the list."""
    return f"{result['split']} {result['index']} · {result.method_label} · {_describe_outcome(result)} in {result['steps']}"


def _describe_outcome(result: dict[str, Any]) -> str:
    return ("solved" if result["clean"] else "solved, violation") if result["success"] else "failed"


def _get_training_key(result: dict[str, Any]) -> tuple[str, int]:
    return result["agent"], result["train_seed"] or 0


def _has_same_start(result: dict[str, Any], reference: dict[str, Any]) -> bool:
    return (result["layout_id"], result["seed"]) == (reference["layout_id"], reference["seed"])


def _compute_cost_overrun(result: dict[str, Any]) -> float:
    """How much worse chosen plans went than predicted, in the task's unit: to sort by, not to show."""
    return (result["realised_cost"] or 0.0) - (result["predicted_cost"] or 0.0)
