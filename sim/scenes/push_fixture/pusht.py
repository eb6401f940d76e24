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
from sim.geometry.rotations import yaw_of
from sim.layout import Layout, Pose
from sim.layout_sampling import first_good
from sim.robots.panda import REACH_M
from sim.scenes.push_fixture import layouts as table
from sim.scenes.push_fixture.expert import Poke
from sim.scenes.push_fixture.task import PoseTask
from sim.scenes.scene import Protocol
from sim.variation import Variations

if TYPE_CHECKING:
    from sim.env import GroundEnv

SPLIT, SEED = "pusht", 27
BUDGET_STEPS, OFFSET_STEPS, EPISODES = 50, 25, 50
LATEST_START = 20  # step of the recorded episode
WITHIN_M, WITHIN_RAD = 0.02, np.deg2rad(20)
VARIATIONS = Variations(table.tier_of("test").variations.base)  # physics is the same in all episodes


def pusht(scene: str, unit_m: float) -> Protocol:
    task = PoseTask(unit_m, WITHIN_M, WITHIN_RAD, reach_m=REACH_M, still_m_s=np.inf, still_rad_s=np.inf)

    @lru_cache(maxsize=1024)
    def draw(split: str, index: int) -> Layout:
        env = _env(scene)
        return first_good(split, index, SEED, lambda rng, name: _attempt(env, rng, name))

    return Protocol(SPLIT, draw, VARIATIONS, task, BUDGET_STEPS, EPISODES)


@lru_cache(maxsize=1)
def _env(scene: str) -> "GroundEnv":
    from sim.env import GroundEnv  # which imports the scenes

    return GroundEnv(scene, "test", variations=VARIATIONS)


def _attempt(env: "GroundEnv", rng: np.random.Generator, name: str) -> Layout | None:
    """A stretch of a poke in which the part was moved."""
    middle = Pose(table.TABLE.x + table.TABLE.width / 2, 0.0)
    empty = Layout(table.TABLE, middle, (middle,), middle, (), name, "table", "T")
    begin, seed = int(rng.integers(LATEST_START + 1)), int(rng.integers(2**31))
    observation, _ = env.reset(seed=seed, options={"layout": empty, "poses": table.random_start(empty, rng)})
    policy = Poke()
    policy.begin(env.start(seed))
    seen = []
    for step in range(begin + OFFSET_STEPS + 1):
        if step in (begin, begin + OFFSET_STEPS):
            seen.append(_places(env))
        observation, *_ = env.step(policy.predict(observation)[0])
    (tool, start), (_, goal) = seen
    layout = replace(empty, robot=Pose(tool.x, tool.y), loads=(start,), goal=goal)
    return None if table.faults_of(layout) else layout


def _places(env: "GroundEnv") -> tuple[Pose, Pose]:
    """Of the tool and the part now, rounded as a layout's are."""
    rows = ((*env.bodies.pose[body, :2], yaw_of(env.bodies.pose[body, 3:])) for body in (ROBOT, LOAD))
    tool, part = (Pose(*(round(float(value), 4) for value in row)) for row in rows)
    return tool, part
