"""Folders that are either whole or absent: how accord keeps models, stage results and training state.

A folder is written under a temporary name, hashed into COMMIT.json, fsynced and renamed into place, so
``kill -9`` at any moment leaves the old folder or the new one. Around a folder NAME there may briefly be::

    NAME.writing     the new contents; counts only once its COMMIT.json is there and every hash agrees
    NAME.previous    the old contents, between the two renames that swap old and new
    NAME.discarded   waits for deletion (a half-deleted folder must never look like a damaged checkpoint)
    NAME.damaged-1   set aside: damaged, or files that accord did not write; never deleted by accord

`recover` brings every such state back to one good folder. One process writes a folder at a time; there is
no lock here. Nothing imports torch here, so that ``accord report`` starts fast.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accord.disk import DiskFull as DiskFull
from accord.disk import disk_full_is_clear, require_free, sync_folder
from accord.records import BadInput, content_hash

COMMIT = "COMMIT.json"
FORMAT = 1
# Written beside the weights, any time and again: neither hashed nor a reason to keep an old folder.
DERIVED = ("card.html", "card.md", "card.json")

logger = logging.getLogger("accord")


class DamagedCheckpoint(BadInput):
    """A committed folder no longer holds what its COMMIT.json says."""


def key(*parts: Any) -> str:
    """Content key of a stage: 16 hexadecimal digits over its inputs (configuration, seed, upstream keys).

    Parts are JSON values; the order of the keys in a mapping does not matter, the order of parts does.
    """
    return content_hash(*(json.dumps(part, sort_keys=True, allow_nan=False) for part in parts))


def commit(
    folder: Path,
    write: Callable[[Path], None],
    *,
    manifest: Mapping[str, Any],
    need_bytes: int | None = None,
) -> None:
    """Puts what ``write`` writes in place of ``folder``, whole or not at all.

    Args:
        write: is given an empty folder and fills it.
        manifest: JSON values kept in COMMIT.json (put the stage's content key under ``key``).
        need_bytes: room the new folder takes; refused before anything is written if there is less.

    Raises:
        DiskFull: not enough room, before or during the write; the old folder is untouched.
        ValueError, TypeError: the manifest is not JSON (NaN included); raised before the write.
    """
    folder = Path(folder)
    manifest = json.loads(json.dumps(dict(manifest), allow_nan=False))  # fails here, before the write
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    if need_bytes is not None:
        require_free(folder, need_bytes)
    writing = _beside(folder, "writing")
    try:
        with disk_full_is_clear(folder):
            writing.mkdir()
            write(writing)
            _seal(writing, manifest)
    except BaseException:
        _remove(writing)
        raise
    _swap(folder)


def read_commit(folder: Path) -> dict[str, Any] | None:
    """COMMIT.json as ``{"format", "files", "manifest", "sha256"}``; None where there is none.

    Only COMMIT.json itself is checked here; `verify` checks the files.
    """
    path = Path(folder) / COMMIT
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        document = json.loads(data)
        stated = document.pop("sha256")
        good = stated == _digest_of(document)
    except (ValueError, KeyError, AttributeError, TypeError):
        good = False
    if not good:
        raise DamagedCheckpoint(_damaged(folder, f"{COMMIT} is not what was written"))
    if document["format"] != FORMAT:
        raise DamagedCheckpoint(
            f"{path} has format {document['format']}, this accord reads format {FORMAT}:"
            " use the accord version that wrote it, or rebuild it with --fresh"
        )
    return {**document, "sha256": stated}


def verify(folder: Path) -> None:
    """Compares every file with its size and SHA-256 in COMMIT.json; files that are not listed are ignored.

    Raises:
        DamagedCheckpoint: names the first file that is missing or differs.
    """
    folder = Path(folder)
    document = read_commit(folder)
    if document is None:
        raise DamagedCheckpoint(_damaged(folder, f"it has no {COMMIT}"))
    for name, stated in document["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedCheckpoint(_damaged(folder, f"{name} is missing"))
        size = path.stat().st_size
        if size != stated["bytes"]:
            raise DamagedCheckpoint(_damaged(folder, f"{name} has {size} bytes instead of {stated['bytes']}"))
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != stated["sha256"]:
                raise DamagedCheckpoint(_damaged(folder, f"the contents of {name} have changed"))


def cached(folder: Path, key: str) -> dict[str, Any] | None:
    """The manifest of ``folder`` if it is whole and was committed under ``key``; else None.

    An interrupted commit is recovered first. A damaged folder is set aside with a warning.
    """
    folder = Path(folder)
    recover(folder)
    try:
        document = read_commit(folder)
        if document is None or document["manifest"].get("key") != key:
            return None
        verify(folder)
    except DamagedCheckpoint as error:
        aside = set_aside(folder)
        logger.warning("%s. It is kept as %s and built again.", str(error).rpartition(": ")[0], aside)
        return None
    manifest: dict[str, Any] = document["manifest"]
    return manifest


def set_aside(folder: Path) -> Path:
    """Renames ``folder`` to NAME.damaged-N, the first N that is free; returns the new path."""
    folder = Path(folder)
    number = 1
    while (aside := _beside(folder, f"damaged-{number}")).exists():
        number += 1
    os.rename(folder, aside)
    sync_folder(folder.parent)
    return aside


def recover(folder: Path) -> None:
    """Finishes or discards a commit that was interrupted; afterwards only ``folder`` itself is left.

    A complete new folder wins over the old one: it was asked for, and it is whole. May itself be
    interrupted at any moment and called again.
    """
    folder = Path(folder)
    writing, previous = _beside(folder, "writing"), _beside(folder, "previous")
    _remove(_beside(folder, "discarded"))
    if not writing.exists() and not previous.exists():
        return
    if previous.exists() and folder.exists():  # swapped; only the deletion of the old was left
        if is_whole(folder) or not is_whole(previous):
            _delete(previous, _beside(folder, "discarded"))
        else:  # the new one was damaged since
            logger.warning("%s is damaged and kept as %s; the one before is used.", folder, set_aside(folder))
    if is_whole(writing):
        logger.info("finishing the interrupted commit of %s", folder)
        _swap(folder)
        return
    if previous.exists():
        os.replace(previous, folder)
        sync_folder(folder.parent)
    _remove(writing)


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` is committed and every hash agrees."""
    try:
        verify(folder)
    except DamagedCheckpoint:
        return False
    return True


def discard(folder: Path) -> None:
    """Deletes a folder such that a kill half-way leaves nothing that looks like a checkpoint."""
    _delete(folder, _beside(folder, "discarded"))


def _delete(folder: Path, discarded: Path) -> None:
    _remove(discarded)
    os.rename(folder, discarded)
    _remove(discarded)


def _swap(folder: Path) -> None:
    """Puts the sealed NAME.writing in place of NAME."""
    writing, previous = _beside(folder, "writing"), _beside(folder, "previous")
    moved: Path | None = None
    if folder.exists():
        if _holds_only_ours(folder):
            if previous.exists():
                _delete(previous, _beside(folder, "discarded"))
            os.rename(folder, previous)
            moved = previous
        else:
            moved = set_aside(folder)
            logger.warning("%s holds files that accord did not commit; they are kept in %s", folder, moved)
    try:
        os.replace(writing, folder)
    except OSError:
        if moved is not None:
            os.rename(moved, folder)
        raise
    sync_folder(folder.parent)
    if previous.exists():
        _delete(previous, _beside(folder, "discarded"))


def _seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Syncs and hashes every file, then writes COMMIT.json, last."""
    files: dict[str, dict[str, Any]] = {}
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
        files[path.relative_to(folder).as_posix()] = {"bytes": size, "sha256": digest}
    for path in [p for p in folder.rglob("*") if p.is_dir()]:
        sync_folder(path)
    document: dict[str, Any] = {"format": FORMAT, "manifest": manifest, "files": files}
    # Its own digest: a changed byte in the manifest (a score's mean, say) must not go unseen.
    document["sha256"] = _digest_of(document)
    with (folder / COMMIT).open("w", encoding="utf-8") as file:
        file.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _files(folder: Path) -> list[Path]:
    """Every file below ``folder`` except its COMMIT.json and what is derived, in a fixed order."""
    aside = {folder / name for name in (COMMIT, *DERIVED)}
    return sorted(p for p in folder.rglob("*") if p.is_file() and p not in aside)


def _holds_only_ours(folder: Path) -> bool:
    """Whether deleting ``folder`` loses nothing that accord did not write."""
    try:
        document = read_commit(folder)
    except DamagedCheckpoint:
        return False
    if document is None:
        return folder.is_dir() and not any(folder.iterdir())
    return all(path.relative_to(folder).as_posix() in document["files"] for path in _files(folder))


def _digest_of(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _damaged(folder: Path, what: str) -> str:
    return f"{folder} is damaged, {what}: move it away and run the same command again to rebuild it"
