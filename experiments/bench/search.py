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

CANDIDATE_COUNTS = (64, 256, 1024)
HORIZON_STEPS, ACTION_STD, TEMPERATURE = 25, 0.6, 1.0
NUM_REPETITIONS = 7


class Stopwatch:
    """Adds up the time spent in a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        start_s = time.perf_counter()
        result = self._function(*arguments)
        self.seconds += time.perf_counter() - start_s
        return result


def measure_search_costs(
    scene: Scene, model: LearnedModel, observations: Sequence[Observation], start: EpisodeStart
) -> list[tuple[Any, ...]]:
    """Of decisions with one iteration of mppi; pytorch-mppi decides in turns with it."""
    rollout = Stopwatch(model.rollout)
    model.rollout = rollout  # type: ignore[method-assign, assignment]  # of this one model
    measurements: list[tuple[Any, ...]] = []
    for num_candidates in CANDIDATE_COUNTS:
        search_ratios, pytorch_mppi_ratios = list[float](), list[float]()
        planner = Planner(
            Objective(model, scene.task), searches["mppi"](SearchConfig(num_candidates, 1, HORIZON_STEPS, ACTION_STD))
        )
        planner.start_episode(start)
        planner.decide(observations[0])  # the field is computed once per space, not per decision
        for observation in observations[:NUM_REPETITIONS]:
            rollout.seconds = 0.0
            decision = planner.decide(observation)
            search_ratios.append((decision.seconds - decision.model_seconds) / rollout.seconds)
            if (plan_with_pytorch_mppi := _make_pytorch_mppi(model, planner.objective, scene, num_candidates)) is not None:
                start_s = time.perf_counter()
                plan_with_pytorch_mppi()
                pytorch_mppi_ratios.append((time.perf_counter() - start_s) / decision.seconds)
        measurements.append(
            (f"search logic / model's rollouts, {num_candidates} candidates", statistics.median(search_ratios), "%", "mppi")
        )
        if pytorch_mppi_ratios:
            conditions = f"{num_candidates} × {HORIZON_STEPS}, the same graph model and cost; theirs asks for one step at a time"
            measurements.append(("decision, pytorch-mppi / ours", statistics.median(pytorch_mppi_ratios), "×", conditions))
    return measurements


def _make_pytorch_mppi(model: LearnedModel, objective: Objective, scene: Scene, num_candidates: int) -> Callable[[], Any] | None:
    """A decision by pytorch-mppi from the state that the objective has begun at; None where it is not installed."""
    try:
        from pytorch_mppi import MPPI
    except ImportError:
        return None
    initial_state, goal, cost_field = objective.state, objective.goal, objective.cost_field
    motion_fields, command_matrix = ("position", "heading", "velocity"), initial_state.context.command_matrix[0].T

    def pack_state(state: PlanarState) -> Tensor:
        motion = [torch.view_as_real(getattr(state, name)).flatten(1) for name in motion_fields]
        return torch.cat([*motion, state.yaw_rate], -1)

    def unpack_state(state_vector: Tensor) -> PlanarState:
        *motion, yaw_rate = state_vector.split([2 * initial_state.yaw_rate.shape[1]] * 3 + [initial_state.yaw_rate.shape[1]], -1)
        complex_parts = (torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous()) for part in motion)
        return PlanarState(
            **dict(zip(motion_fields, complex_parts, strict=True)), yaw_rate=yaw_rate, context=initial_state.context
        )

    def compute_cost(state_vector: Tensor, action: Tensor) -> Tensor:
        bodies = decode_bodies([unpack_state(state_vector)])
        costs: Tensor = scene.task.compute_cost(bodies, action, goal, cost_field) + scene.task.compute_violation_penalty(
            bodies, (action @ command_matrix)[:, None], cost_field
        )
        return costs[:, 0]

    mppi = MPPI(
        lambda state_vector, action: pack_state(model.step(unpack_state(state_vector), action)),
        compute_cost,
        7 * initial_state.yaw_rate.shape[1],
        ACTION_STD**2 * torch.eye(len(command_matrix)),
        num_samples=num_candidates,
        horizon=HORIZON_STEPS,
        lambda_=TEMPERATURE,
        u_min=-torch.ones(len(command_matrix)),
        u_max=torch.ones(len(command_matrix)),
    )
    initial_vector = pack_state(initial_state)[0]
    return torch.inference_mode()(lambda: mppi.command(initial_vector))
