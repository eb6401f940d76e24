"""Policies from names and files: what worker processes call to get their own planner."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agents.planning.objective import Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName
from sim.utils.files import hash_file
from worldmodels.baselines import PREDICTION_BASELINES, PredictionBaseline
from worldmodels.model import WorldModel
from worldmodels.planar.model import PlanarModel
from worldmodels.training.checkpoint import load_checkpoint

LEARNED = "learned"


@dataclass(frozen=True)
class PlannerSpec:
    """A planner as data: picklable, hashable, and a PolicyFactory when called.

    model: directory of a trained model, or "simulator" for the true dynamics.
    """

    scene: str
    model: str
    search: str = "mppi"
    config: SearchConfig = SearchConfig()
    budget_s: float | None = None
    is_compiled: bool = False
    prior_policy: PolicyFactory | None = None  # of searches that want one; None: the scene's scripted behaviour
    traffic_prediction: str = LEARNED  # or one of ASSUMPTIONS

    def __post_init__(self) -> None:
        if self.traffic_prediction not in (LEARNED, *PREDICTION_BASELINES):
            raise UnknownName("assumption about traffic", self.traffic_prediction, (LEARNED, *PREDICTION_BASELINES))

    def __call__(self) -> Policy:
        return self.make_planners(1)[0]

    @property
    def can_batch(self) -> bool:
        """Whether several decide faster together: those that a time budget binds, or that take gradients, each imagine alone."""
        return self.model != "simulator" and self.budget_s is None and not searches[self.search].needs_gradient

    def make_planners(self, count: int) -> list[Planner]:
        """Planners that share what they imagine with."""
        torch.set_num_threads(1)  # two threads hurt at these sizes, and every worker has a core
        search, usual = searches[self.search], self.config
        if search.needs_gradient and self.model == "simulator":
            raise GroundError(f"the true simulator has no gradients, and {self.search} needs them: take another search method")
        if count > 1 and not self.can_batch:
            raise GroundError(f"planners on {self.model} with {self.search} and budget_s {self.budget_s} cannot imagine together")
        if search.needs_prior and self.model == "simulator" and scenes[self.scene].max_traffic:
            raise GroundError(
                f"{self.search} cannot imagine its guide among the true simulator's traffic: take another search method"
            )
        guide = (self.prior_policy or scenes[self.scene].behaviours["scripted"]) if search.needs_prior else None
        scene, model, far = scenes[self.scene], self._load_model(count > 1), None
        if scene.max_loads:  # nobody needs to look far to wait for others to pass, nor could foresee them so long
            far = search(replace(usual, samples=max(2, usual.samples // 2), horizon=2 * usual.horizon))  # as many model steps
        return [
            Planner(Objective(model, scene.task, scene.hold_steps), search(usual), self.budget_s, far, guide() if guide else None)
            for _ in range(count)
        ]

    def describe_content(self) -> dict[str, Any]:
        """What its decisions depend on, wherever its model lies."""
        model = self.model if self.model == "simulator" else hash_file(Path(self.model) / "best.safetensors")
        return {**asdict(replace(self, prior_policy=None)), "model": model}

    def _load_model(self, together: bool) -> WorldModel[Any]:
        if self.model == "simulator":
            from worldmodels.simulator import SimulatorModel  # loads the physics engine

            return SimulatorModel(self.scene)
        model = load_checkpoint(Path(self.model), self.scene)
        model.is_compiled, model.is_batched, model.footprint_size = self.is_compiled, together, scenes[self.scene].footprint_size
        model.action_size = scenes[self.scene].action_spec.size
        if self.traffic_prediction == LEARNED:
            return model
        if not isinstance(model, PlanarModel):
            raise GroundError(f"{self.traffic_prediction} needs a model of planar bodies, not {model.name}")
        return PredictionBaseline(model, self.traffic_prediction)
