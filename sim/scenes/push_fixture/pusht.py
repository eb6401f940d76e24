"""The protocol `pusht` of factory/push-fixture: PushT as world models are evaluated on it, on this scene's table.

As published (Zhou et al. 2025, "DINO-WM", and stable-worldmodel's evaluation): a T alone, of PushT's proportions and size (a
pixel is a millimetre); the goal is where a recorded episode had the part 25 steps later, so it can be reached; 50 steps at 10 Hz;
solved when the part is within 20 mm and 20°, at any moment; 50 episodes.

Other than published: the state is observed, not pictures; an arm's tool follows velocities, not a disc positions; the table is
0.4 by 0.68 m, not 0.51 by 0.51 m, and 3-D with friction; the recorded episodes are random pokes, not a human's; the part moves
30 mm or more between start and goal; all is at rest at the start; and where the tool ends does not count, which there shares the
20 mm.
"""

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sim.bodies import LOAD, ROBOT
from sim.geometry.rotations import compute_yaw
from sim.layout import Layout, Pose
from sim.layout_sampling import sample_until_valid
from sim.robots.panda import REACH_M
from sim.scenes.push_fixture import layouts as table
from sim.scenes.push_fixture.expert import Poke
from sim.scenes.push_fixture.task import PoseTask
from sim.scenes.scene import EvaluationProtocol
from sim.variation import Variations

if TYPE_CHECKING:
    from sim.env import GroundEnv

SPLIT, SEED = "pusht", 27
EPISODE_STEPS, OFFSET_STEPS, EPISODES = 50, 25, 50
MAX_START_STEP = 20  # step of the recorded episode
GOAL_RADIUS_M, GOAL_ANGLE_RAD = 0.02, np.deg2rad(20)
VARIATIONS = Variations(table.get_spec("test").variations.base)  # physics is the same in all episodes


def make_protocol(scene: str, unit_m: float) -> EvaluationProtocol:
    task = PoseTask(unit_m, GOAL_RADIUS_M, GOAL_ANGLE_RAD, reach_m=REACH_M, rest_speed_m_s=np.inf, rest_yaw_rate_rad_s=np.inf)

    @lru_cache(maxsize=1024)
    def draw(split: str, index: int) -> Layout:
        env = _get_env(scene)
        return sample_until_valid(split, index, SEED, lambda rng, name: _sample_candidate(env, rng, name))

    return EvaluationProtocol(SPLIT, draw, VARIATIONS, task, EPISODE_STEPS, EPISODES)


@lru_cache(maxsize=1)
def _get_env(scene: str) -> "GroundEnv":
    from sim.env import GroundEnv  # which imports the scenes

    return GroundEnv(scene, "test", variations=VARIATIONS)


def _sample_candidate(env: "GroundEnv", rng: np.random.Generator, name: str) -> Layout | None:
    """A stretch of a poke in which the part was moved."""
    middle = Pose(table.TABLE.x + table.TABLE.width / 2, 0.0)
    empty = Layout(table.TABLE, middle, (middle,), middle, (), name, "table", "T")
    begin, seed = int(rng.integers(MAX_START_STEP + 1)), int(rng.integers(2**31))
    observation, _ = env.reset(seed=seed, options={"layout": empty, "poses": table.sample_near_start(empty, rng)})
    policy = Poke()
    policy.start_episode(env.make_episode_start(seed))
    seen = []
    for step in range(begin + OFFSET_STEPS + 1):
        if step in (begin, begin + OFFSET_STEPS):
            seen.append(_read_poses(env))
        observation, *_ = env.step(policy.predict(observation)[0])
    (tool, start), (_, goal) = seen
    layout = replace(empty, robot=Pose(tool.x, tool.y), loads=(start,), goal=goal)
    return None if table.find_faults(layout) else layout


def _read_poses(env: "GroundEnv") -> tuple[Pose, Pose]:
    """Of the tool and the part now, rounded as a layout's are."""
    rows = ((*env.bodies.pose[body, :2], compute_yaw(env.bodies.pose[body, 3:])) for body in (ROBOT, LOAD))
    tool, part = (Pose(*(round(float(value), 4) for value in row)) for row in rows)
    return tool, part
