"""Training loop of learned models: learning-rate schedule, growing windows, checkpoints, resume.

The running average of the weights is validated and saved: its errors are smaller.
Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging".
"""

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import lock_directory, read_json, write_atomic, write_json
from worldmodels.model import LearnedModel
from worldmodels.training import checkpoint
from worldmodels.training.cuda_graph import GradientComputer
from worldmodels.training.muon import Muon
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

DEVICES = ("auto", "cpu", "cuda")
VALIDATION_WINDOWS = 1024
VALIDATION_STEPS = 20  # control steps of each
AVERAGING_UPDATES = 500  # time constant of the running average of the weights
WARMUP_UPDATES = 200  # of the learning rate


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run."""

    updates: int = 6000
    batch: int = 256  # windows of each update
    lengths: tuple[int, ...] = (4, 8, 8, 12)  # steps of the windows, in equal parts of the run
    learning_rate: float = 8e-3
    weight_decay: float = 0.05
    seed: int = 0
    validate_every: int = 250
    threads: int = 1
    device: str = "auto"  # one of DEVICES; "auto": a GPU if available

    def __post_init__(self) -> None:
        counts = (self.updates, self.batch, self.validate_every, self.threads, len(self.lengths), *self.lengths)
        if min(counts) < 1 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise GroundError(f"training needs positive updates, batch, lengths, threads and learning rate, not {self}")
        if self.seed < 0:
            raise GroundError(f"seed {self.seed} must not be negative")
        if self.device not in DEVICES:
            raise GroundError(f"device is one of {', '.join(DEVICES)}, not '{self.device}'")

    @property
    def uses_gpu(self) -> bool:
        """True if training runs on a GPU of this machine."""
        is_available = torch.cuda.is_available()
        if self.device == "cuda" and not is_available:
            raise GroundError("there is no GPU that torch can use here: device 'auto' trains on the CPU then")
        return is_available and self.device != "cpu"

    def make_device_context(self) -> contextlib.AbstractContextManager[Any]:
        """Make a context in which new tensors, windows and models are on the device of training."""
        return torch.device("cuda") if self.uses_gpu else contextlib.nullcontext()

    def get_length(self, update: int) -> int:
        """Return the length of windows at an update, in steps."""
        return self.lengths[min(len(self.lengths) - 1, update * len(self.lengths) // self.updates)]

    def get_learning_rate(self, update: int) -> float:
        """Return the learning rate at an update: linear warm-up, cosine decay to 2 %."""
        warm = min(1.0, (update + 1) / WARMUP_UPDATES)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * update / self.updates)))


@dataclass(frozen=True)
class ValidationResult:
    """Result of one validation during training."""

    metric: str  # name of the error, such as "load error"
    update: int
    loss: float  # mean since the last validation
    validation_mm: float  # error after VALIDATION_STEPS; of several scenes the mean of error / unit
    seconds: float
    scenes_mm: dict[str, float] = field(default_factory=dict)  # errors by scene, if several


Progress = Callable[[int, int, ValidationResult | None], None]


def train(
    model: LearnedModel,
    windows: EpisodeWindows | JointWindows,
    validation: EpisodeWindows | JointWindows,
    config: TrainConfig,
    path: Path,
    metadata: dict[str, Any],
    resume: bool = True,
    progress: Progress = lambda update, total, result: None,
) -> LearnedModel:
    """Train a model and save checkpoints; a finished training is not repeated.

    Args:
        model: new model.
        windows: training data.
        validation: validation data.
        config: settings.
        path: training directory.
        metadata: description for the checkpoint: scene, dataset digest, layout ids.
        resume: continue an unfinished training in `path`.
        progress: called after each update with its number, their total, and a result or None.

    Returns:
        The model of least validation error.

    Raises:
        GroundError: `path` contains another training, data are too few, or training diverges.
    """
    torch.set_num_threads(config.threads)
    with lock_directory(path):
        if resume and is_finished(path, model.name, config, metadata):
            return checkpoint.load_checkpoint(path)
        run = _TrainingRun(model, windows, validation, config, path, metadata)
        if resume and (path / "last.json").exists():
            run.restore()
        run.fit(progress)
    return checkpoint.load_checkpoint(path)


def is_finished(path: Path, model: str, config: TrainConfig, metadata: dict[str, Any]) -> bool:
    """Check if a model of this name is fully trained in a directory.

    Args:
        path: training directory, which may not exist.
        model: name of the model.
        config: settings of the training.
        metadata: description for the checkpoint.

    Raises:
        GroundError: the directory contains another training.
    """
    names = [name for name in ("best", "last") if (path / f"{name}.json").exists()]
    infos = [checkpoint.read_checkpoint_info(path, name) for name in names]
    for info in infos:
        _check_same_training(path, info, model, config, metadata)
    return any(info.get("finished") for info in infos)


def _check_same_training(path: Path, info: dict[str, Any], model: str, config: TrainConfig, metadata: dict[str, Any]) -> None:
    """Raise a GroundError for a checkpoint of another training."""
    default, settings = (json.loads(json.dumps(asdict(values))) for values in (TrainConfig(), config))
    saved = {"model": model, **info, "training": {**default, **info.get("training", {})}}
    wanted = {**metadata, "model": model, "training": settings}
    saved.setdefault("validation", metadata.get("validation"))  # missing in earlier versions
    if any(saved.get(key) != wanted.get(key) for key in ("model", "training", "validation", "data", "env_steps")):
        raise GroundError(f"{path} was trained with another model, settings or data: choose another directory, or --no-resume")


@dataclass
class _TrainingRun:
    """State of one training run."""

    model: LearnedModel
    windows: EpisodeWindows | JointWindows
    validation: EpisodeWindows | JointWindows
    config: TrainConfig
    path: Path
    metadata: dict[str, Any]
    update: int = 0
    best: float = math.inf
    seconds: float = 0.0
    cpu_s: float = 0.0

    def __post_init__(self) -> None:
        self.model.fit_normalisation(self.windows)
        for part in self.windows.parts.values():
            part.find_starts(min(max(self.config.lengths), part.max_steps))  # fails early if all are too short
        self.average = copy.deepcopy(self.model)
        self.gradients = GradientComputer(self.model)
        self.optimizer = Muon(self.model.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay)
        self.batches = {scene: _sample_validation_batch(part) for scene, part in self.validation.parts.items()}
        names = [self.metadata["scene"]] if isinstance(self.metadata["scene"], str) else self.metadata["scene"]
        # Data may be of an unknown scene.
        known = {name: scenes[name] for name in names if name in list(scenes)}
        self.unit_m = {name: scene.unit_m for name, scene in known.items()}
        nouns = {name: scene.dynamic_noun for name, scene in known.items()}
        try:
            pairs = zip(names, self.batches.values(), strict=True)
            metrics = [self.model.describe_validation(batch, nouns.get(name, "body")) for name, batch in pairs]
        except GroundError as error:
            raise GroundError(f"{self.path}: {error}") from error
        self.metric = " and ".join(dict.fromkeys(metrics))

    def fit(self, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        losses = []
        start = time.perf_counter() - self.seconds
        cpu_start = time.process_time() - self.cpu_s
        with SummaryWriter(str(self.path / "tensorboard")) as board:
            while self.update < self.config.updates:
                losses.append(self._update_once())
                self.update += 1
                result = None
                if self.update % self.config.validate_every == 0 or self.update == self.config.updates:
                    self.seconds = time.perf_counter() - start
                    self.cpu_s = time.process_time() - cpu_start
                    result = self._validate(float(torch.stack(losses).mean()))
                    losses = []
                    board.add_scalar("loss/train", result.loss, self.update)
                    board.add_scalar("validation/moved_mm_2s", result.validation_mm, self.update)
                    for scene, error_mm in result.scenes_mm.items():
                        board.add_scalar(f"validation/moved_mm_2s/{scene}", error_mm, self.update)
                    self._save(result)
                progress(self.update, self.config.updates, result)

    def _update_once(self) -> Tensor:
        """Make one update. Its windows depend on seed and update alone, so a run can be resumed."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.update])
        torch.manual_seed(config.seed * 1_000_003 + self.update)
        batch = self.windows.sample(rng, config.batch, config.get_length(self.update))
        for group in self.optimizer.param_groups:
            group["lr"] = config.get_learning_rate(self.update)
        loss = self.gradients(batch)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            weight = max(1 / AVERAGING_UPDATES, 9 / (self.update + 10))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), weight)
        return loss

    def _validate(self, loss: float) -> ValidationResult:
        errors = {scene: self.average.compute_validation_error(batch) for scene, batch in self.batches.items()}
        if len(errors) == 1:
            return ValidationResult(self.metric, self.update, loss, next(iter(errors.values())), self.seconds)
        relative_mm = float(np.mean([errors[scene] / self.unit_m[scene] for scene in errors]))
        return ValidationResult(self.metric, self.update, loss, relative_mm, self.seconds, errors)

    def _save(self, result: ValidationResult) -> None:
        """Save the last state, and the best model; the JSON files last, as they complete it."""
        finished = self.update >= self.config.updates
        if not math.isfinite(result.loss):
            raise GroundError(f"training diverged at update {self.update}: a lower learning rate may help")
        if result.validation_mm < self.best:
            self.best = result.validation_mm
            checkpoint.save_checkpoint(self.average, self.path, "best", self._describe(result, finished))
        elif finished:
            costs = {"seconds": self.seconds, "cpu_s": self.cpu_s}
            write_json(self.path / "best.json", {**read_json(self.path / "best.json"), "finished": True, **costs})
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        weights = self.path / f"last-{self.update}.safetensors"
        write_atomic(weights, lambda to: save_file(checkpoint.copy_tensors(tensors), to))
        write_json(self.path / "last.json", {**self._describe(result, finished), "weights": weights.name})
        for old in set(self.path.glob("last-*.safetensors")) - {weights}:
            old.unlink()

    def _describe(self, result: ValidationResult, finished: bool) -> dict[str, Any]:
        progress = {"best_mm": self.best, "finished": finished, "cpu_s": self.cpu_s, **asdict(result)}
        device = next(self.model.parameters()).device.type
        kind = {"format": checkpoint.CHECKPOINT_FORMAT, "model": self.model.name, "device": device}
        return {**self.metadata, **kind, "training": asdict(self.config), **progress}

    def restore(self) -> None:
        info = checkpoint.read_checkpoint_info(self.path, "last")
        if info["format"] != checkpoint.CHECKPOINT_FORMAT:
            raise GroundError(f"{self.path} was started by an earlier version: choose another directory, or --no-resume")
        try:
            self._restore_state(info, checkpoint.read_tensors(self.path / info["weights"]))
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BadFile(f"the last checkpoint in {self.path} is damaged ({reason}): remove it, or --no-resume") from error

    def _restore_state(self, info: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for prefix, model in (("model.", self.model), ("average.", self.average)):
            weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            model.load_state_dict(weights)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.update = info["update"]
        self.best = info["best_mm"]
        self.seconds = info["seconds"]
        self.cpu_s = info.get("cpu_s", self.seconds)


def _sample_validation_batch(windows: EpisodeWindows) -> Batch:
    steps = min(VALIDATION_STEPS, windows.max_steps)
    rows = windows.find_starts(steps)[0]
    chosen = np.random.default_rng(1).choice(rows, min(VALIDATION_WINDOWS, len(rows)), replace=False)
    return windows.take(np.sort(chosen), steps)
