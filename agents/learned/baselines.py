"""Stable-Baselines3 agents as data: which there are, with what settings, and where a trained one lies.

SB3 itself is imported where an agent is trained or acts (agents/sb3.py): it takes as long as everything else together.
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
    """Train in `path`, keeping the last state every `save_every` steps; a finished run is left as it is, a broken one goes on.

    snapshots: steps after which the agent is kept as it is then, beside its last state.
    """
    if (config.algorithm in MODEL_BASED) != (model_data is not None):
        raise GroundError(f"{config.algorithm} {'needs' if model_data is None else 'does not learn in'} a model")
    from agents.learned.sb3 import train

    train(config, path, progress, snapshots, model_data)


@dataclass(frozen=True)
class BaselineSpec:
    """A trained SB3 agent as data: picklable, and a PolicyFactory when called."""

    scene: str
    path: str

    def __call__(self) -> Policy:
        from agents.learned.sb3 import BaselinePolicy

        return BaselinePolicy(Path(self.path), self.scene)
