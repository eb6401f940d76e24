import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import hash_file, lock_directory, read_json, write_atomic, write_json, write_text
from sim.utils.registry import Registry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_json_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    file = tmp_path_factory.mktemp("json") / "deep" / "file.json"
    write_json(file, content)
    assert read_json(file) == content
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("json") / "file.json"
    file.write_bytes(content)
    try:
        found = read_json(file)
    except BadFile as error:
        message = str(error)
    else:
        message = ""
        json.dumps(found)
    assert "\n" not in message.replace(str(file), "")


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    write_text(file, "old")

    def half(to: Path) -> None:
        to.write_text("new, but not wh")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write_atomic(file, half)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write", "rename"])
def test_no_space_left_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int) -> None:
    file = tmp_path / "kept.txt"
    write_text(file, "old")

    def full(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    if where == "rename":
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(GroundError, match="no space left") as caught:
        write_atomic(file, full if where == "write" else lambda to: to.write_text("new") and None)
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_other_errors_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    def broken(to: Path) -> None:
        raise OSError(errno.EIO, "broken disk")

    with pytest.raises(OSError, match="broken disk"):
        write_atomic(tmp_path / "file", broken)


def test_a_digest_is_of_the_bytes(tmp_path: Path) -> None:
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        write_text(tmp_path / name, text)
    assert hash_file(tmp_path / "a") == hash_file(tmp_path / "b") != hash_file(tmp_path / "c")


HOLD = """
import pathlib, sys
from sim.utils.files import lock_directory
with lock_directory(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_directory_belongs_to_one_process_and_its_lock_dies_with_it(tmp_path: Path) -> None:
    with (
        lock_directory(tmp_path / "mine"),
        pytest.raises(GroundError, match="in use by another process"),
        lock_directory(tmp_path / "mine"),
    ):
        pass
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(GroundError, match=f"{tmp_path} is in use"), lock_directory(tmp_path):
        pass
    other.kill()
    other.communicate()
    with lock_directory(tmp_path):
        pass


def test_a_registry_finds_modules_and_names_the_nearest() -> None:
    registry: Registry[type] = Registry("scene", "sim.scenes")
    registry.add("logistics/made-up")(int)
    assert "logistics/made-up" in list(registry)
    assert registry["logistics/made-up"] is int
    with pytest.raises(UnknownName, match="unknown scene 'logistics/made-it': did you mean 'logistics/made-up'"):
        registry["logistics/made-it"]
    with pytest.raises(UnknownName, match="known: logistics/made-up"):
        registry["zzz"]
