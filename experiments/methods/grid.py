"""What a config trains: which models and agents, on how much data, with which seeds, and where each lies in a run."""

from dataclasses import dataclass, replace
from pathlib import Path

from agents.learned.config import MODEL_BASED, BaselineConfig, ModelData
from experiments.config.experiment import BaselineTrainingConfig, ExperimentConfig, ModelTrainingConfig, format_thousands
from experiments.evaluation.results import make_label
from experiments.methods.training import AgentTraining, ModelTraining
from worldmodels.training.loop import TrainConfig

DEFAULT_ROUND_UPDATES = 3000  # of a model between two rounds, unless told otherwise


@dataclass(frozen=True)
class ModelRun:
    """One model to train: which, on how much of the data, with which seed."""

    config: ModelTrainingConfig
    seed: int
    data_steps: int | None = None  # None: all

    @property
    def name(self) -> str:
        return make_run_label(self.config.name, self.data_steps, self.seed)

    @property
    def seeded_config(self) -> ModelTrainingConfig:
        return replace(self.config, train=replace(self.config.train, seed=self.config.train.seed + self.seed))


class TrainingGrid:
    """All trainings of an experiment in a run's directory."""

    def __init__(self, config: ExperimentConfig, path: Path) -> None:
        self._config, self._path = config, path
        self.round_paths = tuple(path / "data" / f"round-{number}" for number in range(1, len(config.rounds) + 1))
        self.validation_path = path / "data" / "val"

    @property
    def model_runs(self) -> list[ModelRun]:
        """Every model on every amount of data with every seed."""
        config = self._config
        data_amounts = [None, *(steps for steps in config.data_steps if steps < config.collection_steps)]
        return [
            ModelRun(model_config, seed, steps)
            for steps in data_amounts
            for seed in config.train_seeds
            for model_config in config.models
        ]

    def make_model_training(self, model_run: ModelRun) -> ModelTraining:
        return self._make_training(model_run.name, model_run.seeded_config, len(self.round_paths), model_run.data_steps)

    def make_collection_model_training(self, num_rounds: int) -> ModelTraining:
        """The model that collects after so many rounds."""
        config = self._config
        graph_train_config = next(
            (model_config.train for model_config in config.models if model_config.name == "graph"), TrainConfig()
        )
        updates = config.rounds[num_rounds - 1].updates or DEFAULT_ROUND_UPDATES
        collection_model_config = ModelTrainingConfig(
            "graph", replace(graph_train_config, updates=updates, lengths=(4, 8, 8), seed=config.seed)
        )
        return self._make_training(f"graph-round-{num_rounds}", collection_model_config, num_rounds)

    def _make_training(
        self, name: str, model_config: ModelTrainingConfig, num_rounds: int, data_steps: int | None = None
    ) -> ModelTraining:
        return ModelTraining(
            model_config, self.round_paths[:num_rounds], (self.validation_path,), self._path / "models" / name, data_steps
        )

    def make_agent_training(self, baseline: BaselineTrainingConfig, seed: int) -> AgentTraining:
        config, model_data = self._config, None
        steps = baseline.steps or config.baseline_steps
        snapshot_steps = (
            ()
            if baseline.steps or baseline.name in MODEL_BASED
            else tuple(snapshot_step for snapshot_step in config.data_steps if snapshot_step < steps)
        )
        if baseline.name in MODEL_BASED:
            model_data = ModelData(self.make_model_training(ModelRun(config.models[0], seed)).path, self.round_paths)
        path = self._path / "agents" / make_run_label(baseline.method_name, None, seed)
        agent_config = BaselineConfig(baseline.name, config.scene, steps, config.seed + seed, variations=config.variations)
        return AgentTraining(agent_config, path, snapshot_steps, model_data)


def make_run_label(name: str, data_steps: int | None = None, seed: int = 0) -> str:
    """A cell's name: what it is, the amount of data where that is a part, the training seed where it is not the first."""
    return make_label(name + (f"-{format_thousands(data_steps)}" if data_steps else ""), seed)
