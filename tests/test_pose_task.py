"""The task of bringing a part to a pose: what its risk knows of the arm."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.env import GroundEnv
from sim.pose_task import PoseTask
from sim.robots.panda import REACH_M
from sim.scenes import scenes

SCENE = "factory/push-fixture"


@cache
def table() -> GroundEnv:
    return GroundEnv(SCENE, "test", layouts=1)


@given(away=st.floats(*REACH_M), around=st.floats(-1.3, 1.3))
@settings(max_examples=50, deadline=None)
def test_no_joint_is_at_its_limit_within_reach(away: float, around: float) -> None:
    tool = away * np.cos(around), away * np.sin(around), 0.0
    _, info = table().reset(seed=0, options={"index": 0, "poses": np.array([tool, (0.5, 0.0, 0.0)])})
    assert not info["violations"]["joint_limit"]


@pytest.mark.parametrize(("beyond", "share"), [(-0.02, 0.0), (-0.0075, 0.5), (0.0, 1.0), (0.015, 2.0)])
@pytest.mark.parametrize("end", [0, 1])
def test_the_risk_begins_before_the_end_of_the_reach(end: int, beyond: float, share: float) -> None:
    task, env = scenes[SCENE].task, table()
    env.reset(seed=0, options={"index": 0})
    assert isinstance(task, PoseTask)
    assert task.reach_m == REACH_M
    bodies = env.bodies.map(np.copy)
    away = REACH_M[0] - beyond if end == 0 else REACH_M[1] + beyond
    bodies.pose[0, :2] = away * np.cos(0.4), away * np.sin(0.4)
    for one in (bodies, bodies.map(torch.as_tensor)):
        assert float(task.risk(one, env.field)) == pytest.approx(share * task.violation_weight, abs=1e-4)
