"""Composition of predictions: the robot for all candidates, agents for some representatives."""

from dataclasses import fields

import torch
from torch import Tensor

from sim.bodies import Bodies
from worldmodels.planar.state import PlanarState


def select_robot(state: PlanarState) -> PlanarState:
    """Make the state of the robot only."""
    context = state.context.map_dynamic(lambda values: values[:, :1])
    return PlanarState(state.position[:, :1], state.heading[:, :1], state.velocity[:, :1], state.yaw_rate[:, :1], context)


def choose_representatives(paths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Choose paths that cover all paths well, by farthest-point sampling from the first path.

    Source: Gonzalez 1985, "Clustering to minimize the maximum intercluster distance".

    Args:
        paths: (E, B, D) paths of B candidates in E scenes.
        count: number R of representatives, if B is not less.

    Returns:
        representatives: (E, R) indices of the selected paths among the B paths.
        nearest: (E, B) index of each path's nearest representative among the R.
    """
    selected = [torch.zeros(len(paths), dtype=torch.long)]
    distances = [(paths - paths[:, :1]).square().sum(-1)]
    for _ in range(min(count, paths.shape[1]) - 1):
        farthest = torch.stack(distances).amin(0).argmax(-1)
        selected.append(farthest)
        distances.append((paths - paths[torch.arange(len(paths)), farthest][:, None]).square().sum(-1))
    return torch.stack(selected, 1), torch.stack(distances).argmin(0)


def gather(bodies: Bodies, index: Tensor) -> Bodies:
    """Gather the predictions of representatives for all candidates.

    Args:
        bodies: (P, E, R, ...) predictions of R representatives.
        index: (E, B) representative of each candidate.

    Returns:
        Bodies (P, E, B, ...).
    """
    scene = torch.arange(len(index))[:, None]

    def pick(values: Tensor) -> Tensor:
        if values.stride(2) == 0:
            return values[:, :, :1].expand(-1, -1, index.shape[1], *values.shape[3:])
        return values[:, scene, index]

    return bodies.map(pick)


def merge_agents(robot: Bodies, agents: Bodies) -> Bodies:
    """Merge predictions of the robot and of the agents.

    Args:
        robot: (1, ..., B, H, 1, ...) the robot only.
        agents: (P, ..., 1 or B, H, M, ...) all bodies; row 0, the robot, is left out.

    Returns:
        Bodies (P, ..., B, H, M, ...).
    """
    row = robot.present.ndim - 1
    count = agents.present.shape[row] - 1

    def join(name: str) -> Tensor:
        parts = [getattr(robot, name), getattr(agents, name).narrow(row, 1, count)]
        shape = torch.broadcast_shapes(*(values.shape[:row] for values in parts))
        parts = [_drop_expansion(values, row) for values in parts]
        least = torch.broadcast_shapes(*(values.shape[:row] for values in parts))
        joined = torch.cat([values.expand(*least, *values.shape[row:]) for values in parts], row)
        return joined.expand(*shape, *joined.shape[row:])

    return Bodies(**{field.name: join(field.name) for field in fields(Bodies)})


def _drop_expansion(values: Tensor, dims: int) -> Tensor:
    """Undo the expansion of the first dimensions: constant values are not copied."""
    for dim in range(dims):
        values = values.narrow(dim, 0, 1) if values.stride(dim) == 0 else values
    return values
