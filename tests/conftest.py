"""Fixtures and helpers of several test files. Hypothesis samples the same examples in each run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from sim.data.collect import CollectConfig, collect
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from worldmodels.model import models
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.windows import PlanarWindows

torch.set_num_threads(1)
settings.register_profile(
    "ground", deadline=None, derandomize=True, max_examples=40, database=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("ground")

SCENE = "logistics/tote-push"
PLANAR_MODELS = [name for name in models if issubclass(models[name], PlanarModel)]
TINY = CollectConfig(SCENE, steps=1200, shard_steps=400, seed=7, layouts_per_shard=3)


def limit_steps(scene: str, steps: int) -> int:
    """Limit a number of steps to 2 in scenes where each is a whole skill."""
    return min(steps, 2) if scenes[scene].is_skill else steps


def make_action(scene: str, *values: float) -> np.ndarray:
    """Make an action of the scene's size; few values are repeated."""
    return np.resize(np.array(values, np.float32), scenes[scene].action_spec.size)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Collect three shards in training layouts. Copy the dataset before changes."""
    return collect(TINY, tmp_path_factory.mktemp("data") / "train", workers=1)


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Collect one shard of the split val, with enough consecutive steps for validation windows."""
    config = CollectConfig(SCENE, steps=600, shard_steps=600, seed=8, split="val", layouts_per_shard=3)
    return collect(config, tmp_path_factory.mktemp("data") / "val", workers=1)


@pytest.fixture(scope="session")
def windows(dataset: Dataset) -> PlanarWindows:
    return PlanarWindows(dataset.episodes())


def _restore_signal_handlers() -> None:
    """Restore the handlers of a terminal: processes in the background ignore signals, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Ground:
    """The `ground` command in a separate process."""

    def __init__(self, *words: object, group: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=group,
            preexec_fn=_restore_signal_handlers,
        )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition or the end of the process."""
        while not condition() and self.process.poll() is None:
            time.sleep(0.01)
        assert condition(), self.process.communicate()[1]

    def kill(self) -> None:
        """Send SIGKILL to the process, which must still run."""
        assert self.process.poll() is None
        self.process.kill()
        self.process.communicate()

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, stdout and stderr."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture
def ground() -> type[Ground]:
    return Ground


def read_files(path: Path) -> dict[str, bytes]:
    """Read every file of a directory."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file() and file.name != ".lock"}


class LinearQuadratic:
    """Two masses on lines with quadratic cost; the optimal actions are a least-squares solution."""

    TRANSITION = np.array([[1, 0, 0.2, 0], [0, 1, 0, 0.2], [0, 0, 0.9, 0], [0, 0, 0, 0.9]])
    INPUT = np.array([[0, 0], [0, 0], [0.3, 0], [0, 0.3]])
    WEIGHTS, EFFORT = np.array([1, 1, 0.1, 0.1]), 0.05

    def __init__(self, start: tuple[float, ...], horizon: int) -> None:
        self._start, self._horizon = np.array(start), horizon
        offset = self._compute_residuals(np.zeros((1, horizon, 2)))[0]
        basis = np.eye(2 * horizon).reshape(-1, horizon, 2)
        self._linear, self._offset = (self._compute_residuals(basis) - offset).T, offset

    @classmethod
    def step(cls, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        return state @ cls.TRANSITION.T + action @ cls.INPUT.T

    def _compute_residuals(self, actions: np.ndarray) -> np.ndarray:
        """Compute the residuals (B, R) of the cost for actions (B, H, 2)."""
        state, parts = np.broadcast_to(self._start, (len(actions), 4)), []
        for t in range(self._horizon):
            state = self.step(state, actions[:, t])
            parts += [state * np.sqrt(self.WEIGHTS), np.sqrt(self.EFFORT) * actions[:, t]]
        return np.concatenate(parts, -1)

    def compute_costs(self, actions: torch.Tensor) -> torch.Tensor:
        residuals = actions.double().flatten(1) @ torch.as_tensor(self._linear).T + torch.as_tensor(self._offset)
        return residuals.square().sum(-1).float()

    def compute_solution(self) -> torch.Tensor:
        """Compute the optimal actions (H, 2) without limits."""
        optimum, *_ = np.linalg.lstsq(self._linear, -self._offset, rcond=None)
        return torch.as_tensor(optimum.reshape(-1, 2), dtype=torch.float32)
