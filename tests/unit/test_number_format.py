"""The number format is decided by a measurement that is made once."""

from __future__ import annotations

import json

import pytest
import torch

from accord import models, number_format


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Seconds of a product by number format, a fresh cache folder, and how often something was timed."""
    calls: list[torch.dtype] = []

    def set_seconds(float32: float, bfloat16: float):
        def seconds(dtype):
            calls.append(dtype)
            return float32 if dtype == torch.float32 else bfloat16

        monkeypatch.setattr(number_format, "_seconds", seconds)
        monkeypatch.setattr(models.torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
        number_format.bfloat16_speedup.cache_clear()
        return calls

    yield set_seconds
    number_format.bfloat16_speedup.cache_clear()


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(2.0, 1.0, torch.bfloat16), (1.0, 2.0, torch.float32), (1.1, 1.0, torch.float32)],
)
def test_bfloat16_where_it_is_clearly_faster(timed, float32, bfloat16, expected):
    timed(float32, bfloat16)
    assert models.resolve_dtype() == expected
    assert models.resolve_dtype("float32") == torch.float32  # what a recipe says is not questioned


def test_the_answer_is_kept_so_that_a_resumed_run_has_the_same_format(timed, tmp_path):
    calls = timed(2.0, 1.0)
    assert number_format.bfloat16_speedup(models.cache_folder()) == 2.0
    count = len(calls)
    timed(1.0, 2.0)  # a busy moment would now say otherwise
    assert models.resolve_dtype() == torch.bfloat16
    assert len(calls) == count  # nothing was timed again
    kept = json.loads((tmp_path / "cache/number-format.json").read_text())
    assert list(kept.values()) == [2.0]


@pytest.mark.parametrize("content", ["", "[]", '{"another CPU": 3.0}'])
def test_a_file_that_does_not_help_is_measured_again(timed, tmp_path, content):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/number-format.json").write_text(content)
    timed(3.0, 1.0)
    assert number_format.bfloat16_speedup(models.cache_folder()) == 3.0


def test_a_cache_that_cannot_be_written_is_no_error(timed, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    timed(3.0, 1.0)
    assert number_format.bfloat16_speedup(models.cache_folder()) == 3.0
