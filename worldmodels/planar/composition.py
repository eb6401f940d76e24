"""A robot imagined by itself, beside traffic that was imagined once for all of its plans."""

from dataclasses import fields

import torch
from torch import Tensor

from sim.bodies import Bodies
from worldmodels.planar.state import PlanarState


def robot_only(state: PlanarState) -> PlanarState:
    """The robot without anybody else."""
    around = state.context.map_dynamic(lambda values: values[:, :1])
    return PlanarState(state.position[:, :1], state.heading[:, :1], state.velocity[:, :1], state.yaw_rate[:, :1], around)


def choose_representatives(paths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of B paths (E, B, D) up to `count` that cover the others well, the first one and then always the one farthest from those
    (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"): which they are (E, R), and the place among them
    of the one nearest to each path (E, B)."""
    picked = [torch.zeros(len(paths), dtype=torch.long)]
    away = [(paths - paths[:, :1]).square().sum(-1)]
    for _ in range(min(count, paths.shape[1]) - 1):
        far = torch.stack(away).amin(0).argmax(-1)
        picked.append(far)
        away.append((paths - paths[torch.arange(len(paths)), far][:, None]).square().sum(-1))
    return torch.stack(picked, 1), torch.stack(away).argmin(0)


def gather(bodies: Bodies, which: Tensor) -> Bodies:
    """Of R futures each (P, E, R, ...) those that `which` (E, B) names: (P, E, B, ...)."""
    scene = torch.arange(len(which))[:, None]

    def pick(values: Tensor) -> Tensor:
        if values.stride(2) == 0:
            return values[:, :, :1].expand(-1, -1, which.shape[1], *values.shape[3:])
        return values[:, scene, which]

    return bodies.map(pick)


def merge_agents(robot: Bodies, others: Bodies) -> Bodies:
    """Bodies (P, ..., B, H, M, ...) of a robot (1, ..., B, H, 1, ...) and of all (P, ..., 1, H, M, ...), whose own robot is left
    out."""
    row = robot.present.ndim - 1

    def joined(name: str) -> Tensor:
        own, them = getattr(robot, name), getattr(others, name)
        them = them.narrow(row, 1, them.shape[row] - 1)
        shape = torch.broadcast_shapes(own.shape[:row], them.shape[:row])
        own, them = (_drop_expansion(values, row) for values in (own, them))
        least = torch.broadcast_shapes(own.shape[:row], them.shape[:row])
        both = torch.cat([values.expand(*least, *values.shape[row:]) for values in (own, them)], row)
        return both.expand(*shape, *both.shape[row:])

    return Bodies(**{field.name: joined(field.name) for field in fields(Bodies)})


def _drop_expansion(values: Tensor, dims: int) -> Tensor:
    """Without the repetitions that its first dimensions are expanded to: what does not change is not copied."""
    for dim in range(dims):
        values = values.narrow(dim, 0, 1) if values.stride(dim) == 0 else values
    return values
