"""Names of the first format of run directories and exported results, and what they are called now.

Results, configs and open-loop errors that were written with the old names are read through this
module; nothing is rewritten.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sim.utils.files import read_json
from sim.variation import Variation

OLD_COSTS_DIR = "ledger"
OLD_RESULT_SUFFIX = ".row"
OLD_ERRORS_FILE = "fidelity.json"
OLD_EXTERNAL_MODELS_FILE = "guests.json"
CONFIG_KEYS = {
    "together": "batch_episodes",
    "compiled": "compile_models",
    "planning": "planner",
    "collecting": "collection_planner",
    "assumptions": "prediction_baselines",
    "oracle": "oracle_episodes",
    "oracle_large": "oracle_large_episodes",
    "oracle_planning": "oracle_planner",
    "oracle_large_planning": "oracle_large_planner",
}
CONFIG_TEMPLATE: dict[str, Any] = {  # of what `migrate_config` reads
    **{"models": [{"train": {}}], "protocol": ""},
    **{name: [""] for name in ("prediction_baselines", "assumptions", "variations")},
}
TRAIN_KEYS = {"check_every": "validate_every"}
PROTOCOLS = {"usual": "default"}
BASELINES = {"still": "static"}  # also as a part of names: still+mppi
RESULT_COLUMNS = {"agent": "method", "method": "family", "decide_s": "decision_time_s", "distance": "training_distance"}
VARIATION_COLUMNS = {"looks": "appearance", **{item.name: item.name for item in fields(Variation)}}
VIOLATIONS = {
    **{f"{body}_hit": f"{body}_collision" for body in ("robot", "load", "tool", "part", "person", "forklift")},
    "person_near": "person_too_close",
    "part_off": "part_off_table",
    "robot_outside": "robot_outside_hall",
    "touching": "static_contact",  # of plans alone
}
INDICATORS = ("time_over_free", "least_person_gap_m", "stops", "near_misses_per_min")
ERROR_COLUMNS = {f"load_{rest}": f"body_{rest}" for rest in ("mm_median", "mm_p90", "deg_median", "relative_median")}


def migrate_result(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the columns of a result of version 1."""
    renamed: dict[str, Any] = {}
    for name, value in record.items():
        if plan := re.fullmatch(r"plans_(\w+)_(predicted|realised|both|expected)", name):
            renamed[f"plans/{VIOLATIONS.get(plan[1], plan[1])}/{plan[2]}"] = value
        elif name in VARIATION_COLUMNS:
            renamed[f"variation/{VARIATION_COLUMNS[name]}"] = value
        elif name in INDICATORS:
            renamed[f"indicator/{name}"] = value
        elif isinstance(value, bool) and name not in ("success", "clean"):
            renamed[f"violation/{VIOLATIONS.get(name, name)}"] = value
        else:
            renamed[RESULT_COLUMNS.get(name, name)] = value
    for name in [name for name in renamed if name.endswith("/predicted")]:  # first rows lack the mean over particles
        expected = name.replace("/predicted", "/expected")
        renamed[expected] = renamed[name] if renamed.get(expected) is None else renamed[expected]
    renamed["protocol"] = PROTOCOLS.get(renamed.get("protocol", "usual"), renamed.get("protocol"))
    for name in ("method", "family"):
        if renamed.get(name):
            renamed[name] = migrate_method_name(renamed[name])
    return renamed


def migrate_method_name(name: str) -> str:
    """Rename a method that plans with a prediction baseline."""
    first, plus, search = name.partition("+")
    return BASELINES.get(first, first) + plus + search


def get_method_dir(path: Path, method: str) -> Path:
    """Get the directory of a method's episodes, which may still have the method's old name."""
    first, plus, search = method.partition("+")
    old_names = {new: old for old, new in BASELINES.items()}
    old = path / (old_names.get(first, first) + plus + search)
    return old if old.exists() and not (path / method).exists() else path / method


def migrate_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of an experiment's config that was saved with the old names."""
    renamed = {CONFIG_KEYS.get(key, key): value for key, value in content.items()}
    renamed["protocol"] = PROTOCOLS.get(renamed.get("protocol", "default"), renamed.get("protocol", "default"))
    if "prediction_baselines" in renamed:
        renamed["prediction_baselines"] = [BASELINES.get(name, name) for name in renamed["prediction_baselines"]]
    if "variations" in renamed:
        renamed["variations"] = [text.replace("looks=", "appearance=") for text in renamed["variations"]]
    if "models" in renamed:
        renamed["models"] = [_migrate_model(model) for model in renamed["models"]]
    return renamed


def read_saved_config(path: Path) -> dict[str, Any]:
    """Read the config of a run directory, with the present names of its keys.

    Raises:
        BadFile: it is damaged.
    """
    return migrate_config(read_json(path / "config.json", CONFIG_TEMPLATE))


def _migrate_model(model: Mapping[str, Any]) -> dict[str, Any]:
    train = {TRAIN_KEYS.get(key, key): value for key, value in model.get("train", {}).items()}
    return {**model, "train": train} if train else dict(model)


def migrate_open_loop_error(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the columns of an open-loop error."""
    return {ERROR_COLUMNS.get(name, name): value for name, value in record.items()}
