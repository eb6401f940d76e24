"""Scores of arms on the episodes that all of them met, and differences between two arms.

The cost of an episode is fair to who does not solve it: metres to go, mean over all the steps that an episode may have. From its
success on an arm owes nothing; who does not solve it owes to the end.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.summary import EpisodeKey, EpisodeResult, get_episode_key, get_training_key, summarise
from experiments.statistics import compute_bootstrap_interval, compute_signed_rank_p_value, compute_smallest_mean_difference
from sim.scenes.scene import scenes

Interval = tuple[float, float, float]  # value, low, high
TrainingKey = tuple[str, int, int]  # run, seed, and number of the time that an episode was met


def compute_episode_cost(result: EpisodeResult) -> float:
    """Metres to go, mean over all the steps that an episode may have; zero once it is solved."""
    return get_cost_m(result, "total_cost") / scenes[result["scene"]].episode_steps


def get_cost_m(result: EpisodeResult, key: str) -> float:
    """A cost of a row, which has it in the task's unit."""
    return float(result[key]) * scenes[result["scene"]].task.cost_unit_m


@dataclass(frozen=True)
class PairedScores:
    """Scores (S, E) of arms on the episodes that all of them met: a row for each training, nan where that one did not play."""

    episodes: list[EpisodeKey]
    splits: np.ndarray  # (E,) their strata
    scores: list[np.ndarray]  # of each arm
    is_joint: bool  # the arms act by the same trained models, row by row


def pair_scores(
    results: Sequence[EpisodeResult], methods: Sequence[str], get_score: Callable[[EpisodeResult], float] = compute_episode_cost
) -> PairedScores:
    """Two rows of one arm in one episode are of different trainings, or runs."""
    scores_by_method = [_collect_scores(results, method, get_score) for method in methods]
    shared_episodes = (
        sorted(set[EpisodeKey].intersection(*(set(method_scores) for method_scores in scores_by_method)))
        if scores_by_method
        else []
    )
    splits = {get_episode_key(result): str(result["split"]) for result in results}
    scores, trainings_by_method = [], list[list[TrainingKey]]()
    for method_scores in scores_by_method:
        trainings_by_method.append(sorted({training for episode in shared_episodes for training in method_scores[episode]}))
        scores.append(
            np.array(
                [
                    [method_scores[episode].get(training, np.nan) for episode in shared_episodes]
                    for training in trainings_by_method[-1]
                ]
            )
        )
    models = {(result["model"], result["env_steps"]) for result in results if result["agent"] in methods}
    is_joint = (
        len(models) == 1
        and all(model for model, _ in models)
        and all(trainings == trainings_by_method[0] for trainings in trainings_by_method)
    )
    return PairedScores(shared_episodes, np.array([splits[episode] for episode in shared_episodes]), scores, is_joint)


def _collect_scores(
    results: Sequence[EpisodeResult], method: str, get_score: Callable[[EpisodeResult], float]
) -> dict[EpisodeKey, dict[TrainingKey, float]]:
    """Of each episode the score of each training: by run, its seed, and number of the time that it was met."""
    play_counts: Counter[tuple[EpisodeKey, str, int]] = Counter()
    scores: dict[EpisodeKey, dict[TrainingKey, float]] = defaultdict(dict)
    for result in results:
        if result["agent"] == method:
            play_key = get_episode_key(result), *get_training_key(result)
            scores[play_key[0]][(*play_key[1:], play_counts[play_key])] = get_score(result)
            play_counts[play_key] += 1
    return scores


@dataclass(frozen=True)
class Difference:
    """A mean difference between two arms on the same episodes."""

    value: float
    low: float
    high: float
    p_value: float  # of differences as one-sided as these, or more, if neither arm were better
    min_detectable: float  # mean difference that so many episodes would have shown in four of five samples

    @property
    def is_significant(self) -> bool:
        return self.p_value <= 0.05 and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high)

    def format_verdict(self, unit: str = " m") -> str:
        """ "shown", or that it is not and which would have been."""
        return "shown" if self.is_significant else format_no_difference(self.min_detectable, unit, 2)


def format_no_difference(min_detectable: float, unit: str, digits: int = 0) -> str:
    """That no difference is shown, and the smallest one that would have been: inf none, nan unknown."""
    text = (
        f"{min_detectable:.{digits}f}{unit}"
        if math.isfinite(min_detectable)
        else "unknown"
        if math.isnan(min_detectable)
        else "any"
    )
    return f"no difference shown (smallest: {text})"


def format_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """ "1.20 [0.90, 1.50]", with true minus signs."""
    value_text, low_text, high_text = (f"{number:.{digits}f}".replace("-", "−") for number in (value, low, high))
    return f"{value_text} [{low_text}, {high_text}]"


def compute_difference(a: np.ndarray, b: np.ndarray, strata: np.ndarray, is_joint: bool = False) -> Difference:
    """Of the means of scores a (S, E) and b (R, E): interval over trainings and episodes, test over the episodes' means.
    `joint`: they are of the same trainings, row by row."""
    value, low, high = compute_bootstrap_interval(compute_mean_difference, a, b, strata=strata, has_shared_trainings=is_joint)
    episode_differences = average_trainings(a) - average_trainings(b)
    return Difference(
        value, low, high, compute_signed_rank_p_value(episode_differences), compute_smallest_mean_difference(episode_differences)
    )


def compute_mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of scores (S, E) and (R, E)."""
    return float((average_trainings(a) - average_trainings(b)).mean())


def average_trainings(scores: np.ndarray) -> np.ndarray:
    """(E,) means over the trainings that played; where a resample holds none of an episode, the mean of all."""
    is_played = ~np.isnan(scores)
    counts = is_played.sum(0)
    sums = np.where(is_played, scores, 0).sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum() / max(1, counts.sum()))


def rank_methods(results: Sequence[EpisodeResult]) -> list[str]:
    """Every arm, as in the tables."""
    return list(dict.fromkeys(summary.method for summary in summarise(results)))
