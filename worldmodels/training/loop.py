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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sim.scenes.scene import parted, scenes
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import in_use, read_json, write_atomic, write_json
from worldmodels.assessment.open_loop import moved_others
from worldmodels.model import LearnedModel, models
from worldmodels.training.cuda_graph import Gradients
from worldmodels.training.joint import JointWindows
from worldmodels.training.muon import Muon
from worldmodels.training.windows import Batch, Windows

FORMAT = 1
DEVICES = ("auto", "cpu", "cuda")
VALIDATION_WINDOWS, VALIDATION_STEPS = 1024, 20
AVERAGED = 500  # updates that the running average of the weights looks back


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast. `lengths` are the windows' steps in equal parts of the run."""

    updates: int = 6000
    batch: int = 256
    lengths: tuple[int, ...] = (4, 8, 8, 12)
    learning_rate: float = 8e-3
    weight_decay: float = 0.05
    seed: int = 0
    check_every: int = 250
    threads: int = 1
    device: str = "auto"  # a GPU where there is one, or "cpu" or "cuda"

    def __post_init__(self) -> None:
        counts = (self.updates, self.batch, self.check_every, self.threads, len(self.lengths), *self.lengths)
        if min(counts) < 1 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise GroundError(f"training needs positive updates, batch, lengths, threads and learning rate, not {self}")
        if self.seed < 0:
            raise GroundError(f"seed {self.seed} must not be negative")
        if self.device not in DEVICES:
            raise GroundError(f"device is one of {', '.join(DEVICES)}, not '{self.device}'")

    @property
    def on_gpu(self) -> bool:
        """Whether it trains on a GPU here."""
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise GroundError("there is no GPU that torch can use here: device 'auto' trains on the CPU then")
        return there and self.device != "cpu"

    def where(self) -> contextlib.AbstractContextManager[Any]:
        """Windows and models made within are on the device, and so is what they make."""
        return torch.device("cuda") if self.on_gpu else contextlib.nullcontext()

    def length_at(self, update: int) -> int:
        return self.lengths[min(len(self.lengths) - 1, update * len(self.lengths) // self.updates)]

    def rate_at(self, update: int) -> float:
        warm = min(1.0, (update + 1) / 200)
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * update / self.updates)))


@dataclass(frozen=True)
class Check:
    """One look at training."""

    what: str  # is measured of what moves beside the robot, as people call that
    update: int
    loss: float
    validation_mm: float  # median error of others that moved after 2 s; of several scenes, the mean of each one's over its unit
    seconds: float
    scenes_mm: dict[str, float] = field(default_factory=dict)  # median errors, where there are several scenes


Progress = Callable[[int, int, Check | None], None]


def train(
    model: LearnedModel,
    windows: Windows | JointWindows,
    validation: Windows | JointWindows,
    config: TrainConfig,
    path: Path,
    facts: dict[str, Any],
    resume: bool = True,
    progress: Progress = lambda update, total, check: None,
) -> LearnedModel:
    """Fit `model`, keep checkpoints in `path`, give back the best on validation. A finished run is not run again.

    facts: what the checkpoint should say of itself: scene, dataset digest, layout ids.
    """
    torch.set_num_threads(config.threads)
    with in_use(path):
        if resume and is_finished(path, model.name, config, facts):
            return load_checkpoint(path)
        run = _Run(model, windows, validation, config, path, facts)
        if resume and (path / "last.json").exists():
            run.restore()
        run.fit(progress)
    return load_checkpoint(path)


def is_finished(path: Path, model: str, config: TrainConfig, facts: dict[str, Any]) -> bool:
    """Whether a model of this name was trained to the end in `path`; GroundError where what is there is of another training."""
    there = [read_json(path / name) for name in ("best.json", "last.json") if (path / name).exists()]
    for about in there:
        _must_be_the_same(path, about, model, config, facts)
    return any(about.get("finished") for about in there)


def _must_be_the_same(path: Path, about: dict[str, Any], model: str, config: TrainConfig, facts: dict[str, Any]) -> None:
    """GroundError where a checkpoint is of another training; settings that did not exist then were as they are by default."""
    before, settings = (json.loads(json.dumps(told)) for told in (about.get("training", {}), asdict(config)))
    told = {"model": about.get("model", model), "training": {**json.loads(json.dumps(asdict(TrainConfig()))), **before}}
    wanted = {"model": model, "training": settings}
    judged = about.get("validation", facts.get("validation"))  # earlier checkpoints do not say what chose among them
    if (told, judged) != (wanted, facts.get("validation")) or any(about.get(n) != facts.get(n) for n in ("data", "env_steps")):
        raise GroundError(f"{path} was trained with another model, settings or data: choose another directory, or --no-resume")


class _Run:
    """State of one training run."""

    def __init__(
        self,
        model: LearnedModel,
        windows: Windows | JointWindows,
        validation: Windows | JointWindows,
        config: TrainConfig,
        path: Path,
        facts: dict[str, Any],
    ) -> None:
        self.model, self.windows, self.config, self.path, self.facts = model, windows, config, path, facts
        self.update, self.best, self.seconds, self.cpu_s = 0, math.inf, 0.0, 0.0
        model.prepare(windows)
        for part in windows.parts.values():
            part.starts(max(config.lengths))  # that there are none is told now
        self.average, self.gradients = copy.deepcopy(model), Gradients(model)
        self.optimizer = Muon(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.validation = {scene: _validation_batch(part) for scene, part in validation.parts.items()}
        moved = {scene: moved_others(batch.state, batch.targets[-1]).any() for scene, batch in self.validation.items()}
        if still := [str(scene) for scene, any_ in moved.items() if not any_]:
            told = ", ".join(still)
            raise GroundError(f"{path}: nothing but the robot moves in the validation data ({told}): collect more of it")
        names = [facts["scene"]] if isinstance(facts["scene"], str) else facts["scene"]
        others = " and ".join(dict.fromkeys(scenes[name].other for name in names))
        several = any(model.particles_of(batch.state) > 1 for batch in self.validation.values())
        self.what = f"{others} {'energy score' if several else 'error'}"

    def fit(self, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        config, losses = self.config, []
        begun, worked = time.perf_counter() - self.seconds, time.process_time() - self.cpu_s
        with SummaryWriter(str(self.path / "tensorboard")) as board:
            while self.update < config.updates:
                losses.append(self._one())
                self.update += 1
                check = None
                if self.update % config.check_every == 0 or self.update == config.updates:
                    self.seconds, self.cpu_s = time.perf_counter() - begun, time.process_time() - worked
                    check = Check(self.what, self.update, float(torch.stack(losses).mean()), *self._judge(self.seconds))
                    losses = []
                    board.add_scalar("loss/train", check.loss, self.update)
                    board.add_scalar("validation/moved_mm_2s", check.validation_mm, self.update)
                    for scene, error_mm in check.scenes_mm.items():
                        board.add_scalar(f"validation/moved_mm_2s/{scene}", error_mm, self.update)
                    self._keep(check)
                progress(self.update, config.updates, check)

    def _one(self) -> Tensor:
        """One update. Its windows come from (seed, update), so a resumed run sees what an unbroken one would."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.update])
        torch.manual_seed(config.seed * 1_000_003 + self.update)
        batch = self.windows.sample(rng, config.batch, config.length_at(self.update))
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate_at(self.update)
        loss = self.gradients(batch)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            weight = max(1 / AVERAGED, 9 / (self.update + 10))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), weight)
        return loss

    def _judge(self, seconds: float) -> tuple[float, float, dict[str, float]]:
        """What a Check says from `validation_mm` on."""
        errors = {scene: moved_error_mm(self.average, batch) for scene, batch in self.validation.items()}
        if len(errors) == 1:
            return next(iter(errors.values())), seconds, {}
        units = {scene: float(batch.state.around.unit[0]) for scene, batch in self.validation.items()}
        return float(np.mean([errors[scene] / units[scene] for scene in errors])), seconds, errors

    def _keep(self, check: Check) -> None:
        """Write the last state, and the best one where this is it. The JSON comes last: with it the checkpoint is whole."""
        finished = self.update >= self.config.updates
        if not math.isfinite(check.loss):
            raise GroundError(f"training diverged at update {self.update}: a lower learning rate may help")
        if check.validation_mm < self.best:
            self.best = check.validation_mm
            save_checkpoint(self.average, self.path, "best", self._about(check, finished))
        elif finished:
            spent = {"seconds": self.seconds, "cpu_s": self.cpu_s}
            write_json(self.path / "best.json", {**read_json(self.path / "best.json"), "finished": True, **spent})
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():  # none for weights that no scene here uses
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        write_atomic(self.path / f"last-{self.update}.safetensors", lambda to: save_file(_whole(tensors), to))
        write_json(
            self.path / "last.json",
            {**self._about(check, finished), "weights": f"last-{self.update}.safetensors"},
        )
        for old in self.path.glob("last-*.safetensors"):
            if old.name != f"last-{self.update}.safetensors":
                old.unlink()

    def _about(self, check: Check, finished: bool) -> dict[str, Any]:
        progress = {"best_mm": self.best, "finished": finished, "cpu_s": self.cpu_s, **asdict(check)}
        device = next(self.model.parameters()).device.type
        return {**self.facts, "model": self.model.name, "training": asdict(self.config), "device": device, **progress}

    def restore(self) -> None:
        about = read_json(self.path / "last.json")
        tensors = _read(self.path / about["weights"])
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


def _validation_batch(windows: Windows) -> Batch:
    rows = windows.starts(VALIDATION_STEPS)[0]
    chosen = np.random.default_rng(1).choice(rows, min(VALIDATION_WINDOWS, len(rows)), replace=False)
    return windows.take(np.sort(chosen), VALIDATION_STEPS)


def moved_error_mm(model: LearnedModel, batch: Batch) -> float:
    """Distance [mm] of others than the robot from where they are foretold, at the end of windows in which they moved: the median;
    of several futures the mean energy score, each one's distance less half of that between two (Gneiting and Raftery 2007); nan
    where none did."""
    particles, true, moved = model.particles_of(batch.state), batch.targets[-1], moved_others(batch.state, batch.targets[-1])
    if not moved.any():
        return math.nan
    places = model.futures(batch.state, batch.actions)[-1].position.unflatten(0, (particles, -1))[:, moved]
    errors = (places - true.position[moved]).abs().mean(0)
    if particles == 1:
        return float(errors.median()) * 1e3
    apart = (places[:, None] - places).abs().sum((0, 1)) / (particles * (particles - 1))
    return float((errors - apart / 2).mean()) * 1e3


def save_checkpoint(model: LearnedModel, path: Path, name: str, about: dict[str, Any]) -> None:
    """`name`.safetensors and `name`.json in `path`."""
    write_atomic(path / f"{name}.safetensors", lambda to: save_file(_whole(model.state_dict()), to))
    write_json(path / f"{name}.json", {"format": FORMAT, "model": model.name, "config": model.config(), **about})


def load_checkpoint(path: Path, scene: str | None = None, name: str = "best") -> LearnedModel:
    """The model of a training directory; BadFile in one line where it is missing, damaged or of another scene."""
    if not (path / f"{name}.json").exists():
        raise BadFile(f"{path} holds no trained model ({name}.json is missing): train one first")
    about = read_json(path / f"{name}.json")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise BadFile(f"{path / name}.json is no checkpoint of format {FORMAT}")
    of = about.get("scene")
    trained = list(of) if isinstance(of, list) else [of]
    if scene is not None and parted(scene)[0] not in trained:
        raise BadFile(f"{path} was trained on scene '{', '.join(map(str, trained))}', not on '{parted(scene)[0]}'")
    try:
        model = models[str(about.get("model"))](**about.get("config", {}))
    except TypeError as error:
        raise BadFile(f"{path / name}.json does not describe a model ({error})") from error
    try:
        model.load_state_dict(_read(path / f"{name}.safetensors"))
    except RuntimeError as error:
        raise BadFile(f"{path / name}.safetensors does not fit its model ({str(error).splitlines()[0]})") from error
    return model.eval()


def _whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous().clone() for name, value in tensors.items()}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadFile(f"{path} is damaged or missing ({error})") from error
