"""The task of push-fixture: its cost, and the penalty of pressing and of the arm's limits."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.env import GroundEnv
from sim.robots.panda import TOOL_RANGE_M
from sim.scenes.push_fixture.task import PoseTask
from sim.scenes.scene import scenes

SCENE = "factory/push-fixture"


@cache
def get_env() -> GroundEnv:
    return GroundEnv(SCENE, "test", layouts=1)


@given(distance=st.floats(*TOOL_RANGE_M), bearing=st.floats(-1.3, 1.3))
@settings(max_examples=50, deadline=None)
def test_no_joint_is_at_its_limit_within_reach(distance: float, bearing: float) -> None:
    tool = distance * np.cos(bearing), distance * np.sin(bearing), 0.0
    _, info = get_env().reset(seed=0, options={"index": 0, "poses": np.array([tool, (0.5, 0.0, 0.0)])})
    assert not info["violations"]["joint_limit"]


@pytest.mark.parametrize(("overshoot_m", "share"), [(-0.02, 0.0), (-0.0075, 0.5), (0.0, 1.0), (0.015, 2.0)])
@pytest.mark.parametrize("end", [0, 1])
def test_the_penalty_begins_before_the_end_of_the_reach(end: int, overshoot_m: float, share: float) -> None:
    task, env = scenes[SCENE].task, get_env()
    env.reset(seed=0, options={"index": 0})
    assert isinstance(task, PoseTask)
    assert task.reach_m == TOOL_RANGE_M
    bodies = env.bodies.map(np.copy)
    distance = TOOL_RANGE_M[0] - overshoot_m if end == 0 else TOOL_RANGE_M[1] + overshoot_m
    bodies.pose[0, :2] = distance * np.cos(0.4), distance * np.sin(0.4)
    for converted in (bodies, bodies.map(torch.as_tensor)):
        assert float(task.compute_violation_penalty(converted, np.zeros(3), env.cost_field)) == pytest.approx(
            share * task.violation_weight, abs=1e-4
        )


def test_the_cost_is_the_mean_distance_of_the_corners() -> None:
    task, env = scenes[SCENE].task, get_env()
    bodies, goal = env.bodies.map(np.copy), np.array([0.5, 0.0, 0.0])
    bodies.pose[:, 3:] = 0.0, 0.0, 0.0, 1.0
    bodies.half_extents[1, :2] = 0.05
    field = replace(env.cost_field, clearance=np.ones_like(env.cost_field.clearance), detour=np.zeros_like(env.cost_field.detour))
    for distance in (0.0, 0.03, 0.12):
        bodies.pose[1, :2] = goal[0] - distance, goal[1]
        bodies.pose[0, :2] = goal[0] - distance - 0.06, goal[1]  # the tool touches the part
        approach = 0.3 * max(0.0, 0.06 - bodies.half_extents[0, 0] - 0.05)
        assert float(task.compute_cost(bodies, np.zeros(2), goal, field)) * task.cost_unit_m == pytest.approx(
            distance + approach, abs=1e-6
        )


def test_a_blocked_tool_has_a_penalty_and_a_free_tool_has_none() -> None:
    task, env = scenes[SCENE].task, get_env()
    env.reset(seed=0, options={"index": 0})
    assert isinstance(task, PoseTask)
    bodies = env.bodies.map(np.copy)
    bodies.pose[0, :2] = 0.5, 0.0
    command = np.array([0.2, -0.1, 0.0])
    for deficit, share in (
        (0.0, 0.0),
        (task.speed_deficit_m_s[0], 0.0),
        (np.mean(task.speed_deficit_m_s), 0.5),
        (task.speed_deficit_m_s[1], 1.0),
    ):
        bodies.twist[0, :2] = command[:2] * (1 - deficit / np.hypot(*command[:2]))
        assert float(task.compute_violation_penalty(bodies, command, env.cost_field)) == pytest.approx(
            share * task.violation_weight, abs=1e-3
        )
    candidates, speeds = torch.rand(3, 4, 3) * 0.2, torch.rand(2, 3, 4, 13, 6) * 0.2  # two particles
    batch = bodies.map(lambda values: torch.as_tensor(values).expand(2, 3, 4, *values.shape).float())
    risks = task.compute_violation_penalty(replace(batch, twist=speeds), candidates, env.cost_field.map(torch.as_tensor))
    assert risks.shape == (2, 3, 4)


def test_a_tool_presses_as_long_as_it_pushes_against_a_clamp() -> None:
    env = GroundEnv(SCENE, "test", layouts=1)
    env.reset(seed=0, options={"index": 0})
    clamp = env.layout.boxes[0]
    direction = np.array([np.cos(clamp.yaw), np.sin(clamp.yaw)])
    tool = np.array([clamp.x, clamp.y]) + (clamp.width / 2 + env.bodies.half_extents[0, 0] + 0.005) * direction
    env.reset(seed=0, options={"index": 0, "poses": np.array([(*tool, 0.0), (0.6, 0.3, 0.0)])})
    actions = (*[-0.5 * direction] * 6, *[0.5 * direction] * 3)
    forces = [env.step(action)[4]["static_force_n"] for action in actions]
    assert min(forces[2:6]) > env.scene.task.max_contact_force_n, "the contact force must last"
    assert max(forces[7:]) == 0
    env.close()
