"""Stable-Baselines3 agents: training, and trained agents as picklable data.

SB3 takes long to import. The module that imports it, `agents.learned.sb3`, is therefore imported
only where an agent is trained or acts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.learned.config import MODEL_BASED, BaselineConfig, ModelData, Progress
from sim.policy import Policy
from sim.utils.errors import GroundError


def train_baseline(
    config: BaselineConfig,
    path: Path,
    progress: Progress = lambda done, total: None,
    snapshots: Sequence[int] = (),
    model_data: ModelData | None = None,
) -> None:
    """Train an agent. A finished training run is left unchanged, an interrupted run is resumed.

    Args:
        config: the agent.
        path: directory of the training run; its state is saved every `save_every` steps.
        progress: called with the completed steps and the total.
        snapshots: numbers of steps after which a copy of the agent is saved.
        model_data: model and episodes, for the algorithms in MODEL_BASED.

    Raises:
        GroundError: `model_data` does not fit the algorithm, or `path` holds another agent.
        BadFile: the saved state is damaged, or belongs to another version of the observation.
    """
    if (config.algorithm in MODEL_BASED) != (model_data is not None):
        raise GroundError(f"{config.algorithm} {'needs' if model_data is None else 'does not learn in'} a model")
    from agents.learned.sb3 import train

    train(config, path, progress, snapshots, model_data)


@dataclass(frozen=True)
class BaselineSpec:
    """A trained SB3 agent as picklable data; a PolicyFactory."""

    scene: str
    path: str

    def __call__(self) -> Policy:
        from agents.learned.sb3 import BaselinePolicy

        return BaselinePolicy(Path(self.path), self.scene)
