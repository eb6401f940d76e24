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

from sim.utils.errors import BadFile, BadLayout, GroundError, UnknownName
from sim.utils.files import has_form, hash_file, lock_directory, read_json, write_atomic, write_json, write_text
from sim.utils.registry import Registry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    file = tmp_path_factory.mktemp("json") / "deep" / "file.json"
    write_json(file, content)
    assert read_json(file) == content
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_rejected(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("json") / "file.json"
    file.write_bytes(content)
    try:
        content_read = read_json(file)
    except BadFile as error:
        message = str(error)
    else:
        message = ""
        json.dumps(content_read)
    assert "\n" not in message.replace(str(file), "")


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "old.txt"
    write_text(file, "old")

    def write_half(to: Path) -> None:
        to.write_text("new, but not wh")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write_atomic(file, write_half)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("stage", ["write", "rename"])
def test_no_space_left_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, code: int) -> None:
    file = tmp_path / "old.txt"
    write_text(file, "old")

    def raise_no_space(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    if stage == "rename":
        monkeypatch.setattr(os, "replace", raise_no_space)
    with pytest.raises(GroundError, match="no space left") as caught:
        write_atomic(file, raise_no_space if stage == "write" else lambda to: to.write_text("new") and None)
    assert "\n" not in str(caught.value)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


@pytest.mark.parametrize("path", [".", "folder"])
def test_a_directory_is_not_replaced_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(path).mkdir(exist_ok=True)
    with pytest.raises(GroundError, match="is a directory"):
        write_text(Path(path), "x")


def test_other_disk_errors_are_not_converted(tmp_path: Path) -> None:
    def raise_broken_disk(to: Path) -> None:
        raise OSError(errno.EIO, "broken disk")

    with pytest.raises(OSError, match="broken disk"):
        write_atomic(tmp_path / "file", raise_broken_disk)


def test_digest_depends_on_the_content(tmp_path: Path) -> None:
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


def test_directory_lock_excludes_processes_and_ends_with_its_process(tmp_path: Path) -> None:
    with (
        lock_directory(tmp_path / "mine"),
        pytest.raises(GroundError, match="in use by another process"),
        lock_directory(tmp_path / "mine"),
    ):
        pass
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(GroundError, match=f"{tmp_path} is in use"), lock_directory(tmp_path):
        pass
    process.kill()
    process.communicate()
    with lock_directory(tmp_path):
        pass


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    abandoned, in_use, other = (tmp_path / "part" / name for name in (f".a.{process.pid}.tmp", f".a.{os.getpid()}.tmp", ".a.tmp"))
    for file in (abandoned, in_use, other):
        write_text(file, "half")
    abandoned_directory = tmp_path / f".b.{process.pid}.tmp"
    write_text(abandoned_directory / "file", "half")
    with lock_directory(tmp_path):
        assert not abandoned.exists()
        assert not abandoned_directory.exists()
        assert in_use.exists()
        assert other.exists()


def test_registry_loads_modules_and_suggests_the_nearest_name() -> None:
    registry: Registry[type] = Registry("scene", "sim.scenes")
    registry.add("logistics/made-up")(int)
    assert "logistics/made-up" in list(registry)
    assert registry["logistics/made-up"] is int
    with pytest.raises(UnknownName, match="unknown scene 'logistics/made-it': did you mean 'logistics/made-up'"):
        registry["logistics/made-it"]
    with pytest.raises(UnknownName, match="known: logistics/made-up"):
        registry["zzz"]


@pytest.mark.parametrize(
    ("value", "shown"), [("a\n  b", "a b"), ("\udcff", "\\udcff"), ("\x1b[2J", "\\x1b[2J"), ("\u202e✓ é", "\\u202e✓ é")]
)
def test_the_message_of_an_error_is_one_printable_line(value: str, shown: str) -> None:
    for error in (GroundError(value), UnknownName("split", value, ()), BadLayout("hall.json", [value])):
        assert shown in str(error)
        assert str(error).isprintable()
    assert BadLayout("hall.json", [value]).faults == [shown]


@pytest.mark.parametrize(
    ("value", "template", "expected"),
    [
        ({"a": 1, "b": "x"}, {"a": 0.0}, True),
        ({"b": "x"}, {"a": 0.0}, True),
        ({"a": "1"}, {"a": 0.0}, False),
        ({"a": True}, {"a": 0.0}, False),
        ({"a": [{"b": 1}, {"b": None}]}, {"a": [{"b": 0}]}, False),
        ([1, 2.5], [0.0], True),
        ([1, 2.5], [0], False),
        (3, {}, False),
        (None, "", False),
    ],
)
def test_the_form_of_a_json_value_is_checked(value: Any, template: Any, expected: bool, tmp_path: Path) -> None:
    assert has_form(value, template) is expected
    write_json(tmp_path / "file.json", value)
    if expected:
        assert read_json(tmp_path / "file.json", template) == value
    else:
        with pytest.raises(BadFile, match="not of the expected kind"):
            read_json(tmp_path / "file.json", template)
