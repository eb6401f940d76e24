"""Checkpoints: weights as safetensors, and a JSON file that describes the model and its training.

Format 2 renamed parameters, sizes and settings. Files of format 1 are read through `MIGRATIONS`,
and never rewritten.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sim.scenes.scene import split_scene_id
from sim.utils.errors import BadFile
from sim.utils.files import read_json, write_atomic, write_json
from worldmodels.model import LearnedModel, models

CHECKPOINT_FORMAT = 2
INFO_TEMPLATE: dict[str, Any] = {  # of entries that a checkpoint may have
    **{"model": "", "weights": "", "config": {}, "training": {}, "scenes_mm": {}, "layouts": [""]},
    **dict.fromkeys(("env_steps", "seconds", "cpu_s", "update", "best_mm"), 0.0),
}
MIGRATIONS = {  # names of format 1
    "training": {"check_every": "validate_every"},
    "config": {
        "hidden": "hidden_size",
        "edge": "edge_size",
        "cutoff_m": "contact_range",
        "sight_m": "avoidance_range",
        "members": "num_members",
        "layers": "num_layers",
        "pieces": "footprint_size",
    },
    "tensors": {
        "whim": "latent_noise",
        "minds": "attention",
        "room": "clearance",
        "agility": "velocity_change",
        "foresight": "avoidance_horizon",
        "fastest": "max_speed",
    },
}


def save_checkpoint(model: LearnedModel, path: Path, name: str, metadata: dict[str, Any]) -> None:
    """Write `name`.safetensors, then `name`.json, into the directory `path`."""
    write_atomic(path / f"{name}.safetensors", lambda to: save_file(copy_tensors(model.state_dict()), to))
    config = model.get_config()
    write_json(path / f"{name}.json", {"format": CHECKPOINT_FORMAT, "model": model.name, "config": config, **metadata})


def read_checkpoint_info(path: Path, name: str = "best") -> dict[str, Any]:
    """Read the description of a checkpoint, with the names of the present format.

    Args:
        path: a training directory.
        name: "best" or "last".

    Raises:
        BadFile: the file is missing, damaged, or of an unknown format.
    """
    file = path / f"{name}.json"
    if not file.exists():
        raise BadFile(f"{path} holds no trained model ({name}.json is missing): train one first")
    info = read_json(file, INFO_TEMPLATE)
    if "model" not in info or info.setdefault("format", 1) not in (1, CHECKPOINT_FORMAT):
        raise BadFile(f"{file} is no checkpoint of format {CHECKPOINT_FORMAT}")
    if info["format"] == 1:
        for key in ("training", "config"):
            info[key] = {MIGRATIONS[key].get(old, old): value for old, value in (info.get(key) or {}).items()}
    return info


def load_checkpoint(path: Path, scene: str | None = None, name: str = "best") -> LearnedModel:
    """Load the model of a training directory.

    Args:
        path: a training directory.
        scene: scene of use; None: any.
        name: "best" or "last".

    Raises:
        BadFile: the checkpoint is missing, damaged, or was trained on other scenes.
    """
    info = read_checkpoint_info(path, name)
    scenes = info.get("scene")
    scenes = scenes if isinstance(scenes, list) else [scenes]
    if scene is not None and split_scene_id(scene)[0] not in scenes:
        raise BadFile(f"{path} was trained on scene '{', '.join(map(str, scenes))}', not on '{split_scene_id(scene)[0]}'")
    try:
        # Imports the module, whose constants must not be on the device below.
        model_class = models[info["model"]]
        with torch.device("meta"):  # no memory is needed to compare shapes
            expected = model_class(**info.get("config", {})).state_dict()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise BadFile(f"{path / name}.json does not describe a model ({reason})") from error
    file = path / f"{name}.safetensors"
    tensors = read_tensors(file)
    if info["format"] == 1:
        tensors = {_rename_tensor(key): value for key, value in tensors.items()}
    shapes, expected_shapes = ({key: tuple(value.shape) for key, value in values.items()} for values in (tensors, expected))
    if wrong := [key for key in {**expected_shapes, **shapes} if shapes.get(key) != expected_shapes.get(key)]:
        difference = f"{wrong[0]}: {shapes.get(wrong[0], 'missing')}, not {expected_shapes.get(wrong[0], 'known')}"
        raise BadFile(f"{file} does not fit its model ({difference})")
    model = model_class(**info.get("config", {}))
    model.load_state_dict(tensors)
    return model.eval()


def copy_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to separate memory, as safetensors requires.

    Args:
        tensors: tensors by name; they may share memory.

    Returns:
        Contiguous copies by name.
    """
    return {name: value.contiguous().clone() for name, value in tensors.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Returns:
        Tensors by name.

    Raises:
        BadFile: the file is missing or damaged, or a number in it is NaN or infinite.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadFile(f"{path} is damaged or missing ({error})") from error
    for name, values in tensors.items():
        if not values.isfinite().all():
            raise BadFile(f"{path} is no use: '{name}' holds numbers that are not finite (a training run that diverged)")
    return tensors


def _rename_tensor(name: str) -> str:
    module, dot, rest = name.partition(".")
    return MIGRATIONS["tensors"].get(module, module) + dot + rest
