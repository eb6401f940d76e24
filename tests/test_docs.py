"""README, docs/ and findings/: links and commands are valid, code runs, generated parts are current."""

import functools
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro
import yaml

from experiments.cli import COMMANDS, load_command

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
TUTORIAL = DOCS / "tutorial.md"
PAGES = [README, *sorted(DOCS.rglob("*.md")), ROOT / "findings" / "README.md", ROOT / "experiments" / "results" / "README.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^ {4}((?:ground|make) .+)$", re.MULTILINE)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JSON_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = re.compile(r"#.*\b(?:minutes?|hours?|browser)\b")  # comments that mark slow commands
MAX_README_WORDS = 900
FINDING_HEAD = ("# Package: ", "# Expected: ", "# Observed: ", "# Output seen:\n")


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find_anchors(page: Path) -> set[str]:
    """Find the anchors of a page's headings, as GitHub and mkdocs name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_commands(page: Path) -> list[str]:
    return COMMAND.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a folder with the layout of the project's root, in which commands and code can write."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "results").symlink_to(ROOT / "experiments" / "results")
    return tmp_path


def run_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in find_anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in find_commands(page):
        program, *words = shlex.split(line.partition(" > ")[0], comments=True)
        if program == "make":
            assert set(words) <= set(targets), line
        elif not any(word.isupper() or word.startswith("[") for word in words):  # usage lines of cli.md
            parse_command(words, line)


def parse_command(words: list[str], line: str) -> None:
    """Parse the words of a `ground` command without running it."""
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)
    assert name is not None, line
    function = load_command(name)

    @functools.wraps(function)
    def record(**arguments: Any) -> dict[str, Any]:
        return arguments

    try:
        tyro.cli(record, args=words[len(name.split()) :], prog=f"ground {name}")
    except SystemExit as error:
        pytest.fail(f"{line}: the program does not know this command ({error})")


def test_quick_commands_run(project: Path) -> None:
    (layout,) = JSON_BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
    (project / "my-hall.json").write_text(json.dumps(json.loads(layout)), encoding="utf-8")
    quick = [
        line for page in (README, TUTORIAL) for line in find_commands(page) if line.startswith("ground") and not SLOW.search(line)
    ]
    assert quick
    for line in quick:
        result = run_python(project, "-m", "experiments.cli", *shlex.split(line, comments=True)[1:])
        assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"


def test_python_blocks_run(project: Path) -> None:
    """All blocks run in one process, because imports take most of the time."""
    blocks = [(page.name, block) for page in PAGES for block in PYTHON_BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert len(blocks) >= 4
    script = "\n".join(f"exec(compile({block!r}, {name!r}, 'exec'), {{}})" for name, block in blocks)
    result = run_python(project, "-c", script)
    assert result.returncode == 0, result.stderr


def test_the_commands_page_is_current() -> None:
    page = load_script("generate_cli").build_page()
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == page, "run: python docs/generate_cli.py"


def test_tables_and_figure_are_current(tmp_path: Path) -> None:
    """Compare tables of results and terms, and the numbers in the figure."""
    script = load_script("generate_tables")
    for page in script.PAGES:
        text = page.read_text(encoding="utf-8")
        assert text == script.update_tables(text), "run: python docs/generate_tables.py"
    script.save_picture(tmp_path / "results.svg")
    labels = [
        re.findall(r">(\d+ % of \d+)<", path.read_text(encoding="utf-8")) for path in (tmp_path / "results.svg", script.PICTURE)
    ]
    assert labels[0] == labels[1] != []


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert sorted(page for entry in navigation for page in entry.values()) == sorted(pages)


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= MAX_README_WORDS
    tables = re.findall(r"^\| --- .*$", text, re.MULTILINE)
    assert len(tables) <= 2
    assert all(table.count("|") - 1 <= 7 for table in tables)


def test_findings_have_the_required_form() -> None:
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    index = (ROOT / "findings" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([\w-]+\.sh)`", index, re.MULTILINE)) == [script.name for script in scripts]
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert text.startswith("#!/bin/sh\n# Package: ")
        assert all(line in text for line in FINDING_HEAD), script.name
        assert "set -eu\n" in text
        assert re.search(r"pip\" install --quiet \S+==", text), f"{script.name}: versions are pinned"
