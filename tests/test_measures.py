from typing import Any

import numpy as np
import pytest

from experiments.evaluation.results import EpisodeResult, PlanCounts
from experiments.report.measures.comparability import make_notes
from experiments.report.measures.costs import compute_aggregates, compute_costs, compute_efficiency, find_pareto_front
from experiments.report.measures.formats import format_csv
from experiments.report.measures.paired_scores import compute_episode_cost, get_cost_m
from experiments.report.measures.planners import (
    MODEL_AND_SEARCH_ERROR,
    MODEL_ERROR,
    REMAINDER,
    SEARCH_ERROR,
    compute_exploitation,
    compute_predicted_violations,
    compute_regrets,
)
from experiments.report.measures.summary import Rate
from experiments.report.page import render_sections
from experiments.report.sections.distribution_shift import bin_results
from experiments.report.sections.section import flatten_record
from sim.scenes.scene import scenes
from sim.variation import Variation

SCENE = "logistics/tote-push"
STEPS = scenes[SCENE].episode_steps


def make_result(method: str, index: int, cost: float, success: bool = True, split: str = "test", **more: Any) -> EpisodeResult:
    """Make the result of an episode with a mean cost per step."""
    values = {
        "run": "r", "scene": SCENE, "layout_id": f"{split}-{index}", "split": split, "index": index, "seed": index,
        "method": method, "model": "graph" if "+" in method else "simulator" if "oracle" in method else "", "search": "mppi",
        "success": success, "violations": {} if success else {"robot_collision": True}, "steps": 90 if success else STEPS,
        "total_cost": cost * STEPS, "peak_force_n": 0.0, "decision_ms_p50": 50.0, "decision_ms_p95": 60.0,
        "decision_time_s": 4.0, "env_steps": 1000 if "+" in method else 0, "train_cpu_s": 100.0, "search_samples": 8,
        "search_iterations": 2, "search_horizon": 10, **more,
    }  # fmt: skip
    return EpisodeResult(**values)


def make_results(method: str, values: list[float], **more: Any) -> list[EpisodeResult]:
    return [make_result(method, index, value, **more) for index, value in enumerate(values)]


METHOD, ORACLE, LARGE_ORACLE = [1.0, 2.0, 3.0, 2.0], [0.8, 1.9, 2.5, 2.2], [0.7, 1.5, 2.5, 2.0]
COMPETITOR = [0.9, 1.2, 4.0, 2.5]  # best known in the second episode


def test_costs_are_in_metres() -> None:
    for scene in scenes:
        unit_m = scenes[scene].task.cost_unit_m
        assert get_cost_m(make_result("random", 0, 2.0, scene=scene), "total_cost") == pytest.approx(2.0 * STEPS * unit_m)
    assert len({scenes[scene].task.cost_unit_m for scene in scenes}) > 1, "all scenes have the same unit"


def test_regret_is_the_sum_of_its_parts() -> None:
    results = (
        make_results("graph+mppi", METHOD)
        + make_results("oracle", ORACLE)
        + make_results("oracle-large", LARGE_ORACLE, search_samples=64)
        + make_results("x", COMPETITOR)
    )
    (regret,) = compute_regrets(results)
    assert (regret.matched_oracle, regret.largest_oracle, regret.episodes) == ("oracle", "oracle-large", 4)
    best = np.minimum.reduce([METHOD, ORACLE, LARGE_ORACLE, COMPETITOR])
    assert regret.total[0] == pytest.approx(np.mean(METHOD) - best.mean())
    assert regret.parts[MODEL_ERROR].value == pytest.approx(np.mean(METHOD) - np.mean(ORACLE))
    assert regret.parts[SEARCH_ERROR].value == pytest.approx(np.mean(ORACLE) - np.mean(LARGE_ORACLE))
    assert regret.parts[REMAINDER].value == pytest.approx(np.mean(LARGE_ORACLE) - best.mean())
    assert sum(part.value for part in regret.parts.values()) == pytest.approx(regret.total[0], abs=1e-12)
    assert "no difference shown (smallest detectable: " in regret.parts[MODEL_ERROR].format_verdict()


def test_the_largest_oracle_with_enough_shared_episodes_is_the_reference() -> None:
    results = make_results("graph+mppi", METHOD * 5) + make_results("oracle", ORACLE * 5)
    for num_shared, reference in ((6, "oracle-large"), (2, "oracle")):
        (regret,) = compute_regrets(results + make_results("oracle-large", (LARGE_ORACLE * 2)[:num_shared], search_samples=64))
        assert (regret.largest_oracle, regret.episodes) == (reference, 6 if num_shared == 6 else 20)


def test_unknown_compute_costs_are_not_zero() -> None:
    (costs,) = compute_costs([make_result("graph+mppi", 0, 1.0, collect_cpu_s=0.0, data_bytes=0)])
    assert np.isnan([costs.collect_cpu_s, costs.data_bytes]).all()
    assert costs.train_cpu_s == 100


def test_model_and_search_error_are_joined_without_an_oracle_of_the_same_budget() -> None:
    (regret,) = compute_regrets(make_results("graph+mppi", METHOD) + make_results("oracle", ORACLE, search_samples=48))
    assert list(regret.parts) == [MODEL_AND_SEARCH_ERROR, REMAINDER]
    (regret,) = compute_regrets(make_results("graph+mppi", METHOD) + make_results("oracle", ORACLE))
    assert list(regret.parts) == [MODEL_ERROR, REMAINDER]
    assert compute_regrets(make_results("graph+mppi", METHOD)) == []


def test_parts_add_up_over_several_trainings_and_missing_episodes() -> None:
    method = make_results("graph+mppi", METHOD, train_seed=0) + make_results("graph+mppi", [2.0, 2.5, 3.5], train_seed=1)
    (regret,) = compute_regrets(method + make_results("oracle", ORACLE))
    assert regret.trainings == 2
    assert sum(part.value for part in regret.parts.values()) == pytest.approx(regret.total[0], abs=1e-12)
    mean = (1.5 + 2.25 + 3.25 + 2.0) / 4
    assert regret.parts[MODEL_ERROR].value == pytest.approx(mean - np.mean(ORACLE))


def test_an_unsolved_episode_costs_until_its_end() -> None:
    assert compute_episode_cost(make_result("a", 0, 3.0, success=False)) == pytest.approx(3.0)


def test_exploitation_is_the_excess_gap_of_chosen_plans_over_random_plans() -> None:
    rng = np.random.default_rng(0)
    results = []
    for index, noise in enumerate(rng.normal(0, 0.05, 20)):
        values = {"predicted_cost": 2.0, "realised_cost": 2.5 + noise, "random_predicted_cost": 4.0, "random_realised_cost": 4.0}
        results.append(make_result("graph+mppi", index, 1.0, **values, disagreement=0.02, random_disagreement=0.01))
    (exploitation,) = compute_exploitation([*results, make_result("oracle", 0, 1.0)])
    assert exploitation.excess_gap.is_significant
    assert exploitation.excess_gap.value == pytest.approx(0.5, abs=0.05)
    assert exploitation.random_gap.value == 0
    assert not exploitation.random_gap.is_significant
    assert (exploitation.disagreement_mm, exploitation.random_disagreement_mm) == pytest.approx((20, 10))
    assert compute_exploitation([make_result("graph+mppi", 0, 1.0)]) == []  # a result of an older version


def test_predicted_violations_are_counted_by_kind_and_method() -> None:
    contact = {"static_contact": PlanCounts(predicted=3, realised=4, both=2, expected=3.0)}
    near = {"person_too_close": PlanCounts(predicted=0, realised=1, both=0, expected=0.4)}
    groups = (("a+x", contact), ("b+x", contact | near))
    results = [make_result(method, index, 1.0, plans_checked=10, plans=plans) for method, plans in groups for index in range(5)]
    records = {(record.kind, record.method): record for record in compute_predicted_violations(results)}
    assert set(records) == {("static_contact", "a+x"), ("static_contact", "b+x"), ("person_too_close", "b+x")}
    record = records["static_contact", "a+x"]
    shares = (record.predicted_share[0], record.realised_share[0], record.missed_share[0], record.false_alarm_share[0])
    assert shares == pytest.approx((0.3, 0.4, 0.5, 1 / 3))
    near_record = records["person_too_close", "b+x"]
    assert (near_record.predicted_share[0], near_record.missed_share[0]) == (pytest.approx(0.04), 1)


def test_results_of_version_1_use_predicted_counts_where_the_mean_over_particles_is_missing() -> None:
    record = make_result("a+x", 0, 1.0).to_record() | {"plans_checked": 10, "agent": "a+x", "decide_s": 4.0}
    record |= {"plans_touching_predicted": 3, "plans_touching_realised": 4, "plans_touching_both": 2}
    old = {name: value for name, value in record.items() if "/" not in name and name not in ("method", "decision_time_s")}
    assert EpisodeResult.from_record(old, version=1).plans["static_contact"] == PlanCounts(3, 4, 2, 3.0)
    old["plans_touching_expected"] = 2.5
    assert EpisodeResult.from_record(old, version=1).plans["static_contact"].expected == 2.5


def test_a_quantity_with_few_values_has_one_bin_per_value() -> None:
    few = [
        make_result("a", index, 1.0, success=index % 3 > 0, variation=Variation(latency_steps=index % 3)) for index in range(24)
    ]
    bins = bin_results(few, lambda result: result.variation.latency_steps, "latency")
    summary = {item.median: (item.low, item.high, item.success.value) for item in bins}
    assert summary == {0: (0, 0, 0.0), 1: (1, 1, 1.0), 2: (2, 2, 1.0)}
    many = [make_result("a", index, 1.0, variation=Variation(load_friction=index / 100)) for index in range(24)]
    bins = bin_results(many, lambda result: result.variation.load_friction, "friction")
    assert [item.safe_success.total for item in bins] == [6, 6, 6, 6]


def test_training_costs_count_once_and_are_divided_by_successes() -> None:
    results = [make_result("graph+mppi", index, 1.0, success=index < 2, collect_cpu_s=40.0, data_bytes=7) for index in range(4)]
    (costs,) = compute_costs(results)
    assert (costs.collect_cpu_s, costs.train_cpu_s, costs.decision_s, costs.data_bytes) == (40, 60, 4, 7)
    assert costs.decision_s_per_success == pytest.approx(8)
    assert costs.total_s_per_success == pytest.approx((100 + 16) / 2)
    (none,) = compute_costs([make_result("random", 0, 5.0, success=False)])
    assert none.total_s_per_success == float("inf")


def test_the_pareto_front_contains_the_points_that_none_dominates() -> None:
    points = [(1.0, 0.2), (2.0, 0.5), (2.0, 0.6), (3.0, 0.6), (4.0, 0.9), (0.5, 0.1)]
    assert find_pareto_front(points) == [5, 0, 2, 4]


def test_sample_efficiency_is_grouped_by_method_over_trainings() -> None:
    results = []
    for steps, share in ((1000, 1), (4000, 3)):
        values = {"env_steps": steps, "family": "graph+mppi"}
        for seed, index in ((seed, index) for seed in (0, 1) for index in range(8)):
            success = (index + seed) % 4 < share
            results.append(make_result(f"graph+mppi-{steps}", index, 1.0, success, train_seed=seed, **values))
    few, many = compute_efficiency(results)
    assert (few.method_family, few.env_steps, few.trainings, few.success.value) == ("graph+mppi", 1000, 2, 0.25)
    assert many.success.value == 0.75
    assert many.success.interval[0] < 0.75 < many.success.interval[1]
    assert compute_efficiency(make_results("random", [1.0])) == []


def test_aggregates_contain_the_probability_of_improvement_of_the_best() -> None:
    lower, higher = [1.0 + 0.1 * i for i in range(8)], [2.0 + 0.1 * i for i in range(8)]
    best, second = compute_aggregates(make_results("a", lower) + make_results("b", higher))
    assert (best.cost[0], best.improvement_probability, best.verdict) == (pytest.approx(1.35), None, "–")
    assert second.improvement_probability == (1, 1, 1)
    assert second.verdict == "lower cost"
    _, few = compute_aggregates(make_results("a", lower[:3]) + make_results("b", higher[:3]))
    assert few.verdict.startswith("no difference shown")
    _, same = compute_aggregates(make_results("a", lower) + make_results("b", lower))
    assert same.improvement_probability == (0.5, 0.5, 0.5)


def test_records_are_formatted_as_csv() -> None:
    (costs,) = compute_costs([make_result("random, <b>", 0, 5.0, success=False, collect_cpu_s=None)])
    record = flatten_record(costs)
    assert (record["success"], record["success_low"]) == (0.0, 0.0)
    lines = format_csv([record, {"method": "x", "more": 1}]).splitlines()
    assert lines[0].startswith("method,episodes,safe_success,safe_success_low,safe_success_high,")
    assert lines[0].endswith(",more")
    assert '"random, <b>"' in lines[1]
    assert "nan" not in lines[1]
    assert Rate(1, 2, 2, 2).value == 0.5


SECTIONS = (
    "results", "success", "differences", "regret", "exploitation", "distance", "physics", "compute-costs", "predicted-violations",
    "profiles", "aggregates", "plan-costs", "violations",
)  # fmt: skip


def make_audited_results(**more: Any) -> list[EpisodeResult]:
    results = [
        make_result("graph+mppi", index, 1.0, variation=Variation(load_friction=0.1 * index), **more) for index in range(10)
    ]
    return results + [make_result("oracle", index, 0.9, variation=Variation(load_friction=0.1 * index)) for index in range(3)]


def test_every_section_has_its_csv_file_and_its_command() -> None:
    plans = {"static_contact": PlanCounts(3, 4, 2, 3.0)}
    plan_costs = {"predicted_cost": 2.0, "realised_cost": 2.5, "random_predicted_cost": 4.0, "random_realised_cost": 4.0}
    results = make_audited_results(training_distance=2.0, plans_checked=10, plans=plans, **plan_costs)
    sections = render_sections(results, [], "ground report a<b")
    assert len(sections) == len(SECTIONS)
    for name, html in zip(SECTIONS, sections, strict=True):
        assert f'download="{name}.csv" href="data:text/csv' in html
        assert "ground report a&lt;b" in html
        assert (f'id="plot-{name}-0"' in html) == (name not in ("aggregates", "results", "differences", "violations"))
    assert "Not shown: no method&#x27;s chosen plans" in sections[4] or "Yes: chosen plans exceed" in sections[4]
    assert "Not all: of the plans that lead to a violation, 50 % are missed" in sections[8]
    old = make_audited_results(search_samples=None)
    assert len(render_sections(old, [], "x")) == len(SECTIONS) - 4  # neither plans nor distances
    assert render_sections([], [], "x") == []


def test_unequal_budgets_are_noted() -> None:
    results = (
        make_results("graph+mppi", METHOD)
        + make_results("oracle", ORACLE[:2], search_samples=48)
        + make_results("mlp+mppi", METHOD, env_steps=5000)
    )
    search, experience, episodes = make_notes(results)
    assert "8 × 2 × 10: graph+mppi, mlp+mppi; 48 × 2 × 10: oracle" in search
    assert "1,000: graph+mppi; 5,000: mlp+mppi" in experience
    assert "oracle 2 of 4" in episodes
    assert make_notes(make_results("graph+mppi", METHOD)) == []
