"""Planners as picklable data, from which worker processes make their own planners."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agents.planning.objective import Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from sim.policy import Policy
from sim.scenes.scene import scenes, split_scene_id
from sim.utils.errors import GroundError, UnknownName
from sim.utils.files import hash_file
from worldmodels.baselines import PREDICTION_BASELINES, PredictionBaseline
from worldmodels.model import WorldModel
from worldmodels.planar.model import PlanarModel
from worldmodels.training.checkpoint import load_checkpoint

LEARNED = "learned"


@dataclass(frozen=True)
class PlannerSpec:
    """A planner as picklable, hashable data; a PolicyFactory.

    Attributes:
        scene: name of the scene.
        model: directory of a trained model, or "simulator" for the true dynamics.
        search: name of the search method.
        config: budget and spread of the search.
        budget_s: time limit of a decision; None: all iterations run.
        is_compiled: rollouts may run compiled.
        traffic_prediction: LEARNED, or one of PREDICTION_BASELINES.
    """

    scene: str
    model: str
    search: str = "mppi"
    config: SearchConfig = SearchConfig()
    budget_s: float | None = None
    is_compiled: bool = False
    traffic_prediction: str = LEARNED

    def __post_init__(self) -> None:
        known = (LEARNED, *PREDICTION_BASELINES)
        if self.traffic_prediction not in known:
            raise UnknownName("traffic prediction", self.traffic_prediction, known)

    def __call__(self) -> Policy:
        return self.make_planners(1)[0]

    @property
    def can_batch(self) -> bool:
        """True if planning in a batch is supported.

        A time budget and gradients need rollouts of single episodes, and so does the simulator.
        """
        return self.model != "simulator" and self.budget_s is None and not searches[self.search].needs_gradient

    def make_planners(self, count: int) -> list[Planner]:
        """Make planners that share a model.

        Raises:
            GroundError: the search method does not work with the model, or not in a batch.
            BadFile: the model cannot be read.
        """
        torch.set_num_threads(1)  # for such small arrays, more threads are slower
        scene = scenes[self.scene]
        search = searches[self.search]
        if search.needs_gradient and self.model == "simulator":
            raise GroundError(f"{self.search} needs gradients, and the simulator has no gradients: use another method")
        if count > 1 and not self.can_batch:
            raise GroundError(f"planners on {self.model} with {self.search} and budget_s {self.budget_s} cannot plan in a batch")
        if search.needs_prior and self.model == "simulator" and scene.max_traffic:
            raise GroundError(f"{self.search} cannot roll out its prior policy in the simulator with traffic: use another method")
        priors = [scene.behaviours["scripted"]() if search.needs_prior else None for _ in range(count)]
        model = self._load_model(count > 1)
        long_search = None
        if scene.max_loads and not scene.make_world:  # pushing needs detours; traffic and a belt leave no time for them
            # Half the samples with twice the horizon take the same number of model steps.
            samples = max(2, self.config.samples // 2)
            long_search = search(replace(self.config, samples=samples, horizon=2 * self.config.horizon))
        return [
            Planner(
                Objective(model, scene.task, scene.hold_steps),
                search(self.config),
                self.budget_s,
                long_search,
                prior,
                propose_actions=scene.propose_actions,
            )
            for prior in priors
        ]

    def describe_content(self) -> dict[str, Any]:
        """Describe all that decisions depend on; the model by its content instead of its path."""
        model = self.model if self.model == "simulator" else hash_file(Path(self.model) / "best.safetensors")
        return {**asdict(self), "model": model}

    def _load_model(self, is_batched: bool) -> WorldModel[Any]:
        if self.model == "simulator":
            from worldmodels.simulator import SimulatorModel  # imports the physics engine

            return SimulatorModel(self.scene)
        model = load_checkpoint(Path(self.model), self.scene)
        model.is_compiled = self.is_compiled
        model.is_batched = is_batched
        model.footprint_size = scenes[self.scene].footprint_size
        model.action_size = scenes[self.scene].action_spec.size
        model.scene = split_scene_id(self.scene)[0]
        if self.traffic_prediction == LEARNED:
            return model
        if not isinstance(model, PlanarModel):
            raise GroundError(f"{self.traffic_prediction} needs a model of planar bodies, not {model.name}")
        return PredictionBaseline(model, self.traffic_prediction)
