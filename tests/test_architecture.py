import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = ("sim", "worldmodels", "agents", "experiments")
ALLOWED_PATHS = {  # library: paths of modules that may import it
    "pybullet": ("sim/bullet/",),
    "pybullet_data": ("sim/bullet/",),
    "stable_baselines3": ("agents/learned/",),
    "tyro": ("experiments/",),
    "cattrs": ("experiments/", "sim/layout.py"),
    "torch": ("worldmodels/", "agents/", "experiments/"),
    "pickle": (),
}
MODULES = sorted(str(file.relative_to(ROOT)) for level in LEVELS for file in (ROOT / level).rglob("*.py"))
NAMES = {module.removesuffix(".py").removesuffix("/__init__").replace("/", "."): module for module in MODULES}


def find_imports(source: str) -> Iterator[str]:
    """Find the full names of all imports of a module, also in functions; without imports for type checkers."""
    tree = ast.parse(source)
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    skipped = {inner for node in typing for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_faults(module: str, source: str) -> list[str]:
    level = LEVELS.index(module.split("/")[0])
    names = {name.split(".")[0] for name in find_imports(source)}
    upward = [f"{module} imports {name}, which is above it" for name in LEVELS[level + 1 :] if name in names]
    foreign = [
        f"{module} imports {name}" for name, places in ALLOWED_PATHS.items() if name in names and not module.startswith(places)
    ]
    return [*upward, *foreign, *([f"{module} imports tests"] if "tests" in names else [])]


def find_module(name: str) -> str | None:
    """Find the project's module of an imported name."""
    return name if name in NAMES else next((part for part in [name.rpartition(".")[0]] if part in NAMES), None)


def find_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Find the strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for neighbour in graph.get(node, ()):
            if neighbour not in index:
                visit(neighbour)
            if neighbour in stack:
                low[node] = min(low[node], low[neighbour])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            cycles.extend([component] if len(component) > 1 else [])

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return cycles


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_to_lower_levels(module: str) -> None:
    assert find_faults(module, (ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("sim/env.py", "import worldmodels.model"),
        ("sim/env.py", "def late():\n    from agents.planning.search import searches"),
        ("worldmodels/model.py", "from agents import planning"),
        ("agents/planning/planner.py", "import experiments.cli as cli"),
        ("worldmodels/simulator.py", "import pybullet"),
        ("sim/robots/panda.py", "import pybullet_data"),
        ("sim/env.py", "import cattrs"),
        ("sim/utils/files.py", "import torch"),
        ("sim/utils/files.py", "from pickle import loads"),
        ("worldmodels/training/loop.py", "import stable_baselines3.common"),
    ],
)
def test_a_forbidden_import_is_detected(module: str, source: str) -> None:
    assert len(find_faults(module, source)) == 1


def test_no_import_cycles() -> None:
    graph = {
        name: {found for full in find_imports((ROOT / file).read_text()) if (found := find_module(full)) and found != name}
        for name, file in NAMES.items()
    }
    assert find_cycles(graph) == []


def test_a_cycle_is_detected() -> None:
    assert find_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    "module",
    [
        "agents.planning.planner",
        "agents.planning.spec",
        "worldmodels.model",
        "worldmodels.planar.graph",
        "worldmodels.training.loop",
        "worldmodels.training.windows",
        "sim.task",
        "sim.scenes.tote_push.task",
        "sim.scenes.aisle_traffic.scene",
        "sim.scenes.push_fixture.scene",
        "sim.data.store",
        "experiments.report.build",
    ],
)
def test_the_physics_engine_is_not_imported_without_simulation(module: str) -> None:
    check = f"import sys, {module}; sys.exit('pybullet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_every_package_is_checked() -> None:
    assert {module.split("/")[0] for module in MODULES} == set(LEVELS)
    assert "sim/layout.py" in MODULES
