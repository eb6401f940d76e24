"""EpisodeTab: the recorded episodes of a run, to filter, sort, watch and compare."""

from collections.abc import Sequence
from html import escape

import viser

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.summary import find_best_planner, get_episode_label
from experiments.viewer.replay import episode_index as episodes
from experiments.viewer.replay.episode_index import ANY, EpisodeIndex
from experiments.viewer.replay.session import ViewerSession
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError

PREVIOUS_LABEL, NEXT_LABEL = "previous episode", "next episode"
MAX_EPISODES_LISTED = 100  # rows of the table; filters narrow it down
TABLE_STYLE = "max-height:17em;overflow:auto;font-size:0.75em;line-height:1.5;margin:0 0.5em;white-space:nowrap"


class EpisodeTab:
    """The page's tab for an episode index."""

    def __init__(
        self, gui: viser.GuiApi, tabs: viser.GuiTabGroupHandle, episode_index: EpisodeIndex, session: ViewerSession
    ) -> None:
        self._gui, self._episode_index, self._session = gui, episode_index, session
        self._listed_results: dict[str, EpisodeResult] = {}
        self._split_by_label: dict[str, str] = {}
        with tabs.add_tab("Episodes"):
            self._split_dropdown = gui.add_dropdown("split", (ANY,), hint="split, or custom layout")
            self._method_dropdown = gui.add_dropdown("method", (ANY,), hint="that acted")
            self._outcome_dropdown = gui.add_dropdown("outcome", tuple(episodes.OUTCOME_FILTERS), hint="of the episode")
            self._order_dropdown = gui.add_dropdown("order", tuple(episodes.SORT_KEYS), hint="of the table and the list below")
            self._table = gui.add_html("")
            self._episode_dropdown = gui.add_dropdown("episode", ("",), hint="to watch")
            self._method_folder = gui.add_folder("compare with", expand_by_default=False)
            self._method_checkboxes: dict[str, viser.GuiCheckboxHandle] = {}
            hint = "replay the episode, and recompute the plans of planners along it"
            watch_button = gui.add_button("Watch", color="blue", hint=hint)
            step_buttons = gui.add_button_group("", (PREVIOUS_LABEL, NEXT_LABEL), hint="watch the episodes in this order")
            refresh_button = gui.add_button("Look for new episodes", hint="of a run that is still being evaluated")
        for dropdown in (self._split_dropdown, self._method_dropdown, self._outcome_dropdown, self._order_dropdown):
            dropdown.on_update(lambda _: self.update_list())
        session.connect_button(watch_button, self.show_selected)
        session.connect_button(refresh_button, self.refresh)
        session.connect_button(step_buttons, lambda: self.move_selection(1 if step_buttons.value == NEXT_LABEL else -1))
        self.update_options()

    def update_list(self) -> None:
        """List the episodes that fit the filters."""
        split = self._split_by_label.get(self._split_dropdown.value, ANY)
        dropdowns = (self._method_dropdown, self._outcome_dropdown, self._order_dropdown)
        results = self._episode_index.select(split, *(dropdown.value for dropdown in dropdowns))
        self._listed_results = {episodes.format_title(result): result for result in results[:MAX_EPISODES_LISTED]}
        self._episode_dropdown.options = tuple(self._listed_results) or ("no such episode",)
        # viser would keep the value chosen before, wherever it is now; it types values as read-only
        self._episode_dropdown.value = self._episode_dropdown.options[0]  # type: ignore[misc]
        self._table.content = format_table(results, len(self._episode_index.results), self._episode_index.num_unreadable)

    def show_best_planner(self, split: str, index: int) -> None:
        """Show the best planner's episode in a layout, or its first one with a message.

        Raises:
            GroundError: the run has no episodes yet.
        """
        results = self._episode_index.results
        if not results:
            num_unreadable = self._episode_index.num_unreadable
            unreadable_text = f" ({num_unreadable} damaged or unfinished)" if num_unreadable else ""
            raise GroundError(f"{self._episode_index.run} has no episode to show yet{unreadable_text}")
        planner = find_best_planner(results)
        planner_results = [result for result in results if result.method == planner]
        matches = [result for result in planner_results if (result.split, result.index) == (split, index)]
        self.show_result((matches or planner_results)[0])
        if not matches:
            self._session.show_message(f"there is no episode of {planner} in {split} {index}: this is its first one")

    def show_selected(self) -> None:
        """Show the chosen episode.

        Raises:
            GroundError: no episode fits the filters.
        """
        result = self._listed_results.get(self._episode_dropdown.value)
        if result is None:
            raise GroundError("no episode fits the filters")
        self.show_result(result, [method for method, checkbox in self._method_checkboxes.items() if checkbox.value])

    def move_selection(self, offset: int) -> None:
        """Show the episode a number of places further down the list; after the last is the first."""
        options = self._episode_dropdown.options
        position = (options.index(self._episode_dropdown.value) + offset) % len(options)
        self._episode_dropdown.value = options[position]  # type: ignore[misc]
        self.show_selected()

    def show_result(self, result: EpisodeResult, other_methods: Sequence[str] = ()) -> None:
        """Play a result's episode side by side with other methods', and recompute the planners' plans."""
        replays = self._episode_index.make_replays(result, other_methods)
        self._session.show(replays, play=True)
        planners = {result.method_label for result in self._episode_index.results if result.model}
        self._session.plan_recomputer.start([replay for replay in replays if replay.name in planners])

    def refresh(self) -> None:
        """Read the episodes that the run has now."""
        self._episode_index.refresh()
        self.update_options()

    def update_options(self) -> None:
        """List the splits and methods that have episodes."""
        results = self._episode_index.results
        methods = episodes.sort_methods(results)
        first_results = {result.split: result for result in reversed(results)}
        self._split_by_label = {first_results[split].split_label: split for split in sorted(first_results)}
        for handle, options in ((self._split_dropdown, self._split_by_label), (self._method_dropdown, methods)):
            if handle.options != (ANY, *options):
                handle.options = (ANY, *options)
        with self._method_folder:
            for method in methods:
                if method not in self._method_checkboxes:
                    self._method_checkboxes[method] = self._gui.add_checkbox(method, False, hint="show it beside the episode")
        self.update_list()


def format_table(results: Sequence[EpisodeResult], total: int, num_unreadable: int) -> str:
    """Format results as an HTML table."""
    rows = "".join(
        f"<tr><td>{escape(get_episode_label(result))}</td><td>{escape(result.method_label)}</td>"
        f"<td>{episodes.describe_outcome(result)}</td><td align=right>{result.steps}</td><td align=right>"
        f"{result.total_cost * scenes[result.scene].task.cost_unit_m:.0f}</td><td>{result.layout_id[:8]}</td></tr>"
        for result in results[:MAX_EPISODES_LISTED]
    )
    head = "<tr align=left><th>episode</th><th>method</th><th>outcome</th><th>steps</th><th>Σ cost [m]</th><th>layout</th></tr>"
    unreadable_text = f", {num_unreadable} damaged or unfinished left out" if num_unreadable else ""
    table = f'<table width="100%" style="border-spacing:3px 0">{head}{rows}</table>'
    return f'<div style="{TABLE_STYLE}">{len(results)} of {total} episodes{unreadable_text}{table}</div>'
