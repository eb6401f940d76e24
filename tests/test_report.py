import csv
import io
import json
import re
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from agents.planning.spec import PlannerSpec
from experiments.evaluation.results import EpisodeResult
from experiments.report.build import _make_title, _merge_open_loop_errors
from experiments.report.export import export_results
from experiments.report.figures.plots import assign_colours
from experiments.report.figures.topdown import describe_colours, make_layout_figure, render_episode_panels, save_layout_image
from experiments.report.loading import LoadedResults, StoredResult, read_runs
from experiments.report.measures.comparability import check_comparable, make_notes
from experiments.report.measures.comparison import (
    ALL_SPLITS,
    build_answers,
    compare_methods,
    compare_pair,
    format_headline,
    make_comparison_table,
)
from experiments.report.measures.costs import compute_efficiency
from experiments.report.measures.summary import (
    find_best_planner,
    format_summary_csv,
    format_summary_markdown,
    make_summary_records,
    make_summary_table,
    select_first_split,
    select_full_data_results,
    summarise,
)
from experiments.report.page import render_facts_section, render_panels_section, render_recordings_section, write_report
from experiments.report.scene_table import format_scenes, make_scene_rows, make_scenes_table
from experiments.report.sections.distribution_shift import build_physics_section
from experiments.report.sections.results import render_indicators_section
from experiments.report.sections.violations import describe_failure, render_failures_section, select_failures
from experiments.report.terms import TERMS, link_terms
from experiments.viewer.drawing.recording import save_recording
from experiments.viewer.recordings import make_policies
from experiments.viewer.replay.replay import Replay
from sim.data.episode import Episode, EpisodeSource
from sim.data.store import write_shard
from sim.geometry.rotations import yaw_to_quaternion
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import LOAD_HALF_M, sample_layout
from sim.utils.errors import GroundError
from sim.utils.files import write_json
from sim.variation import Variation

SCENE = "logistics/tote-push"
HOSTILE = '<script>alert("x")</script>|$y_$'
METHODS = {"graph+mppi": 8, "scripted": 6, "random": 0, "oracle": 10, HOSTILE: 3}  # number of successes in 10 episodes


def make_episode(split: str = "test", index: int = 0, steps: int = 20) -> Episode:
    """Make an episode without simulation: the robot and the first load slide to the goal and rotate."""
    layout: Layout = sample_layout(split, index)
    start = np.array([(pose.x, pose.y, pose.yaw) for pose in (layout.robot, *layout.loads)])
    share = np.linspace(0, 1, steps + 1)[:, None, None]
    target = start.copy()
    target[:2] = layout.goal.x, layout.goal.y, 1.0
    poses = (1 - share) * start + share * target
    heights = np.full((*poses.shape[:2], 1), LOAD_HALF_M[2])
    results = steps + 1
    return Episode(
        layout=layout,
        source=EpisodeSource(SCENE, 0),
        behaviour="made up",
        variation=Variation(),
        half_extents=np.array([(0.3, 0.3, 0.15), *[LOAD_HALF_M] * len(layout.loads)]),
        pose=np.concatenate([poses[..., :2], heights, yaw_to_quaternion(poses[..., 2])], axis=-1),
        twist=np.zeros((results, len(start), 6)),
        action=np.zeros((results, 2)),
        cost=np.zeros(results),
        touching=np.zeros(results, bool),
        static_force_n=np.zeros(results),
        success=True,
    )


def make_result(method: str, split: str, index: int, success: bool, **changes: Any) -> EpisodeResult:
    """Make the result of an episode; episodes of odd index have a violation."""
    has_plans = "+" in method
    values: dict[str, Any] = {
        "run": "demo", "scene": SCENE, "layout_id": f"{split}-{index}", "split": split, "index": index, "seed": index,
        "method": method, "model": method.split("+")[0], "search": "mppi", "success": success, "steps": 100 + index,
        "violations": {"robot_collision": index % 2 == 1, "load_tipped": False, "robot_outside_hall": False},
        "total_cost": 12.0, "peak_force_n": 60.0, "decision_ms_p50": 40.0, "decision_ms_p95": 55.0, "decision_time_s": 4.0,
        "predicted_cost": 3.0 if has_plans else None, "realised_cost": 3.5 if has_plans else None,
        "env_steps": 60_000 if has_plans else 0, "train_cpu_s": 900.0 if has_plans else 0.0,
    }  # fmt: skip
    return EpisodeResult(**{**values, **changes})


def make_safe_result(*args: Any, **changes: Any) -> EpisodeResult:
    return make_result(*args, **{"violations": {}, **changes})


def store(results: list[EpisodeResult], path: Path) -> list[StoredResult]:
    """Write episode files for results."""
    stored = [StoredResult(result, path, path / f"{result.method}-{result.split}-{result.index}.parquet") for result in results]
    for item in stored:
        episode = make_episode(index=item.result.index)
        write_shard(item.file, [episode], first_episode=item.result.index, num_bodies=episode.pose.shape[1])
    return stored


@pytest.fixture
def results() -> list[EpisodeResult]:
    splits = ("shift-more-racks", "test")
    return [
        make_result(method, split, i, i < solved) for split in splits for method, solved in METHODS.items() for i in range(10)
    ]


OPEN_LOOP_ERRORS = [
    {
        "model": model, "horizon_s": horizon, "n": 50, "body_mm_median": 10.0 * horizon, "body_mm_p90": 30.0 * horizon,
        "body_deg_median": 2.0, "robot_mm_median": 5.0, "robot_deg_median": 1.0, "moved_m_median": 0.4,
        "body_relative_median": 0.03,
    }
    for model in ("graph", HOSTILE) for horizon in (0.5, 1.0, 2.0)
]  # fmt: skip


def test_summary_puts_test_first_and_ranks_methods_with_the_oracle_last(results: list[EpisodeResult]) -> None:
    summaries = summarise(results)
    ranked = ["graph+mppi", "scripted", HOSTILE, "random", "oracle"]
    assert [(s.split, s.method) for s in summaries] == [
        (split, method) for split in ("test", "shift-more-racks") for method in ranked
    ]
    first = summaries[0]
    assert (first.success.count, first.success.total, first.safe_success.count, first.steps) == (8, 10, 4, 103.5)
    assert first.success.interval == pytest.approx((0.490, 0.943), abs=1e-3)
    assert first.cells == ("graph+mppi", "10", "40 % [17–69]", "80 % [49–94]", "103.5", "40.0 / 55.0", "60,000", "900")
    assert first.violations == {"robot_collision": 5}
    assert summaries[3].cells[2:5] == ("0 % [0–28]", "0 % [0–28]", "–")


def test_headline_names_the_two_best_methods_and_their_paired_difference(results: list[EpisodeResult]) -> None:
    sentence = format_headline(results)
    assert sentence.startswith("On split test, graph+mppi is best: 4 of 10 safe successes (40 %, 95 %")
    assert "8 successes in all" in sentence
    assert "next is scripted with 3 of 10" in sentence
    assert "paired difference of 10 percentage points" in sentence
    answers = dict(build_answers(results))
    assert answers["Certainty"] == (
        "significantly better than scripted on 0 of 2 splits; one training of graph+mppi: another training may do better or worse"
    )
    cost = "graph+mppi: 60,000 env steps, 15 CPU-minutes, 40 ms per decision; scripted: no data, 40 ms per decision"
    assert answers["Cost"] == cost
    assert "of its 20 episodes on all splits 4 unsolved; violations: robot collision 10" in answers["Weakest split"]
    assert build_answers([]) == []
    assert "oracle" not in sentence
    assert format_headline([]) == "No episode was evaluated."
    assert "no other method" in format_headline([make_result("random", "test", 0, True)])


def test_headline_adds_the_verdict_over_all_splits_where_the_first_split_shows_no_difference() -> None:
    splits = ("test", "shift-a", "shift-b", "shift-c")
    results = [
        make_safe_result(method, split, i, method == "a" or i >= 3) for method in ("a", "b") for split in splits for i in range(8)
    ]
    sentence = format_headline(results)
    assert "no difference shown" in sentence
    assert sentence.endswith(
        "Over all splits together (32 shared episodes) the verdict is: a is better; 32 episodes show smaller differences than 8."
    )
    assert "Over all splits" not in format_headline([result for result in results if result.split == "test"])


def test_level_methods_share_the_first_place_and_the_next_is_worse() -> None:
    steps = {"a+cem": 9, "a+mppi": 0, "scripted": 0}  # a+cem is slower
    results = [
        make_safe_result(method, "test", i, method != "scripted" or i < 2, steps=100 + num_extra)
        for method, num_extra in steps.items()
        for i in range(12)
    ]
    sentence, answers = format_headline(results), dict(build_answers(results))
    assert sentence.startswith("On split test, a+mppi and a+cem are best and level, in order of speed: each 100 % [76–100]")
    assert "next is scripted with 2 of 12" in sentence
    assert sentence.endswith("a+mppi is better.")
    assert answers["Certainty"].startswith("2 methods are level: no difference shown (smallest detectable: ")
    assert "significantly better than scripted on 1 of 1 splits" in answers["Certainty"]
    assert "methods with equal rates: 40 ms; scripted: " in answers["Cost"]
    level = [result for result in results if result.method != "scripted"]
    assert format_headline(level).endswith("there is no other method to compare with.")
    assert "next is" not in format_headline(level)
    assert find_best_planner(results) == "a+mppi"


def test_methods_with_several_trainings_can_be_level_with_a_method_of_one_training() -> None:
    results = [
        make_safe_result(method, "test", i, True, steps=steps, train_seed=seed)
        for method, steps, seeds in (("a+mppi", 60, 3), ("b+mppi", 61, 1), ("c+mppi", 62, 3))
        for seed in range(seeds)
        for i in range(16)
    ]
    sentence = format_headline(results)
    assert sentence.startswith("On split test, a+mppi, b+mppi and c+mppi are best and level")
    assert "next is" not in sentence


def test_one_failure_does_not_narrow_the_interval() -> None:
    planner_results = [make_result("a+x", "test", 2 * i, True, train_seed=s) for s in range(3) for i in range(16)]
    baseline = [make_result("b", "test", 2 * i, False) for i in range(16)]
    all_solved = compare_pair([*planner_results, *baseline], "test", "a+x", "b")
    one_unsafe = compare_pair(
        [replace(planner_results[0], violations={"x": True}), *planner_results[1:], *baseline], "test", "a+x", "b"
    )
    assert all_solved is not None
    assert one_unsafe is not None
    assert one_unsafe.safe_success.interval[1] < all_solved.safe_success.interval[1]
    assert one_unsafe.safe_success.interval[2] - one_unsafe.safe_success.interval[1] > 20


def test_untrained_methods_are_one_sample_over_all_runs() -> None:
    planner_results = [make_result("a+x", "test", i, i < 15, train_seed=0) for i in range(16)]
    baseline = [make_result("b", "test", i, i < 4, run="one" if i < 8 else "other") for i in range(16)]
    same_run = [replace(result, run="one") for result in baseline]
    assert compare_pair([*planner_results, *baseline], "test", "a+x", "b") == compare_pair(
        [*planner_results, *same_run], "test", "a+x", "b"
    )


def test_methods_are_ranked_by_the_lower_bound_of_their_success() -> None:
    results = [make_result("few", "test", i, True) for i in range(3)] + [
        make_result("many", "test", i, i < 95) for i in range(100)
    ]
    assert [summary.method for summary in summarise(results)] == ["many", "few"]
    comparisons = {comparison.split: comparison for comparison in compare_methods(results)}
    assert set(comparisons) == {ALL_SPLITS, "test"}
    pooled = comparisons[ALL_SPLITS]
    assert (pooled.method_a, pooled.method_b, pooled.episodes) == ("many", "few", 3)
    assert pooled.verdict == pooled.cells[-1] == "no difference shown (smallest detectable: none)"


def test_methods_are_compared_on_their_shared_episodes(results: list[EpisodeResult]) -> None:
    comparisons = compare_methods(results)
    assert [(comparison.split, comparison.episodes) for comparison in comparisons[:: len(METHODS) - 1]] == [
        (ALL_SPLITS, 20),
        ("test", 10),
        ("shift-more-racks", 10),
    ]
    assert {comparison.method_a for comparison in comparisons} == {"graph+mppi"}
    oracle = compare_pair(results, ALL_SPLITS, "graph+mppi", "oracle")
    assert oracle is not None
    assert oracle.success.interval[0] == pytest.approx(-20)
    assert oracle.success.interval[1] < 0 < -oracle.success.interval[0]
    worst = compare_pair(results, ALL_SPLITS, "random", "oracle")
    assert worst is not None
    assert (worst.verdict, worst.cells[-1]) == ("oracle is better", "oracle solves more")
    assert compare_pair(results, ALL_SPLITS, "graph+mppi", "nobody") is None
    twice = compare_pair([*results, *results], ALL_SPLITS, "graph+mppi", "oracle")  # a repeated episode counts once
    assert twice is not None
    assert (twice.episodes, twice.safe_success.p_value) == (oracle.episodes, oracle.safe_success.p_value)


def test_several_trainings_are_one_sample_each(results: list[EpisodeResult]) -> None:
    method, baseline = "graph+mppi", "random"
    good, bad = ([make_result(method, "test", i, i < n, train_seed=seed) for i in range(10)] for seed, n in ((0, 9), (1, 1)))
    comparison = compare_pair([*results, *bad], "test", method, baseline)
    assert comparison is not None
    assert comparison.episodes == 10
    untrained = [result for result in results if result.method == baseline]
    spread = compare_pair(
        [*good, *bad, *untrained], "test", method, baseline
    )  # one training solves nearly all, the other nearly none
    assert spread is not None
    assert spread.success.interval[0] == pytest.approx(50)
    assert spread.success.interval[1] < 20


def test_trainings_on_the_same_layouts_do_not_add_independent_layouts(results: list[EpisodeResult]) -> None:
    planner_results = [result for result in results if result.method == "graph+mppi" and result.split == "test"]
    three = [replace(result, train_seed=seed) for seed in range(3) for result in planner_results]
    (once,), (all_three,) = summarise(three[:10]), summarise(three)
    assert all_three.cells[1] == "3 × 10"
    assert all_three.safe_success.count == 3 * once.safe_success.count
    assert all_three.safe_success.interval == pytest.approx(once.safe_success.interval)


def test_full_data_results_exclude_methods_trained_on_a_part_of_the_data(results: list[EpisodeResult]) -> None:
    steps = {"graph+mppi": 40_000, "graph+mppi-5k": 5_000, "ppo": 40_000, "ppo-400k": 400_000, "ppo-5k": 5_000, "random": 0}
    partial = [
        make_result(method, "test", 0, True, env_steps=num_steps, family=method.split("-")[0])
        for method, num_steps in steps.items()
    ]
    assert [result.method for result in select_full_data_results(partial)] == ["graph+mppi", "ppo", "ppo-400k", "random"]
    assert select_full_data_results(results) == results  # results of an old version lack the family


def test_equal_outcomes_of_several_trainings_do_not_exclude_a_difference() -> None:
    results = [
        make_result(method, "test", 2 * i, True, train_seed=s) for method in ("a+x", "b+x") for s in range(3) for i in range(16)
    ]
    comparison = compare_pair(results, "test", "a+x", "b+x")
    assert comparison is not None
    assert comparison.safe_success.interval[1] < -10 < 10 < comparison.safe_success.interval[2]
    assert comparison.verdict == "no difference shown (smallest detectable: 45 points)"


def export(results: list[EpisodeResult], name: str, path: Path) -> Path:
    write_json(path / name / "config.json", {"name": name})
    export_results(path / name, results, path / "exported" / name)
    return path / "exported" / name


def test_runs_keep_trained_methods_apart_and_share_untrained_methods(results: list[EpisodeResult], tmp_path: Path) -> None:
    subset = [result for result in results if result.method in ("graph+mppi", "scripted")]
    loaded = read_runs([export(results, "one", tmp_path), export(subset, "two", tmp_path)])
    counts = Counter(result.method for result in loaded.results)
    assert counts["graph+mppi (one)"] == counts["graph+mppi (two)"] == counts["scripted"] == counts["oracle"] == 20
    assert "graph+mppi" not in counts
    assert len({item.file for item in loaded.stored}) == len(loaded.stored)


def test_runs_with_equal_names_are_different_runs(results: list[EpisodeResult]) -> None:
    with pytest.raises(GroundError, match="shares no episode with the other runs"):
        check_comparable({"a/demo": results, "b/demo": [replace(result, seed=result.seed + 50) for result in results]})


def test_methods_without_a_shared_episode_are_named() -> None:
    results = [make_result("a", "test", i, True) for i in range(4)] + [make_result("b", "test", i, False) for i in range(4, 9)]
    assert any("No episode is shared with a by b" in note for note in make_notes(results))
    assert format_headline(results).endswith("share no episode: they cannot be compared.")
    assert not any("No episode is shared" in note for note in make_notes(results[:4]))


def test_training_distances_are_per_run(results: list[EpisodeResult], tmp_path: Path) -> None:
    planner_results = [result for result in results if result.method == "graph+mppi"]
    exports = [
        export([replace(result, training_distance=distance) for result in planner_results], name, tmp_path)
        for name, distance in (("one", 1.0), ("two", 5.0))
    ]
    loaded = read_runs(exports).results
    assert {(result.method, result.training_distance) for result in loaded} == {
        ("graph+mppi (one)", 1.0),
        ("graph+mppi (two)", 5.0),
    }


def test_models_of_several_runs_have_the_run_in_their_label_and_an_equal_baseline_is_listed_once() -> None:
    graph, baseline = ({"model": name, "horizon_s": 2.0, "body_mm_median": 20.0} for name in ("graph", "constant-velocity"))
    errors = {Path("a/one"): [graph, baseline], Path("a/two"): [{**graph, "body_mm_median": 9.0}, baseline]}
    merged = [(line["model"], line["body_mm_median"]) for line in _merge_open_loop_errors(errors)]
    assert merged == [("graph (one)", 20.0), ("graph (two)", 9.0), ("constant-velocity", 20.0)]
    assert [line["model"] for line in _merge_open_loop_errors({Path("one"): [graph, baseline]})] == ["graph", "constant-velocity"]


def test_methods_of_several_runs_have_separate_efficiency_curves(results: list[EpisodeResult], tmp_path: Path) -> None:
    planner_results = [replace(result, family="graph+mppi") for result in results if result.method == "graph+mppi"]
    part = [replace(result, method="graph+mppi-5k", env_steps=5000) for result in planner_results]
    loaded = read_runs([export(planner_results, "one", tmp_path), export([*planner_results, *part], "two", tmp_path)]).results
    families = {point.method: point.method_family for point in compute_efficiency(select_first_split(loaded))}
    assert families["graph+mppi-5k (two)"] == families["graph+mppi (two)"] != families["graph+mppi (one)"]
    assert {result.method for result in select_full_data_results(loaded)} == {"graph+mppi (one)", "graph+mppi (two)"}


FAULTS = [
    ({"scene": "factory/push-fixture"}, "other in factory/push-fixture; demo in logistics/tote-push: name runs of one scene"),
    (
        {"layout_id": "else"},
        r"test/0 is another layout for scripted in other than for graph\+mppi in demo: .* evaluate the older",
    ),
    (
        {"variation": Variation(load_friction=0.9)},
        "another load_friction .* different protocols cannot be compared: evaluate both",
    ),
    ({"seed": 99}, r"shares no episode with the other runs \(the same layouts, but with other seeds\): evaluate all"),
    ({"split": "val", "layout_id": "v"}, r"shares no episode .* \(no layout in common\)"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_results_that_cannot_be_compared_are_refused_with_the_reason(
    results: list[EpisodeResult], change: dict[str, Any], message: str
) -> None:
    other_run_result = make_result("scripted", "test", 0, True, run="other")
    check_comparable({"demo": results, "other": [other_run_result]})
    with pytest.raises(GroundError, match=message):
        check_comparable({"demo": results, "other": [replace(other_run_result, **change)]})


def test_physics_section_has_a_plot_for_each_varied_quantity_with_enough_episodes() -> None:
    def vary(number: int) -> EpisodeResult:
        variation = Variation(load_mass_kg=4.0 + number, traffic_speed=float(number % 2))
        return make_result("graph+mppi", "test", number, True, variation=variation)

    results = [vary(number) for number in range(40)]
    section = build_physics_section(results, assign_colours(results))
    assert section is not None
    assert {item.quantity.split(": ")[1].split(",")[0] for item in section.items} == {"load mass [kg]", "traffic speed"}
    assert sum(item.episodes for item in section.items) == 2 * 40
    assert len(section.figures) == 2
    assert build_physics_section(results[:4], assign_colours(results)) is None, "an empty plot was made"


def test_failures_begin_with_the_worst_and_name_better_methods(results: list[EpisodeResult], tmp_path: Path) -> None:
    stored = store([result for result in results if result.method == "graph+mppi" and result.split == "test"], tmp_path)
    failures = select_failures(stored)
    selected = [item.result for item in failures]
    assert [result.index for result in selected[:2]] == [8, 9]
    assert all(result.success and not result.safe_success for result in selected[2:])
    assert describe_failure(selected[0], results) == "unsolved after 108 steps; safe success of oracle"
    assert "robot collision, 60 N" in describe_failure(selected[1], results)
    html = render_failures_section("graph+mppi", stored, results, {failures[0].file: "recordings/a.html"})
    assert html.count("<figure>") == len(failures)
    assert html.count("watch in 3-D") == 1
    assert render_failures_section("x", [item for item in stored if item.result.safe_success], results, {}) == ""


def test_summaries_are_written_as_csv_and_json(results: list[EpisodeResult]) -> None:
    records = list(csv.DictReader(io.StringIO(format_summary_csv(results))))
    assert len(records) == 2 * len(METHODS)
    assert (records[0]["method"], float(records[0]["success"])) == ("graph+mppi", 0.8)
    assert list(records[0]).index("safe_success") < list(records[0]).index("success")
    assert records[0]["search_samples"] == ""
    assert HOSTILE in {record["method"] for record in records}
    plain = json.loads(json.dumps(make_summary_records(results), allow_nan=False))
    assert [record["method"] for record in plain] == [record["method"] for record in records]
    assert next(record for record in plain if record["method"] == "random")["steps"] is None
    assert format_summary_csv([]).strip() == ""


def test_indicators_of_a_scene_are_in_the_report_csv_and_json(results: list[EpisodeResult], tmp_path: Path) -> None:
    scene = "logistics/aisle-traffic"
    indicator_set = scenes[scene].indicators
    assert indicator_set is not None
    older = [replace(result, scene=scene) for result in results]
    newer = [replace(result, indicators={name: float(result.index) for name in indicator_set.descriptions}) for result in older]
    (name, description), *_ = indicator_set.descriptions.items()
    html = render_indicators_section(newer, "ground report x")
    assert description in html
    assert "4.50 [2.00, 7.00]" in html
    record = json.loads(json.dumps(make_summary_records(newer), allow_nan=False))[0]
    assert (record[f"{name}_q25"], record[name], record[f"{name}_q75"]) == (2.25, 4.5, 6.75)
    assert f"{name}_q75" in format_summary_csv([*older[:3], *newer]).splitlines()[0]
    assert render_indicators_section(results, "x") == render_indicators_section(older, "x") == ""
    write_report(tmp_path / "report.html", "x", newer, OPEN_LOOP_ERRORS, "ground report x")
    text = (tmp_path / "report.html").read_text().rpartition("</script>")[2]
    assert "Indicators of the scene" in (tmp_path / "report.html").read_text()
    assert " load" not in text.lower()


def test_colours_are_described_for_the_bodies_of_a_layout() -> None:
    tote_push, traffic = (scenes[name] for name in (SCENE, "logistics/aisle-traffic"))
    assert describe_colours(tote_push, [sample_layout("test", 0)]).startswith("Colours: robot blue, tote orange, goal green;")
    layout = next(layout for i in range(20) if (layout := traffic.sample_layout("test", i)).traffic)
    assert "tote" not in describe_colours(traffic, [layout])
    assert "person pink" in describe_colours(traffic, [layout])


def test_a_method_its_family_and_its_model_have_one_colour(results: list[EpisodeResult]) -> None:
    part = make_result("td3-5k", "test", 0, True, family="td3")
    colours = assign_colours([*results, part], ["graph", "constant-velocity"])
    assert colours["graph"] == colours["graph+mppi"]
    assert colours["td3"] == colours["td3-5k"]
    assert colours["graph+mppi"] == assign_colours(results[:10])["graph+mppi"], "colours differ between pages"
    assert len({colours[name] for name in METHODS}) == len(METHODS)


def test_plain_tables_contain_every_method_and_its_violations(results: list[EpisodeResult]) -> None:
    lines = format_summary_markdown(results).splitlines()
    assert len(lines) == 2 + 2 * len(METHODS)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}
    console = Console(width=220)
    with console.capture() as captured:
        console.print(make_summary_table(results), make_comparison_table(results))
    assert captured.get().count("graph+mppi − ") == len(METHODS) - 1
    assert all(method in captured.get() for method in METHODS)
    assert "robot collision 5" in captured.get()


def make_hall_results(count: int = 1) -> list[EpisodeResult]:
    """Make results in a custom layout, where scripted is better."""
    hall = {"layout_name": "north hall", "layout_id": "abcdef0123456789"}
    return [
        make_safe_result(method, "own-abcdef0123456789", index, not model, model=model, **hall)
        for method, model in (("graph+mppi", "graph"), ("scripted", ""))
        for index in range(count)
    ]


def test_a_custom_layout_has_its_name_and_its_verdict_comes_first(tmp_path: Path) -> None:
    results = make_hall_results(40)
    sentence = format_headline(results)
    assert sentence.startswith("graph+mppi in north hall (abcdef01): unsafe: 0 of 40 episodes are safe successes")
    assert "In north hall (abcdef01), scripted is best" in sentence
    one_success = [replace(result, success=True) for result in make_hall_results()]
    assert "): not enough evidence: 1 of 1" in format_headline(one_success)
    assert "35 episodes at this rate would be enough" in format_headline(one_success)
    loaded = LoadedResults((tmp_path,), [StoredResult(result, tmp_path, tmp_path) for result in results], [], {})
    assert _make_title(loaded) == f"north hall (abcdef01): {SCENE}"
    write_report(tmp_path / "report.html", "x", results, [], "ground report x")
    text = (tmp_path / "report.html").read_text().rpartition("plotly.js v")[2]
    assert "<h3>north hall (abcdef01)</h3>" in text
    assert ">own-abcdef" not in text


def test_custom_layouts_do_not_enter_the_headline_and_pooled_differences(results: list[EpisodeResult]) -> None:
    combined = [*results, *make_hall_results(30)]
    assert format_headline(combined) == format_headline(results)
    assert build_answers(combined) == build_answers(results)
    assert compare_methods(combined) == compare_methods(results)
    assert make_notes(combined) == make_notes(results)
    assert "north hall (abcdef01)" in format_summary_markdown(combined)


def test_the_first_mention_of_a_term_shows_its_definition() -> None:
    html, terms = link_terms(
        '<p class="success">safe successes &amp; success</p><td>oracle</td><script>cost</script><p>success</p>'
    )
    assert terms == ["success", "safe success"]
    assert html.count(f'title="safe success: {TERMS["safe success"].definition}"') == 1
    assert html.count("<a ") == 2
    assert "<td>oracle</td><script>cost</script><p>success</p>" in html


def test_runs_of_several_scenes_in_one_table(results: list[EpisodeResult]) -> None:
    baseline = [make_result("static+mppi", "test", 0, True, model="graph", family="static+mppi")]
    traffic_results = [replace(result, scene="logistics/aisle-traffic") for result in results]
    shifted = [result for result in traffic_results if result.split == "shift-more-racks"]
    runs = [make_scene_rows(select_first_split(items), OPEN_LOOP_ERRORS) for items in ([*results, *baseline], shifted, results)]
    errors = {line.summary.method: line.cells[-1] for line in runs[0]}
    part = make_result("graph+mppi-5k", "test", 0, True, family="graph+mppi")
    assert [line.cells[-1] for line in make_scene_rows([part], OPEN_LOOP_ERRORS)] == [""], (
        "open-loop errors are of models trained on all data"
    )
    assert errors == {
        method: "load 20 of 400 mm" if method in ("graph+mppi", HOSTILE) else "" for method in (*METHODS, "static+mppi")
    }
    assert {line.summary.split for run in (runs[0], runs[2]) for line in run} == {"test"}
    assert {line.cells[0] for line in runs[1]} == {"logistics/aisle-traffic, shift-more-racks"}
    assert [line.cells[1:-1] for line in runs[1]] == [
        summary.cells for summary in summarise(results) if summary.split == "shift-more-racks"
    ]
    lines = format_scenes(runs, "md").splitlines()
    assert len(lines) == 2 + 3 * len(METHODS) + 1
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    records = json.loads(format_scenes(runs, "json"))
    assert [record["error_mm"] for record in records] == [line.record["error_mm"] for run in runs for line in run]
    assert len(list(csv.DictReader(io.StringIO(format_scenes(runs, "csv"))))) == len(records) == len(lines) - 2
    console = Console(width=220)
    with console.capture() as captured:
        console.print(make_scenes_table(runs))
    assert captured.get().count("logistics/tote-push") == 2
    assert captured.get().count("load 20 of 400 mm") == 4
    assert captured.get().count("traffic 20 of 400 mm") == 2


def test_a_report_escapes_its_content_and_loads_no_external_files(tmp_path: Path, results: list[EpisodeResult]) -> None:
    path = tmp_path / "report.html"
    more_sections = [
        render_panels_section("Solved <1>", render_episode_panels(scenes[SCENE], [("test 0", make_episode())]), "Colours"),
        render_recordings_section([("test 0 & 1", "recordings/a b.html")]),
        render_facts_section([("torch <", "2.0")]),
    ]
    write_report(path, "demo <b>", results, OPEN_LOOP_ERRORS, "ground run x<y", more_sections=more_sections)
    text = path.read_text()
    for method in ("graph+mppi", "scripted", "random", "oracle", "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;|$y_$"):
        assert f"<td>{method}</td>" in text
    assert 'href="recordings/a b.html"' in text
    for escaped in ("demo &lt;b&gt;", "ground run x&lt;y", "Solved &lt;1&gt;", "test 0 &amp; 1", "torch &lt;"):
        assert escaped in text
    assert "<script>alert" not in text
    assert not re.search(r"<(script|link|img|iframe|source|use|image)\b[^>]*\b(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "@import" not in text.split("<script>", 1)[0]
    assert text.count("plotly.js v") == 1
    for name in ("results", "success", "differences", "open-loop-error", "plan-costs", "violations"):
        assert text.count(f'download="{name}.csv"') == 1
    for name in ("plot-success-0", "plot-open-loop-error", "plot-plan-costs-0"):
        assert text.count(f'id="{name}"') == 1
    anchors = re.findall(r'class="term" href="#([\w-]+)"', text)
    assert "term-safe-success" in anchors
    assert all(text.count(f'<dt id="{anchor}">') == 1 for anchor in anchors)


def test_a_report_omits_empty_sections(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, "empty", [], [], "ground report", more_sections=[render_recordings_section([]), render_facts_section([])])
    assert "No <a" in path.read_text()
    assert path.read_text().count("<section>") == 1, "only the section of terms is expected"
    write_report(path, "one method", [make_result("random", "test", 0, False)], [], "ground report")
    assert "Predicted and realised" not in path.read_text()


def test_recordings_compute_plans_uncompiled_and_list_methods_without_plans(tmp_path: Path) -> None:
    spec = PlannerSpec(SCENE, str(tmp_path), is_compiled=True)
    policies, notes = make_policies({"graph+mppi": spec, "scripted": scenes[SCENE].behaviours["random"]})
    assert list(policies) == ["scripted"]
    assert len(notes) == 1
    assert "graph+mppi show the episode without plans" in notes[0]


def test_panels_are_a_single_small_svg() -> None:
    items = [(f"test {index} {HOSTILE}", make_episode("test", index)) for index in range(5)]
    svg = render_episode_panels(scenes[SCENE], items)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert svg.count("<svg") == 1
    assert "<script" not in svg
    assert "<style" not in svg
    assert len(svg) < 20_000 * len(items)
    assert render_episode_panels(scenes[SCENE], items) == svg


def test_panels_share_no_ids() -> None:
    first, second = (
        set(re.findall(r' id="([^"]+)"', render_episode_panels(scenes[SCENE], [("x", make_episode("test", index))])))
        for index in (0, 1)
    )
    assert first
    assert not first & second


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("deep/a.pdf", b"%PDF")])
def test_a_layout_is_drawn_into_a_file(tmp_path: Path, name: str, start: bytes) -> None:
    path = tmp_path / name
    save_layout_image(sample_layout("shift-two-totes", 0), path)
    content = path.read_bytes()
    assert content.startswith(start)
    assert len(content) > 3000
    save_layout_image(sample_layout("shift-two-totes", 0), path)
    assert path.read_bytes() == content


def test_unknown_image_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match=r"'\.gif', allowed: \.pdf, \.png, \.svg"):
        save_layout_image(sample_layout("test", 0), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scene", scenes)
def test_every_scene_is_drawn_with_any_title(scene: str) -> None:
    figure = make_layout_figure(scenes[scene], scenes[scene].sample_layout("test", 0), None, "50 $ and $x_")
    figure.draw_without_rendering()
    assert figure.axes[0].get_title() == "50 $ and $x_"


def test_an_episode_of_one_state_is_drawn() -> None:
    episode = make_episode(steps=0)
    make_layout_figure(scenes[SCENE], episode.layout, episode).draw_without_rendering()


def test_a_recording_is_one_file_without_external_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recordings" / "a.html"
    before = threading.active_count()
    replay = Replay.from_episode(SCENE, make_episode("shift-two-totes"))
    save_recording([replay], path, title="test <0>")
    replay.close()
    text = path.read_text()
    assert len(text) > 100_000
    assert "__VISER_EMBED_DATA__=" in text
    assert "<title>test &lt;0&gt;</title>" in text
    assert ">test &lt;0&gt;</div>" in text
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert [file.name for file in path.parent.iterdir()] == ["a.html"]
    assert threading.active_count() <= before
    assert capfd.readouterr().out == ""
