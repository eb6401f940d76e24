"""Scores of methods on their shared episodes, and differences between two methods.

The cost of an episode is the cost-to-go [m], mean over all steps that an episode may have. After
success it is zero. It is defined for unsolved episodes too.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.formats import format_interval, format_no_difference
from experiments.report.measures.summary import EpisodeKey, Results, get_episode_key, get_training_key
from experiments.statistics import compute_bootstrap_interval, compute_signed_rank_p_value, compute_smallest_mean_difference
from sim.scenes.scene import scenes

Interval = tuple[float, float, float]  # value, low, high
TrainingKey = tuple[str, int, int]  # run, training seed, number of the time


def compute_episode_cost(result: EpisodeResult) -> float:
    """Compute the cost-to-go [m], mean over all steps that an episode may have."""
    return get_cost_m(result, "total_cost") / scenes[result.scene].episode_steps


def get_cost_m(result: EpisodeResult, name: str) -> float:
    """Convert a cost of a result from the task's unit to metres."""
    return float(getattr(result, name)) * scenes[result.scene].task.cost_unit_m


@dataclass(frozen=True)
class PairedScores:
    """Scores of methods on the episodes that all of them met."""

    episodes: list[EpisodeKey]
    splits: np.ndarray  # (E,) their strata
    scores: list[np.ndarray]  # (S, E) of each method: a row per training, nan where it did not run
    is_joint: bool  # the methods act by the same trained models, row by row


def pair_scores(
    results: Results, methods: Sequence[str], get_score: Callable[[EpisodeResult], float] = compute_episode_cost
) -> PairedScores:
    """Collect the scores of methods on the episodes that all of them met.

    Two results of one method in one episode are of different trainings, or runs.

    Args:
        methods: at least one name.
    """
    scores_by_method = [_collect_scores(results, method, get_score) for method in methods]
    shared_episodes = sorted(set[EpisodeKey].intersection(*map(set, scores_by_method)))
    splits = {get_episode_key(result): result.split for result in results}
    scores = []
    trainings_by_method = []
    for method_scores in scores_by_method:
        shared_scores = [method_scores[episode] for episode in shared_episodes]
        trainings = sorted(set[TrainingKey]().union(*shared_scores))
        trainings_by_method.append(trainings)
        scores.append(np.array([[known.get(training, np.nan) for known in shared_scores] for training in trainings]))
    models = {(result.model, result.env_steps) for result in results if result.method in methods}
    has_one_model = len(models) == 1 and all(model for model, _ in models)
    is_joint = has_one_model and all(trainings == trainings_by_method[0] for trainings in trainings_by_method)
    return PairedScores(shared_episodes, np.array([splits[episode] for episode in shared_episodes]), scores, is_joint)


def _collect_scores(
    results: Results, method: str, get_score: Callable[[EpisodeResult], float]
) -> dict[EpisodeKey, dict[TrainingKey, float]]:
    play_counts: Counter[tuple[EpisodeKey, str, int]] = Counter()
    scores: dict[EpisodeKey, dict[TrainingKey, float]] = defaultdict(dict)
    for result in results:
        if result.method == method:
            episode, training = get_episode_key(result), get_training_key(result)
            scores[episode][(*training, play_counts[episode, *training])] = get_score(result)
            play_counts[episode, *training] += 1
    return scores


@dataclass(frozen=True)
class Difference:
    """A mean difference between two methods on the same episodes."""

    value: float
    low: float
    high: float
    p_value: float  # of the signed-rank test
    min_detectable: float  # mean difference that would be shown in four of five samples

    @property
    def interval(self) -> Interval:
        return self.value, self.low, self.high

    @property
    def is_significant(self) -> bool:
        return self.p_value <= 0.05 and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        return format_interval(*self.interval)

    def format_verdict(self) -> str:
        """Format as "shown", or that no difference is shown and which would have been."""
        return "shown" if self.is_significant else format_no_difference(self.min_detectable, " m", 2)


def compute_difference(a: np.ndarray, b: np.ndarray, strata: np.ndarray, is_joint: bool = False) -> Difference:
    """Compute the difference of two methods' mean scores, a - b.

    Args:
        a: (S, E) scores, a row per training.
        b: (R, E) scores on the same episodes.
        strata: (E,) the episodes' splits.
        is_joint: the rows of a and b are of the same trainings.

    Returns:
        An interval over trainings and episodes, and a test over the episodes' means.
    """
    interval = compute_bootstrap_interval(compute_mean_difference, a, b, strata=strata, has_shared_trainings=is_joint)
    differences = average_trainings(a) - average_trainings(b)
    return Difference(*interval, compute_signed_rank_p_value(differences), compute_smallest_mean_difference(differences))


def compute_mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the mean difference of two methods' scores.

    Args:
        a: (S, E) scores of S trainings in E episodes; NaN where a training did not play.
        b: (R, E), likewise.
    """
    return float((average_trainings(a) - average_trainings(b)).mean())


def average_trainings(scores: np.ndarray) -> np.ndarray:
    """Average scores over the trainings that played.

    Args:
        scores: (S, E) of S trainings in E episodes; NaN where a training did not play.

    Returns:
        (E,) means; where a resample holds no training that played an episode, the mean of all
        scores.
    """
    is_played = ~np.isnan(scores)
    counts = is_played.sum(0)
    sums = np.where(is_played, scores, 0).sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum() / max(1, counts.sum()))
