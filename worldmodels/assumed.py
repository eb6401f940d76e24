"""What a planner may assume of traffic instead of foreseeing it: that it stands still, or that it keeps its velocity.

The robot's own motion is still a learned model's; nobody minds it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sim.bodies import Bodies, quaternion_of, yaw_of
from sim.policy import EpisodeStart
from worldmodels.model import LearnedModel, WorldModel
from worldmodels.planar import PlanarState, bodies_of

DT_S = 0.1
ASSUMPTIONS = ("still", "constant-velocity")


class Assumed(WorldModel[PlanarState]):
    """A learned model of the robot alone, beside traffic that does as it is assumed to do."""

    def __init__(self, model: LearnedModel, assumption: str) -> None:
        self._model, self._moves = model, assumption == "constant-velocity"

    def start_episode(self, start: EpisodeStart) -> None:
        self._model.start_episode(start)

    def begin(self, observation: Mapping[str, np.ndarray]) -> PlanarState:
        return self._model.begin(observation)

    def rollout(self, state: PlanarState, actions: Tensor) -> Bodies:
        unmoved = state.around.traffic == 0
        alone = replace(state, around=replace(state.around, present=state.around.present * unmoved))
        imagined, now = self._model.rollout(alone, actions), bodies_of([state])
        time = DT_S * torch.arange(1, actions.shape[1] + 1)[:, None] * self._moves  # (H, 1)
        yaw = yaw_of(now.pose[..., 3:]) + time * now.twist[..., 5]
        place = now.pose[..., :3] + time[..., None] * now.twist[..., :3]
        assumed = torch.cat([place, quaternion_of(yaw)], -1)
        twist = now.twist * self._moves
        return replace(
            imagined,
            pose=torch.where(unmoved[..., None], imagined.pose, assumed),
            twist=torch.where(unmoved[..., None], imagined.twist, twist),
            present=now.present.expand(imagined.present.shape),
        )
