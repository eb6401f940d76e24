"""What a search costs beside the model that it asks, and beside pytorch-mppi on the same model where that is installed."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.planning.objective import Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from sim.bodies import Observation
from sim.policy import EpisodeStart
from sim.scenes.scene import Scene
from worldmodels.model import LearnedModel
from worldmodels.planar.state import PlanarState, decode_bodies

CANDIDATES = (64, 256, 1024)
HORIZON, STD, TEMPERATURE = 25, 0.6, 1.0
REPETITIONS = 7


class Stopwatch:
    """Adds up the time spent in a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = self._function(*arguments)
        self.seconds += time.perf_counter() - begun
        return result


def search_costs(
    scene: Scene, model: LearnedModel, observations: Sequence[Observation], start: EpisodeStart
) -> list[tuple[Any, ...]]:
    """Of decisions with one iteration of mppi; pytorch-mppi decides in turns with it."""
    rollout = Stopwatch(model.rollout)
    model.rollout = rollout  # type: ignore[method-assign, assignment]  # of this one model
    lines: list[tuple[Any, ...]] = []
    for candidates in CANDIDATES:
        logic, theirs = list[float](), list[float]()
        planner = Planner(Objective(model, scene.task), searches["mppi"](SearchConfig(candidates, 1, HORIZON, STD)))
        planner.start_episode(start)
        planner.decide(observations[0])  # the field is computed once per space, not per decision
        for observation in observations[:REPETITIONS]:
            rollout.seconds = 0.0
            decision = planner.decide(observation)
            logic.append((decision.seconds - decision.model_seconds) / rollout.seconds)
            if (decide := _pytorch_mppi(model, planner.objective, scene, candidates)) is not None:
                begun = time.perf_counter()
                decide()
                theirs.append((time.perf_counter() - begun) / decision.seconds)
        lines.append((f"search logic / model's rollouts, {candidates} candidates", statistics.median(logic), "%", "mppi"))
        if theirs:
            how = f"{candidates} × {HORIZON}, the same graph model and cost; theirs asks for one step at a time"
            lines.append(("decision, pytorch-mppi / ours", statistics.median(theirs), "×", how))
    return lines


def _pytorch_mppi(model: LearnedModel, objective: Objective, scene: Scene, candidates: int) -> Callable[[], Any] | None:
    """A decision by pytorch-mppi from the state that the objective has begun at; None where it is not installed."""
    try:
        from pytorch_mppi import MPPI
    except ImportError:
        return None
    first, goal, field = objective.state, objective.goal, objective.cost_field
    names, limits = ("position", "heading", "velocity"), first.context.command_matrix[0].T

    def packed(state: PlanarState) -> Tensor:
        motion = [torch.view_as_real(getattr(state, name)).flatten(1) for name in names]
        return torch.cat([*motion, state.yaw_rate], -1)

    def unpacked(numbers: Tensor) -> PlanarState:
        *motion, spin = numbers.split([2 * first.yaw_rate.shape[1]] * 3 + [first.yaw_rate.shape[1]], -1)
        complex_ = (torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous()) for part in motion)
        return PlanarState(**dict(zip(names, complex_, strict=True)), yaw_rate=spin, context=first.context)

    def cost(numbers: Tensor, action: Tensor) -> Tensor:
        bodies = decode_bodies([unpacked(numbers)])
        found: Tensor = scene.task.compute_cost(bodies, action, goal, field) + scene.task.compute_violation_penalty(
            bodies, (action @ limits)[:, None], field
        )
        return found[:, 0]

    mppi = MPPI(
        lambda numbers, action: packed(model.step(unpacked(numbers), action)),
        cost,
        7 * first.yaw_rate.shape[1],
        STD**2 * torch.eye(len(limits)),
        num_samples=candidates,
        horizon=HORIZON,
        lambda_=TEMPERATURE,
        u_min=-torch.ones(len(limits)),
        u_max=torch.ones(len(limits)),
    )
    start = packed(first)[0]
    return torch.inference_mode()(lambda: mppi.command(start))
