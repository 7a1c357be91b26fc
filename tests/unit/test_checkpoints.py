"""Committed folders survive kills, changed bytes and full disks.

The kill tests fork a child that SIGKILLs itself before its n-th file operation, for every n there is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter, namedtuple
from pathlib import Path

import pytest

from accord import checkpoints
from accord.checkpoints import COMMIT, DamagedCheckpoint, DiskFull
from accord.records import BadInput

# Every file operation under `root` is counted by an audit hook (it sees C code too) and by wrapping os.fsync
# and os.write, which raise no audit event. The hook runs before the operation.
HARNESS = textwrap.dedent(
    """
    import json, os, shutil, signal, sys
    from pathlib import Path
    from accord import checkpoints

    root = Path(sys.argv[1])
    left = -1  # operations until the kill; negative: disarmed

    def tick():
        global left
        if left >= 0:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            tick()

    def counted(function):
        def wrapper(*arguments):
            tick()
            return function(*arguments)
        return wrapper

    os.fsync = counted(lambda descriptor: None)  # a kill does not need the disk, and the disk is slow
    sys.addaudithook(hook)

    def killed_at(n, action):
        "Runs action in a child that is killed before its n-th operation; False if it got to its end."
        global left
        child = os.fork()
        if child == 0:
            left = n
            try:
                action()
            except BaseException:
                os._exit(3)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        return os.WIFSIGNALED(status)

    def fresh():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()

    def names():
        return sorted(path.name for path in root.iterdir())
    """
)

COMMIT_KILLS = HARNESS + textwrap.dedent(
    """
    folder = root / "policy"

    def content(version):
        def write(path):
            (path / "sub").mkdir()
            (path / "weights").write_bytes(version.encode() * 50)
            (path / "sub" / "config").write_text(version)
        return write

    def commit(version):
        checkpoints.commit(folder, content(version), manifest={"key": version})

    def what_is_there():
        document = checkpoints.read_commit(folder)
        if document is None:
            assert not folder.exists()
            return "none"
        checkpoints.verify(folder)
        version = document["manifest"]["key"]
        assert (folder / "weights").read_bytes() == version.encode() * 50
        assert (folder / "sub" / "config").read_text() == version
        return version

    out = []
    for start in ("none", "old"):
        n = 0
        while True:
            def prepare():
                fresh()
                if start == "old":
                    commit("old")
                return killed_at(n, lambda: commit("new"))
            if not prepare():
                break
            m = 0  # recover is killed too, at every point, and then runs again
            while killed_at(m, lambda: checkpoints.recover(folder)):
                checkpoints.recover(folder)
                out.append([start, n, m, what_is_there(), names()])
                prepare()
                m += 1
            out.append([start, n, None, what_is_there(), names()])
            n += 1
        out.append([start, n, "finished", what_is_there(), names()])
    print(json.dumps(out))
    """
)


def run_harness(script: str, root: Path) -> list[list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows: list[list[object]] = json.loads(done.stdout)
    return rows


def test_kill_at_every_operation_leaves_the_old_or_the_new_folder(tmp_path: Path) -> None:
    rows = run_harness(COMMIT_KILLS, tmp_path / "root")
    seen = Counter((row[0], row[3]) for row in rows)
    assert set(seen) == {("none", "none"), ("none", "new"), ("old", "old"), ("old", "new")}
    assert all(row[4] == (["policy"] if row[3] != "none" else []) for row in rows)  # nothing left behind
    assert [row[3] for row in rows if row[2] == "finished"] == ["new", "new"]
    kills = [row for row in rows if row[0] == "old" and row[2] is None]
    assert len(kills) >= 20  # the counting works: a commit has many operations
    order = [row[3] for row in kills]
    assert order == sorted(order, reverse=True)  # once the new one is whole it is never lost again


STATE_KILLS = HARNESS + textwrap.dedent(
    """
    import torch
    from accord.training_state import TrainingState
    torch.set_num_threads(1)

    def state(step):
        return {"w": torch.full((3,), float(step))}, {"step": step}

    out = []
    n = 0
    while True:
        fresh()
        for step in (1, 2):
            TrainingState(root, "k", 0).save(step, *state(step))
        killed = killed_at(n, lambda: TrainingState(root, "k", 0).save(3, *state(3)))
        found = TrainingState(root, "k", 0).latest()
        assert found is not None
        step, tensors, extra = found
        assert torch.equal(tensors["w"], torch.full((3,), float(step))) and extra == {"step": step}
        TrainingState(root, "k", 0).save(4, *state(4))  # going on works, and cleans up
        out.append([n, killed, step, names()])
        if not killed:
            break
        n += 1
    n = 0
    while True:  # clear is killed at every point
        fresh()
        for step in (1, 2):
            TrainingState(root, "k", 0).save(step, *state(step))
        killed = killed_at(n, lambda: TrainingState(root, "k", 0).clear())
        found = TrainingState(root, "k", 0).latest()
        assert found is None or torch.equal(found[1]["w"], torch.full((3,), float(found[0])))
        TrainingState(root, "k", 0).clear()
        assert not root.exists()
        if not killed:
            break
        n += 1
    print(json.dumps(out))
    """
)


def test_kill_at_every_operation_of_a_training_state(tmp_path: Path) -> None:
    rows = run_harness(STATE_KILLS, tmp_path / "root")
    assert {row[2] for row in rows} == {2, 3}
    assert rows[-1][1:3] == [False, 3]
    assert len(rows) >= 20
    for row in rows:
        assert row[3] == [f"step-{row[2]:06d}", "step-000004"]  # two are kept, nothing else lies about


def write_version(version: str):
    def write(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "weights.bin").write_bytes(version.encode() * 100)
        (folder / "sub" / "config.json").write_text(version)

    return write


def committed(folder: Path, version: str = "old") -> Path:
    checkpoints.commit(folder, write_version(version), manifest={"key": version, "accuracy": 0.75})
    return folder


def test_commit_json_lists_every_file_with_its_sha256(tmp_path: Path) -> None:
    checkpoints.commit(tmp_path / "a", lambda f: (f / "abc").write_text("abc") and None, manifest={1: (2, 3)})
    document = checkpoints.read_commit(tmp_path / "a")
    assert document is not None
    # FIPS 180-2, appendix B.1: SHA-256 of "abc"
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert document["files"] == {"abc": {"bytes": 3, "sha256": sha}}
    assert document["manifest"] == {"1": [2, 3]}
    checkpoints.verify(tmp_path / "a")


def test_read_commit_of_nothing_is_none(tmp_path: Path) -> None:
    assert checkpoints.read_commit(tmp_path / "absent") is None
    (tmp_path / "plain").mkdir()
    assert checkpoints.read_commit(tmp_path / "plain") is None
    with pytest.raises(DamagedCheckpoint, match=r"has no COMMIT\.json"):
        checkpoints.verify(tmp_path / "plain")


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: flip(f / "weights.bin", 150), r"the contents of weights\.bin have changed"),
        (lambda f: flip(f / "sub/config.json", 0), r"the contents of sub/config\.json have changed"),
        (lambda f: os.truncate(f / "weights.bin", 17), r"weights\.bin has 17 bytes instead of 300"),
        (lambda f: (f / "sub/config.json").unlink(), r"sub/config\.json is missing"),
        (lambda f: os.truncate(f / COMMIT, 40), r"COMMIT\.json is not what was written"),
        (lambda f: (f / COMMIT).write_bytes(b"\0" * 300), r"COMMIT\.json is not what was written"),
        (lambda f: (f / COMMIT).write_text("[]"), r"COMMIT\.json is not what was written"),
    ],
)
def test_damage_is_found_named_and_set_aside(tmp_path: Path, caplog, damage, named) -> None:
    folder = committed(tmp_path / "policy")
    damage(folder)
    with pytest.raises(DamagedCheckpoint, match=named) as caught:
        checkpoints.verify(folder)
    assert str(folder) in str(caught.value)
    assert isinstance(caught.value, BadInput)
    with caplog.at_level(logging.WARNING, logger="accord"):
        assert checkpoints.cached(folder, "old") is None
    assert not folder.exists()
    assert (tmp_path / "policy.damaged-1").is_dir()
    assert "policy.damaged-1" in caplog.text
    committed(folder, "new")
    assert checkpoints.cached(folder, "new") == {"key": "new", "accuracy": 0.75}


def test_every_changed_byte_of_commit_json_is_found(tmp_path: Path) -> None:
    """The manifest carries figures (a score's mean): a changed digit there must not be believed."""
    folder = committed(tmp_path / "policy")
    good = (folder / COMMIT).read_bytes()
    document = checkpoints.read_commit(folder)
    for position in range(len(good)):
        flip(folder / COMMIT, position)
        with contextlib.suppress(DamagedCheckpoint):
            assert checkpoints.read_commit(folder) == document  # white space may change
        (folder / COMMIT).write_bytes(good)
    (folder / COMMIT).write_bytes(good.replace(b"0.75", b"0.76"))
    with pytest.raises(DamagedCheckpoint):
        checkpoints.read_commit(folder)


def test_a_newer_format_is_refused_in_words(tmp_path: Path) -> None:
    folder = committed(tmp_path / "policy")
    document = json.loads((folder / COMMIT).read_text())
    del document["sha256"]
    document["format"] = 2
    document["sha256"] = checkpoints._digest_of(document)
    (folder / COMMIT).write_text(json.dumps(document))
    with pytest.raises(DamagedCheckpoint, match="has format 2, this accord reads format 1"):
        checkpoints.read_commit(folder)


def test_cached_asks_for_the_same_key(tmp_path: Path) -> None:
    folder = committed(tmp_path / "policy", "old")
    assert checkpoints.cached(folder, "old") == {"key": "old", "accuracy": 0.75}
    assert checkpoints.cached(folder, "new") is None
    assert checkpoints.cached(tmp_path / "absent", "old") is None
    assert folder.is_dir()  # another key is not damage


def test_key_depends_on_values_and_order_of_parts_only() -> None:
    assert checkpoints.key({"a": 1, "b": [2.5]}, 0) == checkpoints.key({"b": [2.5], "a": 1}, 0)
    different = [
        checkpoints.key({"a": 1, "b": 2}, 0),
        checkpoints.key({"a": 1, "b": 2}, 1),
        checkpoints.key(0, {"a": 1, "b": 2}),
        checkpoints.key("a", "bc"),
        checkpoints.key("ab", "c"),
        checkpoints.key("1"),
        checkpoints.key(1),
    ]
    assert len(set(different)) == len(different)
    with pytest.raises(ValueError):
        checkpoints.key(float("nan"))


def test_set_aside_takes_the_first_free_number(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / "policy").mkdir()
        assert checkpoints.set_aside(tmp_path / "policy") == tmp_path / f"policy.damaged-{n}"


def test_files_that_accord_did_not_write_are_never_deleted(tmp_path: Path, caplog) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")  # a folder of the user's own, given as --out
    committed(folder, "one")
    (folder / "notes.md").write_text("mine too")  # and one put into a committed folder
    committed(folder, "two")
    assert (tmp_path / "out.damaged-1" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "out.damaged-2" / "notes.md").read_text() == "mine too"
    assert checkpoints.cached(folder, "two") is not None
    committed(folder, "three")
    assert not (tmp_path / "out.damaged-3").exists()


def test_a_new_folder_damaged_before_the_old_one_is_gone_gives_the_old_one(tmp_path: Path, caplog) -> None:
    shutil.copytree(committed(tmp_path / "policy", "old"), tmp_path / "policy.previous")
    committed(tmp_path / "other", "new")
    shutil.rmtree(tmp_path / "policy")
    shutil.copytree(tmp_path / "other", tmp_path / "policy")
    flip(tmp_path / "policy" / "weights.bin", 3)
    checkpoints.recover(tmp_path / "policy")
    assert checkpoints.cached(tmp_path / "policy", "old") is not None
    assert (tmp_path / "policy.damaged-1").is_dir()
    assert not (tmp_path / "policy.previous").exists()


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch) -> None:
    """A kill does not show this (the page cache survives it), a power cut would."""
    events: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        events.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(f"{tmp_path}/")))
        fsync(descriptor)

    def traced_replace(source: Path, target: Path) -> None:
        events.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    committed(tmp_path / "policy")
    at = events.index(("replace", "policy"))
    before, after = [name for _, name in events[:at]], [name for _, name in events[at + 1 :]]
    expected = ["sub/config.json", "weights.bin", "sub", COMMIT, ""]
    assert before == [f"policy.writing/{name}".rstrip("/") for name in expected]
    assert after == [str(tmp_path)]


def assert_old_is_intact(folder: Path) -> None:
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]
    assert checkpoints.cached(folder, "old") is not None


def test_too_little_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    folder = committed(tmp_path / "policy")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 3_000_000, 3_000_000))

    def must_not_run(_: Path) -> None:
        raise AssertionError

    with pytest.raises(DiskFull, match=r"needs 1,600\.0 MB, but its disk has 3\.0 MB free: free some space"):
        checkpoints.commit(folder, must_not_run, manifest={}, need_bytes=1_600_000_000)
    checkpoints.commit(folder, write_version("old"), manifest={"key": "old"}, need_bytes=3_000_000)
    assert_old_is_intact(folder)


class LibraryError(Exception):
    """As safetensors' own: no OSError, only the text."""


@pytest.mark.parametrize(
    ("error", "free", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 10**9, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 10**9, True),
        (LibraryError("I/O error: No space left on device (os error 28)"), 10**9, True),
        (RuntimeError("inline_container.cc:672: unexpected pos 576 vs 534"), 0, True),
        (RuntimeError("inline_container.cc:672: unexpected pos 576 vs 534"), 10**9, False),
        (OSError(errno.EIO, "Input/output error"), 10**9, False),
        (KeyError("a bug"), 0, False),
    ],
)
def test_a_write_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, error, free, is_full) -> None:
    folder = committed(tmp_path / "policy")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, free))

    def write(path: Path) -> None:
        (path / "half").write_bytes(b"x" * 1000)
        raise error

    with pytest.raises(DiskFull if is_full else type(error)) as caught:
        checkpoints.commit(folder, write, manifest={"key": "new"})
    if is_full:
        assert "the disk filled up" in str(caught.value)
        assert str(folder) in str(caught.value)
        assert caught.value.__cause__ is error
    assert_old_is_intact(folder)


def test_an_error_in_the_wrapping_of_a_full_disk_is_seen(tmp_path: Path) -> None:
    """torch.save to a Python file: an OSError, with torch's own RuntimeError as its context."""

    def write(_: Path) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("could not save")  # noqa: B904

    with pytest.raises(DiskFull):
        checkpoints.commit(tmp_path / "policy", write, manifest={})
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_not_json_is_refused_before_the_write(tmp_path: Path) -> None:
    folder = committed(tmp_path / "policy")

    def must_not_run(_: Path) -> None:
        raise AssertionError

    with pytest.raises(ValueError):
        checkpoints.commit(folder, must_not_run, manifest={"accuracy": float("nan")})
    assert_old_is_intact(folder)


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch) -> None:
    folder = committed(tmp_path / "policy")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(OSError, match="broken"):
            committed(folder, "new")
    checkpoints.verify(folder)
    assert checkpoints.cached(folder, "new") is not None  # the new one was whole: the next start uses it


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A tmpfs of 1 MB, with what accord really writes: safetensors and torch."""
    import torch
    from safetensors.torch import save_file

    from accord.training_state import TrainingState

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        tensors = {"weight": torch.zeros(1_000_000)}
        folder = committed(disk / "policy")
        for write in (
            lambda f: save_file(tensors, f / "model.safetensors"),
            lambda f: torch.save(tensors, f / "model.pt"),
            lambda f: (f / "model.bin").write_bytes(bytes(4_000_000)) and None,
        ):
            with pytest.raises(DiskFull):
                checkpoints.commit(folder, write, manifest={"key": "new"})
            assert_old_is_intact(folder)
        states = TrainingState(disk / "states", "k", 0)
        states.save(1, {"w": torch.ones(3)}, {})
        with pytest.raises(DiskFull, match=r"step-000002 needs 5\.0 MB, but its disk has"):
            states.save(2, tensors, {})
        found = states.latest()
        assert found is not None
        assert found[0] == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)
