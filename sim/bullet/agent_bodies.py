"""Bullet bodies of people and forklifts: moved to where the traffic simulation has them, touched but not pushed."""

import math
from collections.abc import Iterable
from typing import Any

from sim.bodies import Shape
from sim.bullet.client import BulletClient
from sim.traffic.simulation import AgentProfile, TrafficSimulation


class AgentBodies:
    """One body for each agent of a traffic simulation."""

    def __init__(self, client: BulletClient, traffic: TrafficSimulation) -> None:
        self._client, self._traffic = client, traffic
        self.ids = [_create_body(client, manner) for manner in traffic.profiles]

    def update(self, agents: Iterable[int] | None = None) -> None:
        """Move bodies to their agents.

        Args:
            agents: indices of the agents; None: all.
        """
        state = self._traffic.state
        for index in range(len(self.ids)) if agents is None else agents:
            (x, y, yaw), (vx, vy, rate) = state.pose[index].tolist(), state.velocity[index].tolist()
            position = [x, y, self._traffic.profiles[index].half_extents[2]]
            rotation = [0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]
            self._client.resetBasePositionAndOrientation(self.ids[index], position, rotation)
            self._client.resetBaseVelocity(self.ids[index], [vx, vy, 0.0], [0.0, 0.0, rate])


def _create_body(client: BulletClient, manner: AgentProfile) -> int:
    half = list(manner.half_extents)
    collision: dict[str, Any] = {"shapeType": client.GEOM_BOX, "halfExtents": half}
    visual = {**collision, "rgbaColor": manner.colour}
    if manner.shape == Shape.CYLINDER:
        collision = {"shapeType": client.GEOM_CYLINDER, "radius": half[0], "height": 2 * half[2]}
        visual = {"shapeType": client.GEOM_CYLINDER, "radius": half[0], "length": 2 * half[2], "rgbaColor": manner.colour}
    shapes = client.createCollisionShape(**collision), client.createVisualShape(**visual)
    return int(client.createMultiBody(0, *shapes, useMaximalCoordinates=True))
