"""Atomic file writes, and directory locks between processes."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sim.utils.errors import BadFile, GroundError


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that is complete or absent, even if the process is killed.

    Args:
        path: file to create or replace; missing folders are created.
        write: fills a temporary file beside `path`, which is then renamed.

    Raises:
        GroundError: the path is a directory, or no space is left.
    """
    if path.is_dir():
        raise GroundError(f"{path} is a directory: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        if is_disk_full(error):
            raise GroundError(f"no space left to write {path}; finished files are kept: rerun the command to resume") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Return True if an error means that no space is left.

    Libraries in other languages, such as safetensors, raise their own error types for it.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path, template: Any = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        template: value of the expected form, see `has_form`; None: any form.

    Raises:
        BadFile: the file is missing, unreadable, not JSON or of another form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path} is damaged: not JSON ({error})") from error
    if template is not None and not has_form(content, template):
        parts = template.items() if isinstance(template, dict) and isinstance(content, dict) else ()
        keys = [key for key, part in parts if key in content and not has_form(content[key], part)]
        raise BadFile(f"{path} is damaged: {keys[0] if keys else 'its content'} is not of the expected kind")
    return content


def has_form(value: Any, template: Any) -> bool:
    """Check the types in a JSON value.

    Args:
        value: the value.
        template: "" stands for a text, 0.0 for a number, [x] for a list of values like x, and a
            dictionary for one whose values are like the template's, where it has these keys.
    """
    if isinstance(template, list):
        return isinstance(value, list) and all(has_form(item, template[0]) for item in value)
    if isinstance(template, dict):
        return isinstance(value, dict) and all(has_form(value[key], part) for key, part in template.items() if key in value)
    kind = (int, float) if isinstance(template, float) else type(template)
    return isinstance(value, kind) and isinstance(value, bool) == isinstance(template, bool)


def hash_file(path: Path) -> str:
    """Compute the SHA-256 digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Lock a directory for this process.

    The operating system releases the lock when the process ends. Temporary files that killed
    processes left are removed.

    Raises:
        GroundError: another process holds the lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with lock_path(directory / ".lock", f"{directory} is in use by another process"):
        remove_abandoned(directory.rglob(".*.tmp"))
        yield


@contextlib.contextmanager
def lock_path(path: Path, message: str) -> Iterator[None]:
    """Lock a directory, or a file that is created if it is missing.

    Raises:
        GroundError: another process holds the lock; it has the message.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GroundError(message) from error
        yield
    finally:
        os.close(descriptor)


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove temporary files and directories of processes that have ended.

    Directories that are locked stay: their process may run on another machine.

    Args:
        paths: their names are `.NAME.PID.tmp`.
    """
    for path in list(paths):
        pid = path.name.split(".")[-2]
        if not pid.isdecimal() or _is_running(int(pid)):
            continue
        with contextlib.suppress(GroundError, OSError):
            if path.is_dir():
                with lock_path(path, "in use"):
                    shutil.rmtree(path)
            else:
                path.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
