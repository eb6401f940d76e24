"""Bullet bodies of people and forklifts.

The traffic simulation moves them; contacts are detected but do not push them.
"""

from collections.abc import Iterable
from typing import Any

from sim.bodies import Shape
from sim.bullet.client import BulletClient
from sim.traffic.simulation import AgentProfile, TrafficSimulation


class AgentBodies:
    """A body for each agent of a traffic simulation."""

    def __init__(self, client: BulletClient, traffic: TrafficSimulation) -> None:
        self._client = client
        self._traffic = traffic
        self.ids = [_create_body(client, profile) for profile in traffic.profiles]

    def update(self, agents: Iterable[int] | None = None) -> None:
        """Move bodies to their agents.

        Args:
            agents: indices of the agents; None: all.
        """
        states = self._traffic.list_states()
        for index in range(len(self.ids)) if agents is None else agents:
            pose, twist = states[index]
            self._client.resetBasePositionAndOrientation(self.ids[index], pose[:3], pose[3:])
            self._client.resetBaseVelocity(self.ids[index], twist[:3], twist[3:])


def _create_body(client: BulletClient, profile: AgentProfile) -> int:
    half = list(profile.half_extents)
    collision: dict[str, Any] = {"shapeType": client.GEOM_BOX, "halfExtents": half}
    visual = {**collision, "rgbaColor": profile.colour}
    if profile.shape == Shape.CYLINDER:
        collision = {"shapeType": client.GEOM_CYLINDER, "radius": half[0], "height": 2 * half[2]}
        visual = {"shapeType": client.GEOM_CYLINDER, "radius": half[0], "length": 2 * half[2], "rgbaColor": profile.colour}
    shapes = (client.createCollisionShape(**collision), client.createVisualShape(**visual))
    return int(client.createMultiBody(0, *shapes, useMaximalCoordinates=True))
