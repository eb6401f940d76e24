"""What a config trains: which models and agents, on how much data, with which seeds, and where each lies in a run."""

from dataclasses import dataclass, replace
from pathlib import Path

from agents.learned.config import MODEL_BASED, BaselineConfig, ModelData
from experiments.config.experiment import BaselinePlan, ExperimentConfig, ModelPlan, thousands
from experiments.methods.method import label
from experiments.methods.training import AgentTraining, ModelTraining
from worldmodels.training.loop import TrainConfig

ROUND_UPDATES = 3000  # of a model between two rounds, unless told otherwise


@dataclass(frozen=True)
class Fit:
    """One model to train: which, on how much of the data, with which seed."""

    plan: ModelPlan
    seed: int
    steps: int | None = None  # None: all

    @property
    def name(self) -> str:
        return labelled(self.plan.name, self.steps, self.seed)

    @property
    def seeded(self) -> ModelPlan:
        return replace(self.plan, train=replace(self.plan.train, seed=self.plan.train.seed + self.seed))


class Matrix:
    """All trainings of an experiment in a run's directory."""

    def __init__(self, config: ExperimentConfig, path: Path) -> None:
        self._config, self._path = config, path
        self.rounds = tuple(path / "data" / f"round-{number}" for number in range(1, len(config.rounds) + 1))
        self.validation = path / "data" / "val"

    @property
    def fits(self) -> list[Fit]:
        """Every model on every amount of data with every seed."""
        config = self._config
        amounts = [None, *(steps for steps in config.data_steps if steps < config.steps)]
        return [Fit(plan, seed, steps) for steps in amounts for seed in config.train_seeds for plan in config.models]

    def model(self, fit: Fit) -> ModelTraining:
        return self._model(fit.name, fit.seeded, len(self.rounds), fit.steps)

    def model_after(self, number: int) -> ModelTraining:
        """The model that collects after so many rounds."""
        config = self._config
        usual = next((plan.train for plan in config.models if plan.name == "graph"), TrainConfig())
        updates = config.rounds[number - 1].updates or ROUND_UPDATES
        plan = ModelPlan("graph", replace(usual, updates=updates, lengths=(4, 8, 8), seed=config.seed))
        return self._model(f"graph-round-{number}", plan, number)

    def _model(self, name: str, plan: ModelPlan, rounds: int, steps: int | None = None) -> ModelTraining:
        return ModelTraining(plan, self.rounds[:rounds], (self.validation,), self._path / "models" / name, steps)

    def agent(self, plan: BaselinePlan, seed: int) -> AgentTraining:
        config, imagined = self._config, None
        steps = plan.steps or config.baseline_steps
        snapshots = () if plan.steps or plan.name in MODEL_BASED else tuple(at for at in config.data_steps if at < steps)
        if plan.name in MODEL_BASED:
            imagined = ModelData(self.model(Fit(config.models[0], seed)).path, self.rounds)
        path = self._path / "agents" / labelled(plan.arm, None, seed)
        agent = BaselineConfig(plan.name, config.scene, steps, config.seed + seed, variations=config.variations)
        return AgentTraining(agent, path, snapshots, imagined)


def labelled(name: str, steps: int | None = None, seed: int = 0) -> str:
    """A cell's name: what it is, the amount of data where that is a part, the training seed where it is not the first."""
    return label(name + (f"-{thousands(steps)}" if steps else ""), seed)
