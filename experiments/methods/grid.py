"""TrainingGrid: all trainings of an experiment, and their places in a run."""

from dataclasses import replace
from itertools import product
from pathlib import Path

from agents.learned.config import MODEL_BASED, BaselineConfig, ModelData
from experiments.config.experiment import BaselineTrainingConfig, ExperimentConfig, ModelTrainingConfig, format_thousands
from experiments.evaluation.results import make_label
from experiments.methods.training import AgentTraining, ModelTraining
from worldmodels.training.loop import TrainConfig

DEFAULT_ROUND_UPDATES = 3000  # of a model between two rounds


class TrainingGrid:
    """All trainings of an experiment in a run directory."""

    def __init__(self, config: ExperimentConfig, path: Path) -> None:
        self._config = config
        self._path = path
        self.round_paths = tuple(path / "data" / f"round-{number}" for number in range(1, len(config.rounds) + 1))
        self.validation_paths = (path / "data" / "val",)

    @property
    def model_trainings(self) -> list[ModelTraining]:
        """The trainings of every model on every amount of data with every seed."""
        config = self._config
        amounts = [None, *(steps for steps in config.data_steps if steps < config.collection_steps)]
        cases = product(amounts, config.train_seeds, config.models)
        return [self.make_model_training(model, seed, steps) for steps, seed, model in cases]

    @property
    def collection_trainings(self) -> list[ModelTraining]:
        """The trainings of the models that plan in rounds 2 and later."""
        return [self._make_collection_training(number) for number in range(1, len(self._config.rounds))]

    @property
    def agent_trainings(self) -> list[AgentTraining]:
        """The trainings of every agent with every seed."""
        config = self._config
        return [self._make_agent_training(baseline, seed) for baseline in config.baselines for seed in config.train_seeds]

    def make_model_training(self, model: ModelTrainingConfig, seed: int, data_steps: int | None = None) -> ModelTraining:
        """Make the training of a model on an amount of data; None: on all data."""
        config = replace(model, train=replace(model.train, seed=model.train.seed + seed))
        path = self._path / "models" / make_run_label(model.name, data_steps, seed)
        return ModelTraining(config, self.round_paths, self.validation_paths, path, data_steps, seed)

    def _make_collection_training(self, num_rounds: int) -> ModelTraining:
        config = self._config
        train = next((model.train for model in config.models if model.name == "graph"), TrainConfig())
        updates = config.rounds[num_rounds - 1].updates or DEFAULT_ROUND_UPDATES
        model = ModelTrainingConfig("graph", replace(train, updates=updates, lengths=(4, 8, 8), seed=config.seed))
        path = self._path / "models" / f"graph-round-{num_rounds}"
        return ModelTraining(model, self.round_paths[:num_rounds], self.validation_paths, path)

    def _make_agent_training(self, baseline: BaselineTrainingConfig, seed: int) -> AgentTraining:
        config = self._config
        is_model_based = baseline.name in MODEL_BASED
        steps = baseline.steps or config.baseline_steps
        has_snapshots = not baseline.steps and not is_model_based
        snapshots = tuple(step for step in config.data_steps if step < steps) if has_snapshots else ()
        model_data = None
        if is_model_based:
            model_data = ModelData(self.make_model_training(config.models[0], seed).path, self.round_paths)
        path = self._path / "agents" / make_label(baseline.method_name, seed)
        agent = BaselineConfig(baseline.name, config.scene, steps, config.seed + seed, variations=config.variations)
        return AgentTraining(agent, path, snapshots, model_data, baseline.method_name, seed)


def make_run_label(name: str, data_steps: int | None = None, seed: int = 0) -> str:
    """Make a training's label: name, amount of data if not all, seed if not the first."""
    return make_label(f"{name}-{format_thousands(data_steps)}" if data_steps else name, seed)
