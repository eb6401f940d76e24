import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = ("sim", "worldmodels", "agents", "experiments")
ONLY = {  # library: where it may be imported
    "pybullet": ("sim/bullet.py",),
    "pybullet_data": ("sim/bullet.py",),
    "stable_baselines3": ("agents/",),
    "tyro": ("experiments/",),
    "cattrs": ("experiments/", "sim/layout.py"),
    "torch": ("worldmodels/", "agents/", "experiments/"),
    "pickle": (),
}
MODULES = sorted(str(file.relative_to(ROOT)) for level in LEVELS for file in (ROOT / level).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Top-level names of all that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def faults(module: str, source: str) -> list[str]:
    level = LEVELS.index(module.split("/")[0])
    names = set(imported(source))
    upwards = [f"{module} imports {name}, which is above it" for name in LEVELS[level + 1 :] if name in names]
    foreign = [f"{module} imports {name}" for name, places in ONLY.items() if name in names and not module.startswith(places)]
    return [*upwards, *foreign, *([f"{module} imports tests"] if "tests" in names else [])]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    assert faults(module, (ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sim/env.py", "import worldmodels.model"),
        ("sim/env.py", "def late():\n    from agents.search import searches"),
        ("worldmodels/model.py", "from agents import planner"),
        ("agents/planner.py", "import experiments.cli as cli"),
        ("worldmodels/simulator.py", "import pybullet"),
        ("sim/env.py", "import cattrs"),
        ("sim/files.py", "import torch"),
        ("sim/files.py", "from pickle import loads"),
        ("worldmodels/training.py", "import stable_baselines3.common"),
    ],
)
def test_an_import_that_points_up_is_found(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


def test_every_package_is_looked_at() -> None:
    assert {module.split("/")[0] for module in MODULES} == set(LEVELS)
    assert "sim/layout.py" in MODULES
