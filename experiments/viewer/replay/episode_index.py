"""EpisodeIndex: the recorded episodes of a run, to find, filter, sort and replay."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from experiments.evaluation.results import EpisodeResult, find_unreadable_results, read_episode, read_episode_results
from experiments.report.measures.summary import get_episode_label
from experiments.viewer.replay.replay import Replay
from sim.utils.errors import GroundError

ANY = "any"
OUTCOME_FILTERS: Mapping[str, Callable[[EpisodeResult], bool]] = {
    ANY: lambda result: True,
    "failed": lambda result: not result.success,
    "solved": lambda result: result.success,
    "solved with a violation": lambda result: result.success and not result.safe_success,
}
SORT_KEYS: Mapping[str, Callable[[EpisodeResult], Any]] = {
    "layout number": lambda result: (result.split, result.index, *_get_training_key(result)),
    "longest first": lambda result: -result.steps,
    "highest cost first": lambda result: -result.total_cost,
    "method": lambda result: (*_get_training_key(result), result.split, result.index),
    "outcome": lambda result: (result.success, result.safe_success, result.split, result.index),
    "layout": lambda result: (result.layout_id, *_get_training_key(result)),
    "highest cost above prediction first": lambda result: (result.predicted_cost or 0.0) - (result.realised_cost or 0.0),
}


class EpisodeIndex:
    """Results of a run directory; damaged or unfinished ones are left out."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.refresh()

    def refresh(self) -> None:
        """Read all results that there are now."""
        self.results = read_episode_results(self.run / "results")
        self.num_unreadable = len(find_unreadable_results(self.run / "results"))

    def select(
        self, split: str = ANY, method: str = ANY, outcome: str = ANY, order: str = "layout number"
    ) -> list[EpisodeResult]:
        """List the results that fit, in order."""
        matches = [result for result in self.results if split in (ANY, result.split) and method in (ANY, result.method_label)]
        return sorted(filter(OUTCOME_FILTERS[outcome], matches), key=SORT_KEYS[order])

    def find(self, split: str, index: int, method: str) -> EpisodeResult:
        """Find a method's result. A name without a training seed stands for the first training.

        Raises:
            GroundError: there is none.
        """
        results = [result for result in self.results if (result.split, result.index) == (split, index)]
        for name in ("method_label", "method"):
            if matches := [result for result in results if getattr(result, name) == method]:
                return min(matches, key=_get_training_key)
        label = next((result.split_label for result in self.results if result.split == split), split)
        methods = ", ".join(sorted(map(attrgetter("method_label"), results))) or "none: evaluate there first (ground evaluate)"
        raise GroundError(f"{self.run} has no episode of {method} in {label} {index}; there are {methods}")

    def make_replays(self, result: EpisodeResult, other_methods: Sequence[str] = ()) -> list[Replay]:
        """Replay a recorded episode, and those of other methods from the same start."""
        start = (result.layout_id, result.seed)
        others = {other.method_label: other for other in self.results if (other.layout_id, other.seed) == start}
        shown = [result, *(others[name] for name in other_methods if name in others and others[name] is not result)]
        return [self._make_replay(shown_result) for shown_result in shown]

    def _make_replay(self, result: EpisodeResult) -> Replay:
        """Replay an episode; its behaviour becomes the method's label, which has the train seed."""
        episode = read_episode(self.run / "results" / result.method, result)
        return Replay.from_episode(result.scene, replace(episode, behaviour=result.method_label), result.split)


def sort_methods(results: Sequence[EpisodeResult]) -> list[str]:
    """List the method labels of results by method and training seed."""
    return list(dict.fromkeys(result.method_label for result in sorted(results, key=_get_training_key)))


def format_title(result: EpisodeResult) -> str:
    """Format a result in a line."""
    return f"{get_episode_label(result)} · {result.method_label} · {describe_outcome(result)} in {result.steps} steps"


def describe_outcome(result: EpisodeResult) -> str:
    """Describe the outcome, with the kinds of violations."""
    kinds = ", ".join(kind.replace("_", " ") for kind, has_occurred in result.violations.items() if has_occurred)
    return ("solved" if result.success else "failed") + (f", {kinds}" if kinds else "")


def _get_training_key(result: EpisodeResult) -> tuple[str, int]:
    return result.method, result.train_seed or 0
