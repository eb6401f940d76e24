"""The one loop that fits any model: warm-up and cosine, growing windows, checkpoints, resume, best on validation kept.

What is kept and judged is the running average of the weights (Polyak & Juditsky 1992), which errs less than they do.
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
from sim.utils.errors import GroundError
from sim.utils.files import lock_directory, read_json, write_atomic, write_json
from worldmodels.model import LearnedModel
from worldmodels.training.checkpoint import (
    CHECKPOINT_FORMAT,
    copy_tensors,
    load_checkpoint,
    read_checkpoint_info,
    read_tensors,
    save_checkpoint,
)
from worldmodels.training.cuda_graph import GradientComputer
from worldmodels.training.muon import Muon
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

DEVICES = ("auto", "cpu", "cuda")
VALIDATION_WINDOWS, VALIDATION_STEPS = 1024, 20
AVERAGING_UPDATES = 500  # updates that the running average of the weights looks back


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast. `lengths` are the windows' steps in equal parts of the run."""

    updates: int = 6000
    batch: int = 256
    lengths: tuple[int, ...] = (4, 8, 8, 12)
    learning_rate: float = 8e-3
    weight_decay: float = 0.05
    seed: int = 0
    validate_every: int = 250
    threads: int = 1
    device: str = "auto"  # a GPU where there is one, or "cpu" or "cuda"

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
        """Whether it trains on a GPU here."""
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise GroundError("there is no GPU that torch can use here: device 'auto' trains on the CPU then")
        return there and self.device != "cpu"

    def make_device_context(self) -> contextlib.AbstractContextManager[Any]:
        """Windows and models made within are on the device, and so is what they make."""
        return torch.device("cuda") if self.uses_gpu else contextlib.nullcontext()

    def get_length(self, update: int) -> int:
        return self.lengths[min(len(self.lengths) - 1, update * len(self.lengths) // self.updates)]

    def get_learning_rate(self, update: int) -> float:
        warm = min(1.0, (update + 1) / 200)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * update / self.updates)))


@dataclass(frozen=True)
class ValidationResult:
    """One look at training."""

    metric: str  # is measured of what moves beside the robot, as people call that
    update: int
    loss: float
    validation_mm: float  # median error of others that moved after 2 s; of several scenes, the mean of each one's over its unit
    seconds: float
    scenes_mm: dict[str, float] = field(default_factory=dict)  # median errors, where there are several scenes


Progress = Callable[[int, int, ValidationResult | None], None]


def train(
    model: LearnedModel,
    windows: EpisodeWindows | JointWindows,
    validation: EpisodeWindows | JointWindows,
    config: TrainConfig,
    path: Path,
    metadata: dict[str, Any],
    resume: bool = True,
    progress: Progress = lambda update, total, check: None,
) -> LearnedModel:
    """Fit `model`, keep checkpoints in `path`, give back the best on validation. A finished run is not run again.

    facts: what the checkpoint should say of itself: scene, dataset digest, layout ids.
    """
    torch.set_num_threads(config.threads)
    with lock_directory(path):
        if resume and is_finished(path, model.name, config, metadata):
            return load_checkpoint(path)
        run = _TrainingRun(model, windows, validation, config, path, metadata)
        if resume and (path / "last.json").exists():
            run.restore()
        run.fit(progress)
    return load_checkpoint(path)


def is_finished(path: Path, model: str, config: TrainConfig, metadata: dict[str, Any]) -> bool:
    """Whether a model of this name was trained to the end in `path`; GroundError where what is there is of another training."""
    there = [read_checkpoint_info(path, name) for name in ("best", "last") if (path / f"{name}.json").exists()]
    for about in there:
        _check_same_training(path, about, model, config, metadata)
    return any(about.get("finished") for about in there)


def _check_same_training(path: Path, about: dict[str, Any], model: str, config: TrainConfig, metadata: dict[str, Any]) -> None:
    """GroundError where a checkpoint is of another training; settings that did not exist then were as they are by default."""
    before, settings = (json.loads(json.dumps(told)) for told in (about.get("training", {}), asdict(config)))
    told = {"model": about.get("model", model), "training": {**json.loads(json.dumps(asdict(TrainConfig()))), **before}}
    wanted = {"model": model, "training": settings}
    judged = about.get("validation", metadata.get("validation"))  # earlier checkpoints do not say what chose among them
    if (told, judged) != (wanted, metadata.get("validation")) or any(
        about.get(n) != metadata.get(n) for n in ("data", "env_steps")
    ):
        raise GroundError(f"{path} was trained with another model, settings or data: choose another directory, or --no-resume")


class _TrainingRun:
    """State of one training run."""

    def __init__(
        self,
        model: LearnedModel,
        windows: EpisodeWindows | JointWindows,
        validation: EpisodeWindows | JointWindows,
        config: TrainConfig,
        path: Path,
        metadata: dict[str, Any],
    ) -> None:
        self.model, self.windows, self.config, self.path, self.metadata = model, windows, config, path, metadata
        self.update, self.best, self.seconds, self.cpu_s = 0, math.inf, 0.0, 0.0
        model.fit_normalisation(windows)
        for part in windows.parts.values():
            part.find_starts(max(config.lengths))  # that there are none is told now
        self.average, self.gradients = copy.deepcopy(model), GradientComputer(model)
        self.optimizer = Muon(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.validation = {scene: _sample_validation_batch(part) for scene, part in validation.parts.items()}
        names = [metadata["scene"]] if isinstance(metadata["scene"], str) else metadata["scene"]
        known = {name: scenes[name] for name in names if name in list(scenes)}  # data may be of no scene
        self.unit_m = {name: scene.unit_m for name, scene in known.items()}
        nouns = {name: scene.dynamic_noun for name, scene in known.items()}
        try:
            parts = zip(names, self.validation.values(), strict=True)
            metrics = [model.describe_validation(batch, nouns.get(name, "body")) for name, batch in parts]
        except GroundError as error:
            raise GroundError(f"{path}: {error}") from error
        self.metric = " and ".join(dict.fromkeys(metrics))

    def fit(self, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        config, losses = self.config, []
        begun, worked = time.perf_counter() - self.seconds, time.process_time() - self.cpu_s
        with SummaryWriter(str(self.path / "tensorboard")) as board:
            while self.update < config.updates:
                losses.append(self._update_once())
                self.update += 1
                check = None
                if self.update % config.validate_every == 0 or self.update == config.updates:
                    self.seconds, self.cpu_s = time.perf_counter() - begun, time.process_time() - worked
                    check = ValidationResult(
                        self.metric, self.update, float(torch.stack(losses).mean()), *self._validate(self.seconds)
                    )
                    losses = []
                    board.add_scalar("loss/train", check.loss, self.update)
                    board.add_scalar("validation/moved_mm_2s", check.validation_mm, self.update)
                    for scene, error_mm in check.scenes_mm.items():
                        board.add_scalar(f"validation/moved_mm_2s/{scene}", error_mm, self.update)
                    self._save(check)
                progress(self.update, config.updates, check)

    def _update_once(self) -> Tensor:
        """One update. Its windows come from (seed, update), so a resumed run sees what an unbroken one would."""
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

    def _validate(self, seconds: float) -> tuple[float, float, dict[str, float]]:
        """What a Check says from `validation_mm` on."""
        errors = {scene: self.average.compute_validation_error(batch) for scene, batch in self.validation.items()}
        if len(errors) == 1:
            return next(iter(errors.values())), seconds, {}
        return float(np.mean([errors[scene] / self.unit_m[scene] for scene in errors])), seconds, errors

    def _save(self, check: ValidationResult) -> None:
        """Write the last state, and the best one where this is it. The JSON comes last: with it the checkpoint is whole."""
        finished = self.update >= self.config.updates
        if not math.isfinite(check.loss):
            raise GroundError(f"training diverged at update {self.update}: a lower learning rate may help")
        if check.validation_mm < self.best:
            self.best = check.validation_mm
            save_checkpoint(self.average, self.path, "best", self._describe(check, finished))
        elif finished:
            spent = {"seconds": self.seconds, "cpu_s": self.cpu_s}
            write_json(self.path / "best.json", {**read_json(self.path / "best.json"), "finished": True, **spent})
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():  # none for weights that no scene here uses
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        write_atomic(self.path / f"last-{self.update}.safetensors", lambda to: save_file(copy_tensors(tensors), to))
        write_json(self.path / "last.json", {**self._describe(check, finished), "weights": f"last-{self.update}.safetensors"})
        for old in self.path.glob("last-*.safetensors"):
            if old.name != f"last-{self.update}.safetensors":
                old.unlink()

    def _describe(self, check: ValidationResult, finished: bool) -> dict[str, Any]:
        progress = {"best_mm": self.best, "finished": finished, "cpu_s": self.cpu_s, **asdict(check)}
        device = next(self.model.parameters()).device.type
        kind = {"format": CHECKPOINT_FORMAT, "model": self.model.name, "device": device}
        return {**self.metadata, **kind, "training": asdict(self.config), **progress}

    def restore(self) -> None:
        about = read_checkpoint_info(self.path, "last")
        if about["format"] != CHECKPOINT_FORMAT:
            raise GroundError(f"{self.path} was begun by an earlier version: choose another directory, or --no-resume")
        tensors = read_tensors(self.path / about["weights"])
        for prefix, model in (("model.", self.model), ("average.", self.average)):
            weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            model.load_state_dict(weights)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.update, self.best, self.seconds = about["update"], about["best_mm"], about["seconds"]
        self.cpu_s = about.get("cpu_s", self.seconds)


def _sample_validation_batch(windows: EpisodeWindows) -> Batch:
    rows = windows.find_starts(VALIDATION_STEPS)[0]
    chosen = np.random.default_rng(1).choice(rows, min(VALIDATION_WINDOWS, len(rows)), replace=False)
    return windows.take(np.sort(chosen), VALIDATION_STEPS)
