"""A robot imagined by itself, beside traffic that was imagined once for all of its plans."""

from dataclasses import fields

import torch
from torch import Tensor

from sim.bodies import Bodies
from worldmodels.planar import PlanarState


def alone(state: PlanarState) -> PlanarState:
    """The robot without anybody else."""
    around = state.around.of_movers(lambda values: values[:, :1])
    return PlanarState(state.position[:, :1], state.heading[:, :1], state.velocity[:, :1], state.spin[:, :1], around)


def beside(robot: Bodies, others: Bodies) -> Bodies:
    """Bodies (P, ..., B, H, M, ...) of a robot (1, ..., B, H, 1, ...) and of all (P, ..., 1, H, M, ...), whose own robot is left
    out."""
    row = robot.present.ndim - 1

    def joined(name: str) -> Tensor:
        own, them = getattr(robot, name), getattr(others, name)
        them = them.narrow(row, 1, them.shape[row] - 1)
        shape = torch.broadcast_shapes(own.shape[:row], them.shape[:row])
        own, them = (_once(values, row) for values in (own, them))
        least = torch.broadcast_shapes(own.shape[:row], them.shape[:row])
        both = torch.cat([values.expand(*least, *values.shape[row:]) for values in (own, them)], row)
        return both.expand(*shape, *both.shape[row:])

    return Bodies(**{field.name: joined(field.name) for field in fields(Bodies)})


def _once(values: Tensor, dims: int) -> Tensor:
    """Without the repetitions that its first dimensions are expanded to: what does not change is not copied."""
    for dim in range(dims):
        values = values.narrow(dim, 0, 1) if values.stride(dim) == 0 else values
    return values
