"""Small data that several files share. Everything is deterministic: hypothesis draws the same examples every time."""

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


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three shards of training spaces. Copy it before changing anything."""
    return collect(TINY, tmp_path_factory.mktemp("data") / "train", workers=1)


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One shard of the split val, with enough steps in a row for validation windows."""
    config = CollectConfig(SCENE, steps=600, shard_steps=600, seed=8, split="val", layouts_per_shard=3)
    return collect(config, tmp_path_factory.mktemp("data") / "val", workers=1)


@pytest.fixture(scope="session")
def windows(dataset: Dataset) -> PlanarWindows:
    return PlanarWindows(dataset.episodes())


def _hear_signals() -> None:
    """As in a terminal, whatever started the tests: in the background, signals are ignored and children inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Ground:
    """The `ground` command as a process of its own, as a user starts it."""

    def __init__(self, *words: object, group: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.cli", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=group,
            preexec_fn=_hear_signals,
        )

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Until something is there, or the process is over."""
        while not happened() and self.process.poll() is None:
            time.sleep(0.01)
        assert happened(), self.process.communicate()[1]

    def kill(self) -> None:
        """SIGKILL; the process must still have had something to do."""
        assert self.process.poll() is None
        self.process.kill()
        self.process.communicate()

    def finish(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture
def ground() -> type[Ground]:
    return Ground


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file() and file.name != ".lock"}


class LinearQuadratic:
    """Two masses on a line each, pushed by two actions; quadratic cost. Its best actions are a least-squares solution."""

    TRANSITION = np.array([[1, 0, 0.2, 0], [0, 1, 0, 0.2], [0, 0, 0.9, 0], [0, 0, 0, 0.9]])
    INPUT = np.array([[0, 0], [0, 0], [0.3, 0], [0, 0.3]])
    WEIGHTS, EFFORT = np.array([1, 1, 0.1, 0.1]), 0.05

    def __init__(self, start: tuple[float, ...], horizon: int) -> None:
        self._start, self._horizon = np.array(start), horizon
        offset = self._residuals(np.zeros((1, horizon, 2)))[0]
        basis = np.eye(2 * horizon).reshape(-1, horizon, 2)
        self._linear, self._offset = (self._residuals(basis) - offset).T, offset

    @classmethod
    def step(cls, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        return state @ cls.TRANSITION.T + action @ cls.INPUT.T

    def _residuals(self, actions: np.ndarray) -> np.ndarray:
        """What is squared and summed (B, R), for actions (B, H, 2)."""
        state, parts = np.broadcast_to(self._start, (len(actions), 4)), []
        for t in range(self._horizon):
            state = self.step(state, actions[:, t])
            parts += [state * np.sqrt(self.WEIGHTS), np.sqrt(self.EFFORT) * actions[:, t]]
        return np.concatenate(parts, -1)

    def costs(self, actions: torch.Tensor) -> torch.Tensor:
        residuals = actions.double().flatten(1) @ torch.as_tensor(self._linear).T + torch.as_tensor(self._offset)
        return residuals.square().sum(-1).float()

    def solution(self) -> torch.Tensor:
        """The best actions (H, 2) there are, limits aside."""
        best, *_ = np.linalg.lstsq(self._linear, -self._offset, rcond=None)
        return torch.as_tensor(best.reshape(-1, 2), dtype=torch.float32)
