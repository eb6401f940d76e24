"""Settings of the Stable-Baselines3 agents."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.data.store import Dataset
from sim.utils.errors import GroundError, UnknownName
from sim.utils.files import hash_file

OFF_POLICY = {"batch_size": 256, "learning_starts": 2000, "train_freq": 1, "gradient_steps": 1, "gamma": 0.98}
ON_POLICY = {"n_steps": 512, "batch_size": 256, "n_epochs": 10, "gamma": 0.98, "gae_lambda": 0.95, "ent_coef": 0.003}
ALGORITHMS: dict[str, tuple[str, dict[str, Any], int]] = {  # SB3 class, settings, environments
    "sac": ("SAC", OFF_POLICY, 1),
    "td3": ("TD3", OFF_POLICY, 1),
    "ppo": ("PPO", ON_POLICY, 4),
    "dyna": ("SAC", OFF_POLICY | {"gradient_steps": 4}, 32),
}
MODEL_BASED = ("dyna",)  # algorithms that train on the predictions of a model


@dataclass(frozen=True)
class BaselineConfig:
    """An SB3 agent, trained in layouts of the training split."""

    algorithm: str
    scene: str
    steps: int = 100_000  # environment steps, or model steps for MODEL_BASED
    seed: int = 0
    save_every: int = 10_000  # steps between two saved states
    variations: tuple[str, ...] = ()  # replace those of the training split

    def __post_init__(self) -> None:
        object.__setattr__(self, "variations", tuple(self.variations))  # JSON has lists
        if self.algorithm not in ALGORITHMS:
            raise UnknownName("algorithm", self.algorithm, ALGORITHMS)
        if self.steps < 1 or self.save_every < 1:
            raise GroundError(f"an SB3 agent needs positive steps and save_every, not {self.steps} and {self.save_every}")


Progress = Callable[[int, int], None]  # completed steps, total steps


@dataclass(frozen=True)
class ModelData:
    """A learned model to train in, and episodes whose states are the starts of model rollouts."""

    model: Path  # directory of a trained model
    data: tuple[Path, ...]  # directories of datasets

    def describe_content(self) -> dict[str, Any]:
        """Describe the content of the files, on which the model rollouts depend."""
        data_hashes = [Dataset.open(path).content_hash for path in self.data]
        return {"model": hash_file(self.model / "best.safetensors"), "data": data_hashes}


def get_snapshot_path(path: Path, steps: int) -> Path:
    """Get the directory of the copy of an agent that is saved after a number of steps."""
    return path / f"at-{steps}"
