"""The README's tables are those that its commands print, from rows that are kept with the project."""

import re
import shlex
from pathlib import Path

import pytest

from experiments.report.build import read
from experiments.report.summary import summary_markdown

ROOT = Path(__file__).parent.parent
TABLE = re.compile(r"^    ground compare (\S+) (.*)--format md$\n\n((?:^\|.*\n)+)", re.MULTILINE)
FOUND = TABLE.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_there_are_tables() -> None:
    assert {run for run, *_ in FOUND} == {str(path.relative_to(ROOT)) for path in (ROOT / "experiments" / "results").iterdir()}


@pytest.mark.parametrize(("run", "options", "table"), FOUND)
def test_a_table_is_what_its_command_prints(run: str, options: str, table: str) -> None:
    words = shlex.split(options)
    chosen = dict(zip(words[::2], words[1::2], strict=True))
    found = read([ROOT / run], chosen.pop("--split", None), chosen.pop("--protocol", None))
    assert not chosen
    assert table == summary_markdown(found.rows)
