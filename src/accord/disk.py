"""The disk: is there room, did it fill up, and is what was written really on it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from accord.records import BadInput

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = 64 * 1024  # bytes; a write that fails with less than this left has failed for lack of space


class DiskFull(BadInput):
    """There is no room for a checkpoint. What was committed before is untouched."""


def require_free(path: Path, need_bytes: int) -> None:
    """Raises DiskFull unless the disk of ``path``, which need not exist yet, has ``need_bytes`` free."""
    free = shutil.disk_usage(_existing(path)).free
    if free < need_bytes:
        raise DiskFull(
            f"{path} needs {_megabytes(need_bytes)}, but its disk has {_megabytes(free)} free:"
            " free some space there, or write somewhere else with --out"
        )


@contextlib.contextmanager
def disk_full_is_clear(path: Path) -> Iterator[None]:
    """Turns a full disk inside the block into `DiskFull` that names ``path``; other errors pass through.

    Libraries say it in their own words: safetensors raises its own error with the system's text, and
    torch.save on a path says "unexpected pos", which only the free space can explain.
    """
    try:
        yield
    except Exception as error:
        if _is_disk_full(error, path):
            raise DiskFull(
                f"the disk filled up while {path} was written: free some space and run the same command"
                " again; what was saved before is untouched"
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_disk_full(error: Exception, path: Path) -> bool:
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return True
        if "No space left on device" in str(one):
            return True
    return isinstance(error, (OSError, RuntimeError)) and shutil.disk_usage(_existing(path)).free < _NO_ROOM


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _existing(path: Path) -> Path:
    """The nearest folder above ``path`` that is there."""
    path = path.resolve().parent
    while not path.exists():
        path = path.parent
    return path


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
