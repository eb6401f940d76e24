"""Cost of a search beside the rollouts of its model, and beside pytorch-mppi on that model."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from agents.planning.objective import Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from experiments.bench.measurement import Measurement, make_random_model, measure_s, record_scripted_episode, time_rollouts
from sim.bodies import Observation
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import Scene
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import PlanarState, decode_bodies

CANDIDATE_COUNTS = (64, 256, 1024)
HORIZON_STEPS = 25
ACTION_STD = 0.6
TEMPERATURE = 1.0
NUM_REPETITIONS = 7


def measure_search(scene: Scene) -> list[Measurement]:
    """Measure searches on a model with random weights."""
    env = GroundEnv(scene, "test")
    observations = [observation for observation, _ in record_scripted_episode(env)]
    model = make_random_model("graph")
    assert isinstance(model, PlanarModel)
    return measure_search_costs(scene, model, observations, env.make_episode_start(0))


def measure_search_costs(
    scene: Scene, model: PlanarModel, observations: Sequence[Observation], start: EpisodeStart
) -> list[Measurement]:
    """Measure decisions with one iteration of mppi, in turns with pytorch-mppi."""
    rollouts = time_rollouts(model)
    measurements = []
    for count in CANDIDATE_COUNTS:
        search_ratios: list[float] = []
        pytorch_mppi_ratios: list[float] = []
        search = searches["mppi"](SearchConfig(count, 1, HORIZON_STEPS, ACTION_STD))
        planner = Planner(Objective(model, scene.task), search)
        planner.start_episode(start)
        planner.decide(observations[0])  # computes the cost field once per layout
        for observation in observations[:NUM_REPETITIONS]:
            rollouts.seconds = 0.0
            decision = planner.decide(observation)
            search_ratios.append((decision.seconds - decision.model_seconds) / rollouts.seconds)
            if (plan := _make_pytorch_mppi(model, planner.objective, scene, count)) is not None:
                pytorch_mppi_ratios.append(measure_s(plan) / decision.seconds)
        measurements.append(Measurement(f"search / model rollouts, {count} candidates", median(search_ratios), "%", "mppi"))
        if pytorch_mppi_ratios:
            conditions = f"{count} × {HORIZON_STEPS}, the same graph model and cost; pytorch-mppi steps the model one by one"
            measurements.append(Measurement("decision, pytorch-mppi / ours", median(pytorch_mppi_ratios), "×", conditions))
    return measurements


def _make_pytorch_mppi(model: PlanarModel, objective: Objective, scene: Scene, num_candidates: int) -> Callable[[], Any] | None:
    """Make a decision of pytorch-mppi from the objective's state; None if not installed."""
    try:
        from pytorch_mppi import MPPI
    except ImportError:
        return None
    initial_state = objective.state
    motion_fields = ("position", "heading", "velocity")
    command_matrix = initial_state.context.command_matrix[0].T

    def pack_state(state: PlanarState) -> Tensor:
        motion = [torch.view_as_real(getattr(state, name)).flatten(1) for name in motion_fields]
        return torch.cat([*motion, state.yaw_rate], -1)

    def unpack_state(state_vector: Tensor) -> PlanarState:
        *motion, yaw_rate = state_vector.split([2 * initial_state.yaw_rate.shape[1]] * 3 + [initial_state.yaw_rate.shape[1]], -1)
        complex_parts = (torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous()) for part in motion)
        motion_by_name = dict(zip(motion_fields, complex_parts, strict=True))
        return PlanarState(**motion_by_name, yaw_rate=yaw_rate, context=initial_state.context)

    def compute_cost(state_vector: Tensor, action: Tensor) -> Tensor:
        bodies = decode_bodies([unpack_state(state_vector)])
        command = (action @ command_matrix)[:, None]
        costs: Tensor = scene.task.compute_cost(bodies, action, objective.goal, objective.cost_field)
        return (costs + scene.task.compute_violation_penalty(bodies, command, objective.cost_field))[:, 0]

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
