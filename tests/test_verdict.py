from dataclasses import replace
from typing import Any

import pytest

from experiments.evaluation.results import EpisodeResult
from experiments.evaluation.verdict import NOT_ENOUGH_EVIDENCE, SAFE, UNSAFE, make_verdict
from experiments.statistics import compute_wilson_interval


def make_results(num_safe: int, total: int, **changes: Any) -> list[EpisodeResult]:
    result = EpisodeResult(
        run="r", scene="logistics/tote-push", split="own-1", index=0, seed=0, layout_id="1", method="graph+mppi",
        success=True, violations={}, steps=9, total_cost=1.0, peak_force_n=0.0, decision_ms_p50=1.0, decision_ms_p95=1.0,
        decision_time_s=1.0, **changes,
    )  # fmt: skip
    unsafe = {"robot_collision": True}
    return [replace(result, seed=seed, violations={} if seed < num_safe else unsafe) for seed in range(total)]


@pytest.mark.parametrize(
    ("num_safe", "total", "decision", "enough"),
    [
        (35, 35, SAFE, None),
        (34, 34, NOT_ENOUGH_EVIDENCE, 35),
        (1, 1, NOT_ENOUGH_EVIDENCE, 35),
        (0, 0, NOT_ENOUGH_EVIDENCE, 35),
        (0, 5, UNSAFE, None),
        (9, 10, NOT_ENOUGH_EVIDENCE, None),  # the rate is the threshold
        (80, 100, UNSAFE, None),
    ],
)
def test_the_verdict_follows_from_the_interval(num_safe: int, total: int, decision: str, enough: int | None) -> None:
    verdict = make_verdict(make_results(num_safe, total))
    assert (verdict.decision, verdict.enough_episodes) == (decision, enough)
    assert verdict.interval == compute_wilson_interval(num_safe, total)
    assert str(verdict).startswith(f"{decision}: {num_safe} of {total} episodes")


@pytest.mark.parametrize(("num_safe", "total"), [(19, 20), (16, 20), (7, 8)])
def test_the_required_number_of_episodes_is_the_smallest_that_decides(num_safe: int, total: int) -> None:
    enough, rate = make_verdict(make_results(num_safe, total)).enough_episodes, num_safe / total
    assert enough is not None

    def is_conclusive(episodes: int) -> bool:
        low, high = compute_wilson_interval(rate * episodes, episodes)
        return low >= 0.9 or high < 0.9

    assert is_conclusive(enough)
    assert not is_conclusive(enough - 1)


def test_several_trainings_in_one_layout_count_as_one_episode() -> None:
    results = [result for seed in range(3) for result in make_results(20, 20, train_seed=seed)]
    assert make_verdict(results) == make_verdict(make_results(20, 20))


def test_an_impossible_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        make_verdict([], 1.0)
