"""The protocol `pusht` of factory/push-fixture: PushT on this scene's table.

As published (Zhou et al. 2025, "DINO-WM", and the evaluation of stable-worldmodel): a T alone, with
PushT's proportions and size, where a pixel is a millimetre. The goal is the part's pose 25 steps
later in a recorded episode, so it can be reached. An episode has 50 steps at 10 Hz. It is solved
when the part is within 20 mm and 20° at any moment. There are 50 episodes.

Different from the publication: the state is observed, not images. An arm's tool follows velocities,
where the published disc follows positions. The table is 0.4 m by 0.68 m, not 0.51 m by 0.51 m, and is
simulated in 3-D with friction. The recorded episodes are random pokes, not human demonstrations.
The part moves 30 mm or more between start and goal. All bodies rest at the start. The tool's final
position does not count, where the published 20 mm include it.
"""

from dataclasses import replace
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from sim.bodies import LOAD, ROBOT
from sim.geometry.rotations import compute_yaw
from sim.layout import Layout, Pose
from sim.layout_sampling import sample_until_valid
from sim.robots.panda import TOOL_RANGE_M
from sim.scenes.push_fixture import layouts as table
from sim.scenes.push_fixture.expert import Poke
from sim.scenes.push_fixture.task import PoseTask
from sim.scenes.scene import EvaluationProtocol
from sim.variation import Variations

if TYPE_CHECKING:
    from sim.env import GroundEnv

SPLIT = "pusht"
SEED = 27
EPISODE_STEPS = 50
OFFSET_STEPS = 25  # between start and goal in the recorded episode
EPISODES = 50
MAX_START_STEP = 20  # latest step of the recorded episode at which the task starts
GOAL_RADIUS_M, GOAL_ANGLE_RAD = 0.02, np.deg2rad(20)
VARIATIONS = Variations(table.get_spec("test").variations.base)  # the physics of all episodes


def make_protocol(scene: str, unit_m: float) -> EvaluationProtocol:
    """Make the protocol for a scene's name and unit of length."""
    task = PoseTask(unit_m, GOAL_RADIUS_M, GOAL_ANGLE_RAD, reach_m=TOOL_RANGE_M, rest_speed_m_s=inf, rest_yaw_rate_rad_s=inf)

    @lru_cache(maxsize=1024)
    def sample_layout(split: str, index: int) -> Layout:
        env = _get_env(scene)
        return sample_until_valid(split, index, SEED, lambda rng, name: _sample_candidate(env, rng, name))

    return EvaluationProtocol(SPLIT, sample_layout, VARIATIONS, task, EPISODE_STEPS, EPISODES)


@lru_cache(maxsize=1)
def _get_env(scene: str) -> "GroundEnv":
    from sim.env import GroundEnv  # it imports the scenes

    return GroundEnv(scene, "test", variations=VARIATIONS)


def _sample_candidate(env: "GroundEnv", rng: np.random.Generator, name: str) -> Layout | None:
    """Sample a part of a recorded poke in which the part moves."""
    middle = Pose(table.TABLE.x + table.TABLE.width / 2, 0.0)
    empty = Layout(table.TABLE, middle, (middle,), middle, (), name, "table", "T")
    start_step = int(rng.integers(MAX_START_STEP + 1))
    seed = int(rng.integers(2**31))
    observation, _ = env.reset(seed=seed, options={"layout": empty, "poses": table.sample_near_start(empty, rng)})
    policy = Poke()
    policy.start_episode(env.make_episode_start(seed))
    recorded_poses = []
    for step in range(start_step + OFFSET_STEPS + 1):
        if step in (start_step, start_step + OFFSET_STEPS):
            recorded_poses.append(_read_poses(env))
        observation, *_ = env.step(policy.predict(observation)[0])
    (tool, start), (_, goal) = recorded_poses
    layout = replace(empty, robot=Pose(tool.x, tool.y), loads=(start,), goal=goal)
    return None if table.find_faults(layout) else layout


def _read_poses(env: "GroundEnv") -> tuple[Pose, Pose]:
    """Read the current poses of the tool and the part, rounded as in a layout."""
    rows = ((*env.bodies.pose[body, :2], compute_yaw(env.bodies.pose[body, 3:])) for body in (ROBOT, LOAD))
    tool, part = (Pose(*(round(float(value), 4) for value in row)) for row in rows)
    return tool, part
