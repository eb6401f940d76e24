import csv
import io
import json
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from agents.planning.spec import PlannerSpec
from experiments.report.build import _disable_compilation, _make_policies, _merge_open_loop_errors, read_runs
from experiments.report.comparison import (
    ALL_SPLITS,
    build_answers,
    compare_methods,
    compare_pair,
    format_headline,
    make_comparison_table,
)
from experiments.report.costs import compute_efficiency
from experiments.report.failures import describe_failure, render_failures_section, select_failures
from experiments.report.guards import check_comparable, make_notes
from experiments.report.html import write_report
from experiments.report.kept import export_results
from experiments.report.scenes import format_scenes, make_scene_rows, make_scenes_table, select_first_split
from experiments.report.sections.indicators import render_indicators_section
from experiments.report.sections.variations import build_physics_section as variations
from experiments.report.summary import (
    find_best_planner,
    format_summary_csv,
    format_summary_markdown,
    make_summary_records,
    make_summary_table,
    select_full_data_results,
    summarise,
)
from experiments.report.topdown import describe_colours, make_layout_figure, render_episode_panels, save_layout_image
from experiments.viewer.export import save_recording
from experiments.viewer.take import Replay
from sim.data.episode import Episode
from sim.geometry.rotations import yaw_to_quaternion
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import LOAD_HALF_M, sample_layout
from sim.utils.errors import GroundError
from sim.utils.files import write_json
from sim.variation import Variation

HOSTILE = '<script>alert("x")</script>|$y_$'
ARMS = {"graph+mppi": 8, "scripted": 6, "random": 0, "oracle": 10, HOSTILE: 3}  # successes of 10


def made_up(split: str = "test", index: int = 0, steps: int = 20) -> Episode:
    """The robot and the first load glide towards the goal, turning; nothing is simulated."""
    layout: Layout = sample_layout(split, index)
    start = np.array([(pose.x, pose.y, pose.yaw) for pose in (layout.robot, *layout.loads)])
    share = np.linspace(0, 1, steps + 1)[:, None, None]
    aim = start.copy()
    aim[:2] = layout.goal.x, layout.goal.y, 1.0
    places = (1 - share) * start + share * aim
    heights = np.full((*places.shape[:2], 1), LOAD_HALF_M[2])
    rows = steps + 1
    return Episode(
        layout=layout,
        seed=0,
        behaviour="made up",
        variation=Variation(),
        half_extents=np.array([(0.3, 0.3, 0.15), *[LOAD_HALF_M] * len(layout.loads)]),
        pose=np.concatenate([places[..., :2], heights, yaw_to_quaternion(places[..., 2])], axis=-1),
        twist=np.zeros((rows, len(start), 6)),
        action=np.zeros((rows, 2)),
        cost=np.zeros(rows),
        touching=np.zeros(rows, bool),
        static_force_n=np.zeros(rows),
        success=True,
    )


def row(agent: str, split: str, index: int, success: bool) -> dict[str, Any]:
    plans = "+" in agent
    return {
        "run": "demo", "scene": "logistics/tote-push", "layout_id": f"{split}-{index}", "split": split, "index": index,
        "seed": index, "agent": agent, "model": agent.split("+")[0], "search": "mppi", "success": success,
        "clean": success and index % 2 == 0, "steps": 100 + index, "total_cost": 12.0, "robot_collision": index % 2 == 1,
        "load_collision": False, "load_tipped": False, "robot_outside_hall": False, "peak_force_n": 60.0,
        "decision_ms_p50": 40.0, "decision_ms_p95": 55.0,
        "predicted_cost": 3.0 if plans else None, "realised_cost": 3.5 if plans else None, "disagreement": None,
        "env_steps": 60_000 if plans else 0, "train_cpu_s": 900.0 if plans else 0.0,
    }  # fmt: skip


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    splits = ("shift-more-racks", "test")
    return [row(arm, split, i, i < solved) for split in splits for arm, solved in ARMS.items() for i in range(10)]


FIDELITY = [
    {
        "model": model, "horizon_s": horizon, "n": 50, "body_mm_median": 10.0 * horizon, "body_mm_p90": 30.0 * horizon,
        "body_deg_median": 2.0, "robot_mm_median": 5.0, "robot_deg_median": 1.0, "moved_m_median": 0.4,
        "body_relative_median": 0.03,
    }
    for model in ("graph", HOSTILE) for horizon in (0.5, 1.0, 2.0)
]  # fmt: skip


def test_summary_puts_test_first_and_ranks_arms_with_the_oracle_last(rows: list[dict[str, Any]]) -> None:
    summaries = summarise(rows)
    ranked = ["graph+mppi", "scripted", HOSTILE, "random", "oracle"]
    assert [(s.split, s.method) for s in summaries] == [(split, arm) for split in ("test", "shift-more-racks") for arm in ranked]
    best = summaries[0]
    assert (best.success.count, best.success.total, best.safe_success.count, best.steps) == (8, 10, 4, 103.5)
    assert best.success.interval == pytest.approx((0.490, 0.943), abs=1e-3)
    assert best.cells == ("graph+mppi", "10", "40 % [17–69]", "80 % [49–94]", "103.5", "40.0 / 55.0", "60,000", "900")
    assert summaries[3].cells[2:5] == ("0 % [0–28]", "0 % [0–28]", "–")


def test_headline_names_the_two_best_arms_and_their_paired_difference(rows: list[dict[str, Any]]) -> None:
    sentence = format_headline(rows)
    assert sentence.startswith("On split test, graph+mppi does best: 4 of 10 episodes solved without violation (40 %, 95 %")
    assert "8 solved in all" in sentence
    assert "next is scripted with 3 of 10" in sentence
    assert "paired difference of 10 points" in sentence
    answered = dict(build_answers(rows))
    assert answered["How sure"] == (
        "ahead of scripted beyond chance on 0 of 2 splits; one training of graph+mppi: another one may do better or worse"
    )
    cost = "graph+mppi: 60,000 env steps, 15 CPU-minutes, 40 ms per decision; scripted: no data, 40 ms per decision"
    assert answered["At what cost"] == cost
    assert "of its 20 episodes 4 not solved; violations: robot hit 10" in answered["Where it is weakest"]
    assert build_answers([]) == []
    assert "oracle" not in sentence
    assert format_headline([]) == "No episode was evaluated."
    assert "no other arm" in format_headline([row("random", "test", 0, True)])


def test_arms_that_are_level_win_together_and_what_comes_next_is_worse() -> None:
    steps = {"a+cem": 9, "a+mppi": 0, "scripted": 0}  # a+cem is slower
    rows = [
        {**row(arm, "test", i, arm != "scripted" or i < 2), "clean": arm != "scripted" or i < 2, "steps": 100 + more}
        for arm, more in steps.items()
        for i in range(12)
    ]
    sentence, answered = format_headline(rows), dict(build_answers(rows))
    assert sentence.startswith(
        "On split test, a+mppi and a+cem do best, level with each other, the quickest first: each 100 % [76–100]"
    )
    assert "next is scripted with 2 of 12" in sentence
    assert sentence.endswith("a+mppi is better.")
    assert answered["How sure"].startswith("2 arms are level: no difference shown (smallest: ")
    assert "ahead of scripted beyond chance on 1 of 1 splits" in answered["How sure"]
    assert "those level with it: 40 ms; scripted: " in answered["At what cost"]
    alike = [one for one in rows if one["agent"] != "scripted"]
    assert format_headline(alike).endswith("there is no other arm to compare with.")
    assert "next is" not in format_headline(alike)
    assert find_best_planner(rows) == "a+mppi"


def test_arms_with_more_trainings_are_level_with_those_of_one() -> None:
    rows = [
        {**row(arm, "test", i, True), "clean": True, "steps": steps, "train_seed": seed}
        for arm, steps, seeds in (("a+mppi", 60, 3), ("b+mppi", 61, 1), ("c+mppi", 62, 3))
        for seed in range(seeds)
        for i in range(16)
    ]
    sentence = format_headline(rows)
    assert sentence.startswith("On split test, a+mppi, b+mppi and c+mppi do best, level with each other")
    assert "next is" not in sentence


def test_one_failure_does_not_make_a_difference_surer() -> None:
    arm = [row("a+x", "test", 2 * i, True) | {"train_seed": s} for s in range(3) for i in range(16)]
    idle = [row("b", "test", 2 * i, False) for i in range(16)]
    all_solved = compare_pair([*arm, *idle], "test", "a+x", "b")
    but_one = compare_pair([{**arm[0], "clean": False}, *arm[1:], *idle], "test", "a+x", "b")
    assert all_solved is not None
    assert but_one is not None
    assert but_one.safe_success.interval[1] < all_solved.safe_success.interval[1]
    assert but_one.safe_success.interval[2] - but_one.safe_success.interval[1] > 20


def test_what_was_not_trained_is_one_sample_whatever_runs_it_is_from() -> None:
    arm = [row("a+x", "test", i, i < 15) | {"train_seed": 0} for i in range(16)]
    idle = [row("b", "test", i, i < 4) | {"run": "one" if i < 8 else "other"} for i in range(16)]
    found, same_run = (compare_pair([*arm, *own], "test", "a+x", "b") for own in (idle, [one | {"run": "one"} for one in idle]))
    assert found == same_run


def test_three_of_three_is_not_more_than_ninety_five_of_a_hundred() -> None:
    rows = [row("few", "test", i, True) for i in range(3)] + [row("many", "test", i, i < 95) for i in range(100)]
    assert [summary.method for summary in summarise(rows)] == ["many", "few"]
    lines = {comparison.split: comparison for comparison in compare_methods(rows)}
    assert set(lines) == {ALL_SPLITS, "test"}
    assert (lines[ALL_SPLITS].method_a, lines[ALL_SPLITS].method_b, lines[ALL_SPLITS].episodes) == ("many", "few", 3)
    assert lines[ALL_SPLITS].verdict.startswith("no difference shown (smallest: any)")
    assert lines[ALL_SPLITS].cells[-1].startswith("no difference shown (smallest: any)")


def test_arms_are_compared_on_the_episodes_that_both_met(rows: list[dict[str, Any]]) -> None:
    found = compare_methods(rows)
    assert [(line.split, line.episodes) for line in found[:: len(ARMS) - 1]] == [
        (ALL_SPLITS, 20),
        ("test", 10),
        ("shift-more-racks", 10),
    ]
    assert {line.method_a for line in found} == {"graph+mppi"}
    oracle = compare_pair(rows, ALL_SPLITS, "graph+mppi", "oracle")
    assert oracle is not None
    assert oracle.success.interval[0] == pytest.approx(-20)
    assert oracle.success.interval[1] < 0 < -oracle.success.interval[0]
    worst = compare_pair(rows, ALL_SPLITS, "random", "oracle")
    assert worst is not None
    assert (worst.verdict, worst.cells[-1]) == ("oracle is better", "oracle solves more")
    assert compare_pair(rows, ALL_SPLITS, "graph+mppi", "nobody") is None
    twice = compare_pair([*rows, *rows], ALL_SPLITS, "graph+mppi", "oracle")  # what was played twice is no more than that
    assert twice is not None
    assert (twice.episodes, twice.safe_success.p_value) == (oracle.episodes, oracle.safe_success.p_value)


def test_several_trainings_are_one_sample_each(rows: list[dict[str, Any]]) -> None:
    arm, other = "graph+mppi", "random"
    good, bad = ([row(arm, "test", i, i < n) | {"train_seed": seed} for i in range(10)] for seed, n in ((0, 9), (1, 1)))
    found = compare_pair([*rows, *bad], "test", arm, other)
    assert found is not None
    assert found.episodes == 10
    idle = [one for one in rows if one["agent"] == other]
    luck = compare_pair([*good, *bad, *idle], "test", arm, other)  # one training solves nearly all, the other nearly none
    assert luck is not None
    assert luck.success.interval[0] == pytest.approx(50)
    assert luck.success.interval[1] < 20


def test_trainings_in_the_same_spaces_are_no_more_spaces(rows: list[dict[str, Any]]) -> None:
    arm = "graph+mppi"
    three = [{**one, "train_seed": seed} for seed in range(3) for one in rows if one["agent"] == arm and one["split"] == "test"]
    (once,), (all_three,) = summarise(three[:10]), summarise(three)
    assert all_three.cells[1] == "3 × 10"
    assert all_three.safe_success.count == 3 * once.safe_success.count
    assert all_three.safe_success.interval == pytest.approx(once.safe_success.interval)


def test_arms_on_a_part_of_the_data_are_told_from_those_on_all(rows: list[dict[str, Any]]) -> None:
    steps = {"graph+mppi": 40_000, "graph+mppi-5k": 5_000, "ppo": 40_000, "ppo-400k": 400_000, "ppo-5k": 5_000, "random": 0}
    arms = [{**row(arm, "test", 0, True), "env_steps": most, "method": arm.split("-")[0]} for arm, most in steps.items()]
    assert [one["agent"] for one in select_full_data_results(arms)] == ["graph+mppi", "ppo", "ppo-400k", "random"]
    assert select_full_data_results(rows) == rows  # older ones do not tell their method


def test_equal_outcomes_of_several_trainings_do_not_exclude_a_difference(rows: list[dict[str, Any]]) -> None:
    one, other = (
        [row(arm, "test", 2 * i, True) | {"train_seed": s} for s in range(3) for i in range(16)] for arm in ("a+x", "b+x")
    )
    found = compare_pair([*one, *other], "test", "a+x", "b+x")
    assert found is not None
    assert found.safe_success.interval[1] < -10 < 10 < found.safe_success.interval[2]
    assert found.verdict == "no difference shown (smallest: 45 points)"


def test_runs_keep_their_own_arms_and_share_what_nobody_trained(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for name, agents in (("one", ARMS), ("two", ("graph+mppi", "scripted"))):
        found = [one for one in rows if one["agent"] in agents]
        write_json(tmp_path / name / "config.json", {"name": name})
        export_results(tmp_path / name, found, tmp_path / "kept" / name)
    found = read_runs([tmp_path / "kept" / "one", tmp_path / "kept" / "two"])
    counts = Counter(one["agent"] for one in found.results)
    assert counts["graph+mppi (one)"] == counts["graph+mppi (two)"] == counts["scripted"] == counts["oracle"] == 20
    assert "graph+mppi" not in counts


def test_runs_of_one_name_are_runs_of_their_own(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(GroundError, match="shares no episode with the other runs"):
        check_comparable({"a/demo": rows, "b/demo": [{**one, "seed": one["seed"] + 50} for one in rows]})


def test_arms_without_a_shared_episode_are_named() -> None:
    rows = [row("a", "test", i, True) for i in range(4)] + [row("b", "test", i, False) for i in range(4, 9)]
    assert any("No episode is shared with a by b" in note for note in make_notes(rows))
    assert format_headline(rows).endswith("share no episode: which is better cannot be told.")
    assert not any("No episode is shared" in note for note in make_notes(rows[:4]))


def test_distances_are_from_each_run_s_own_training_spaces(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for name, distance in (("one", 1.0), ("two", 5.0)):
        write_json(tmp_path / name / "config.json", {"name": name})
        own = [{**one, "distance": distance} for one in rows if one["agent"] == "graph+mppi"]
        export_results(tmp_path / name, own, tmp_path / "kept" / name)
    found = read_runs([tmp_path / "kept" / "one", tmp_path / "kept" / "two"])
    assert {(one["agent"], one["distance"]) for one in found.results} == {("graph+mppi (one)", 1.0), ("graph+mppi (two)", 5.0)}


def test_models_of_several_runs_are_told_apart_and_a_yardstick_is_shown_once() -> None:
    graph, yardstick = ({"model": name, "horizon_s": 2.0, "body_mm_median": 20.0} for name in ("graph", "constant-velocity"))
    held = {Path("a/one"): [graph, yardstick], Path("a/two"): [{**graph, "body_mm_median": 9.0}, yardstick]}
    told = [(line["model"], line["body_mm_median"]) for line in _merge_open_loop_errors(held)]
    assert told == [("graph (one)", 20.0), ("graph (two)", 9.0), ("constant-velocity", 20.0)]
    assert [line["model"] for line in _merge_open_loop_errors({Path("one"): [graph, yardstick]})] == [
        "graph",
        "constant-velocity",
    ]


def test_methods_of_several_runs_are_no_single_curve(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    arm = [one | {"method": "graph+mppi"} for one in rows if one["agent"] == "graph+mppi"]
    part = [one | {"agent": "graph+mppi-5k", "env_steps": 5000} for one in arm]
    for name, own in (("one", arm), ("two", [*arm, *part])):
        write_json(tmp_path / name / "config.json", {"name": name})
        export_results(tmp_path / name, own, tmp_path / "kept" / name)
    found = read_runs([tmp_path / "kept" / "one", tmp_path / "kept" / "two"])
    families = {learned.method: learned.method_family for learned in compute_efficiency(found.results, "test")}
    assert families["graph+mppi-5k (two)"] == families["graph+mppi (two)"] != families["graph+mppi (one)"]
    assert {one["agent"] for one in select_full_data_results(found.results)} == {"graph+mppi (one)", "graph+mppi (two)"}


FAULTS = [
    ({"scene": "factory/push-fixture"}, "other in factory/push-fixture; demo in logistics/tote-push: name runs of one scene"),
    ({"layout_id": "else"}, r"test/0 is another space for scripted in other than for graph\+mppi in demo: .* evaluate the older"),
    ({"load_friction": 0.9}, "another load_friction .* different protocols cannot be compared: evaluate both"),
    ({"seed": 99}, r"shares no episode with the other runs \(the same spaces, but with other seeds\): evaluate all"),
    ({"split": "val", "layout_id": "v"}, r"shares no episode .* \(no space in common\)"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_what_cannot_be_compared_is_told(rows: list[dict[str, Any]], change: dict[str, Any], message: str) -> None:
    rows = [{**one, "load_friction": 0.5} for one in rows]
    other = row("scripted", "test", 0, True) | {"run": "other", "load_friction": 0.5}
    check_comparable({"demo": rows, "other": [other]})
    with pytest.raises(GroundError, match=message):
        check_comparable({"demo": rows, "other": [{**other, **change}]})


def test_rows_that_lack_a_later_quantity_are_compared_all_the_same(rows: list[dict[str, Any]]) -> None:
    def drawn(row: dict[str, Any], number: int) -> dict[str, Any]:
        return {**row, "index": number, "load_mass_kg": 4.0 + number, **({"traffic_speed": number} if number % 2 else {})}

    told = variations([drawn(rows[0], number) for number in range(40)])
    assert told is not None
    assert {line["what"].split(": ")[1].split(",")[0] for line in told.records} == {"load mass [kg]", "traffic speed"}
    assert sum(line["episodes"] for line in told.records) == 40 + 20


def test_the_worst_come_first_and_say_who_did_better(rows: list[dict[str, Any]]) -> None:
    own = [one for one in rows if one["agent"] == "graph+mppi" and one["split"] == "test"]
    bad = select_failures(own)
    assert [one["index"] for one in bad[:2]] == [8, 9]
    assert all(one["success"] and not one["clean"] for one in bad[2:])
    assert describe_failure(bad[0], rows) == "not solved in 108 steps; solved clean by oracle"
    assert "robot hit, 60 N" in describe_failure(bad[1], rows)
    html = render_failures_section("graph+mppi", own, rows, lambda one: made_up(), {id(bad[0]): "recordings/a.html"})
    assert html.count("<figure>") == len(bad)
    assert html.count("watch in 3-D") == 1
    assert render_failures_section("x", [one for one in own if one["clean"]], rows, lambda one: made_up(), {}) == ""


def test_figures_for_programs(rows: list[dict[str, Any]]) -> None:
    records = list(csv.DictReader(io.StringIO(format_summary_csv(rows))))
    assert len(records) == 2 * len(ARMS)
    assert (records[0]["agent"], float(records[0]["success"])) == ("graph+mppi", 0.8)
    assert list(records[0]).index("clean") < list(records[0]).index("success")
    assert records[0]["search_samples"] == ""  # older rows do not tell
    assert HOSTILE in {record["agent"] for record in records}
    plain = json.loads(json.dumps(make_summary_records(rows), allow_nan=False))
    assert [record["agent"] for record in plain] == [record["agent"] for record in records]
    assert next(record for record in plain if record["agent"] == "random")["steps"] is None
    assert format_summary_csv([]).strip() == ""


def test_what_else_a_scene_tells_is_shown_and_given_to_programs(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    scene = "logistics/aisle-traffic"
    told = scenes[scene].indicators
    assert told is not None
    theirs = [{**one, "scene": scene, **{name: float(one["index"]) for name in told.descriptions}} for one in rows]
    (name, says), *_ = told.descriptions.items()
    shown = render_indicators_section(theirs, "ground report x")
    assert says in shown
    assert "4.50 [2.00, 7.00]" in shown
    record = json.loads(json.dumps(make_summary_records(theirs), allow_nan=False))[0]
    assert (record[f"{name}_q25"], record[name], record[f"{name}_q75"]) == (2.25, 4.5, 6.75)
    older = [{**one, "scene": scene, "agent": "older"} for one in rows[:3]]
    assert f"{name}_q75" in format_summary_csv([*older, *theirs]).splitlines()[0]
    assert render_indicators_section(rows, "x") == render_indicators_section([{**one, "scene": scene} for one in rows], "x") == ""
    write_report(tmp_path / "report.html", "x", theirs, FIDELITY, [], [], [], "ground report x")
    text = (tmp_path / "report.html").read_text().rpartition("</script>")[2]
    assert "What else the scene tells" in (tmp_path / "report.html").read_text()
    assert " load" not in text.lower()


def test_colours_are_named_for_what_is_there() -> None:
    assert describe_colours([sample_layout("test", 0)]).startswith(
        "The robot is blue, the load to deliver orange, the goal green"
    )
    traffic = next(space for i in range(20) if (space := scenes["logistics/aisle-traffic"].sample_layout("test", i)).traffic)
    assert "load" not in describe_colours([traffic])
    assert "people pink" in describe_colours([traffic])


def test_plain_tables_hold_every_arm(rows: list[dict[str, Any]]) -> None:
    lines = format_summary_markdown(rows).splitlines()
    assert len(lines) == 2 + 2 * len(ARMS)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}
    console = Console(width=200)
    with console.capture() as captured:
        console.print(make_summary_table(rows), make_comparison_table(rows))
    assert captured.get().count("graph+mppi − ") == len(ARMS) - 1
    assert all(arm in captured.get() for arm in ARMS)


def test_runs_of_several_scenes_in_one_table(rows: list[dict[str, Any]]) -> None:
    assuming = [{**row("still+mppi", "test", 0, True), "model": "graph", "method": "still+mppi"}]
    theirs = [{**one, "scene": "logistics/aisle-traffic"} for one in rows]
    harder = [one for one in theirs if one["split"] == "shift-more-racks"]
    runs = [make_scene_rows(select_first_split(own), FIDELITY) for own in ([*rows, *assuming], harder, rows)]
    off = {line.summary.method: line.cells[-1] for line in runs[0]}
    part = {**row("graph+mppi-5k", "test", 0, True), "method": "graph+mppi"}
    assert [line.cells[-1] for line in make_scene_rows([part], FIDELITY)] == [""], "the model measured learned from all data"
    assert off == {arm: "load 20 of 400 mm" if arm in ("graph+mppi", HOSTILE) else "" for arm in (*ARMS, "still+mppi")}
    assert {line.summary.split for run in (runs[0], runs[2]) for line in run} == {"test"}
    assert {line.cells[0] for line in runs[1]} == {"logistics/aisle-traffic, shift-more-racks"}
    assert [line.cells[1:-1] for line in runs[1]] == [one.cells for one in summarise(rows) if one.split == "shift-more-racks"]
    lines = format_scenes(runs, "md").splitlines()
    assert len(lines) == 2 + 3 * len(ARMS) + 1
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


def test_report_holds_everything_escaped_and_loads_nothing(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "report.html"
    pictures = [("Solved <1>", render_episode_panels([("test 0", made_up())]))]
    recordings, facts = [("test 0 & 1", "recordings/a b.html")], [("torch <", "2.0")]
    write_report(path, "demo <b>", rows, FIDELITY, pictures, recordings, facts, "ground run x<y")
    text = path.read_text()
    for arm in ("graph+mppi", "scripted", "random", "oracle", "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;|$y_$"):
        assert f"<td>{arm}</td>" in text
    assert 'href="recordings/a b.html"' in text
    for escaped in ("demo &lt;b&gt;", "ground run x&lt;y", "Solved &lt;1&gt;", "test 0 &amp; 1", "torch &lt;"):
        assert escaped in text
    assert "<script>alert" not in text
    assert not re.search(r"<(script|link|img|iframe|source|use|image)\b[^>]*\b(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "@import" not in text.split("<script>", 1)[0]
    assert text.count("plotly.js v") == 1
    for name in ("results", "success", "differences", "fidelity", "predicted", "violations"):
        assert text.count(f'download="{name}.csv"') == 1
    for name in ("plot-success-0", "plot-fidelity", "plot-predicted-0"):
        assert text.count(f'id="{name}"') == 1


def test_report_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, "empty", [], [], [], [], [], "ground report")
    assert "No episode was evaluated." in path.read_text()
    assert "<section>" not in path.read_text()
    write_report(path, "one arm", [row("random", "test", 0, False)], [], [], [], [], "ground report")
    assert "Predicted and realised" not in path.read_text()


def test_recordings_think_uncompiled_and_say_who_cannot(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    spec = PlannerSpec("logistics/tote-push", str(tmp_path), is_compiled=True)
    assert isinstance(quick := _disable_compilation(spec), PlannerSpec)
    assert not quick.is_compiled
    random = scenes["logistics/tote-push"].behaviours["random"]
    found, missing = _make_policies(rows, {"graph+mppi": spec, "scripted": random})
    assert list(found) == ["scripted"]
    assert len(missing) == 1
    assert "graph+mppi show what happened" in missing[0]


def test_strip_is_one_small_svg() -> None:
    items = [(f"test {index} {HOSTILE}", made_up("test", index)) for index in range(5)]
    svg = render_episode_panels(items)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert svg.count("<svg") == 1
    assert "<script" not in svg
    assert "<style" not in svg
    assert len(svg) < 20_000 * len(items)
    assert render_episode_panels(items) == svg


def test_strips_share_no_ids() -> None:
    first, second = (
        set(re.findall(r' id="([^"]+)"', render_episode_panels([("x", made_up("test", index))]))) for index in (0, 1)
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


def test_other_picture_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match=r"'\.gif', allowed: \.pdf, \.png, \.svg"):
        save_layout_image(sample_layout("test", 0), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_a_picture_takes_any_title_and_a_still_episode() -> None:
    episode = made_up(steps=0)
    figure = make_layout_figure(episode.layout, episode, "50 $ and $x_")
    figure.draw_without_rendering()
    assert figure.axes[0].get_title() == "50 $ and $x_"


def test_a_recording_is_one_file_that_loads_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recordings" / "a.html"
    before = threading.active_count()
    take = Replay.from_episode("logistics/tote-push", made_up("shift-two-totes"))
    save_recording([take], path, title="test <0>")
    take.close()
    text = path.read_text()
    assert len(text) > 100_000
    assert "__VISER_EMBED_DATA__=" in text
    assert "<title>test &lt;0&gt;</title>" in text
    assert ">test &lt;0&gt;</div>" in text
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert [file.name for file in path.parent.iterdir()] == ["a.html"]
    assert threading.active_count() <= before
    assert capfd.readouterr().out == ""
