"""Training states: the same bits back, the last two kept, a damaged one passed over."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.training_state import TrainingState

# Bit patterns that a detour through another type would lose: NaN with a payload, -0.0, subnormals, infinity.
PATTERNS_32 = (0x7FC00001, 0x7F800001, -(2**31), 0x00000001, 0x7F800000, 0x3DCCCCCD)
PATTERNS_16 = (0x7FC1, 0x7F81, -(2**15), 0x0001, 0x7F80, 0x3DCD)


def bits(tensor: torch.Tensor) -> list[int]:
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64, 1: torch.uint8}[tensor.element_size()]
    return tensor.reshape(-1).view(whole).tolist() if tensor.numel() else []


def test_every_dtype_keeps_its_bits(tmp_path: Path) -> None:
    float_32 = torch.tensor(PATTERNS_32, dtype=torch.int32).view(torch.float32)
    float_16 = torch.tensor(PATTERNS_16, dtype=torch.int16).view(torch.bfloat16)
    tensors = {
        "fp32": float_32,
        "bf16": float_16,
        "int64": torch.tensor([2**63 - 1, -(2**63)]),
        "bool": torch.tensor([True, False]),
        "generator": torch.Generator().manual_seed(7).get_state(),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    TrainingState(tmp_path, "k", 0).save(5, tensors, {})
    found = TrainingState(tmp_path, "k", 0).latest()
    assert found is not None
    step, loaded, extra = found
    assert (step, extra) == (5, {})
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert bits(loaded[name].contiguous()) == bits(tensor.detach().contiguous()), name
        assert not loaded[name].requires_grad
    assert bits(loaded["fp32"]) == list(PATTERNS_32)
    assert bits(loaded["bf16"]) == list(PATTERNS_16)


def test_extra_keeps_types_and_large_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng([3, 1])
    generator.random(5)
    extra = {
        "rng": generator.bit_generator.state,  # 128-bit whole numbers
        "coefficient": 0.1 + 0.2,
        "nothing": None,
        "pair": (1, 2.5),
        "infinite": float("-inf"),
        7: [True, "text", b"bytes"],
    }
    TrainingState(tmp_path, "k", 0).save(1, {}, extra)
    found = TrainingState(tmp_path, "k", 0).latest()
    assert found is not None
    assert found[2] == extra
    assert type(found[2]["pair"]) is tuple
    again = np.random.default_rng()
    again.bit_generator.state = found[2]["rng"]
    assert again.random() == generator.random()


def train(parameters: list[torch.Tensor], optimizer: torch.optim.Optimizer, start: int, end: int) -> None:
    for step in range(start, end):
        target = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        loss = ((parameters[0] - target) ** 2).sum() + (parameters[1] * target.sum()).tanh()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_resumed_adamw_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    def make() -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
        parameters = [torch.ones(4, 3, requires_grad=True), torch.tensor(0.3, requires_grad=True)]
        return parameters, torch.optim.AdamW(parameters, lr=1e-2, betas=(0.9, 0.95), fused=True)

    straight, optimizer = make()
    train(straight, optimizer, 0, 9)

    before, optimizer = make()
    train(before, optimizer, 0, 4)
    TrainingState(tmp_path, "k", 0).save(
        4, {"parameters": list(before), "optimizer": optimizer.state_dict()}, {}
    )
    after, optimizer = make()
    found = TrainingState(tmp_path, "k", 0).latest()
    assert found is not None
    step, tensors, _ = found
    assert tensors["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.95)
    with torch.no_grad():
        for mine, saved in zip(after, tensors["parameters"], strict=True):
            mine.copy_(saved)
    optimizer.load_state_dict(tensors["optimizer"])
    train(after, optimizer, step, 9)
    for one, other in zip(straight, after, strict=True):
        assert bits(one.detach()) == bits(other.detach())


def test_shared_memory_is_stored_once(tmp_path: Path) -> None:
    flat = torch.arange(100_000, dtype=torch.float32)
    states = TrainingState(tmp_path, "k", 0)
    states.save(1, {"embedding": flat, "head": flat.view(-1), "tail": flat[50_000:]}, {})
    assert (tmp_path / "step-000001" / "state.pt").stat().st_size < 410_000  # tied weights: 400 kB once
    found = states.latest()
    assert found is not None
    assert torch.equal(found[1]["head"], flat)
    assert torch.equal(found[1]["tail"], flat[50_000:])


def one(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor([value])}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    states = TrainingState(tmp_path, "k", 0)
    for step in (8, 9, 10, 1_000_000):  # by number, not by name
        states.save(step, one(step), {})
    assert names(tmp_path) == ["step-000010", "step-1000000"]
    found = states.latest()
    assert found is not None
    assert found[0] == 1_000_000


def test_damaged_states_are_set_aside_and_the_one_before_is_used(tmp_path: Path, caplog) -> None:
    states = TrainingState(tmp_path, "k", 0)
    states.save(1, one(1), {"n": 1})
    states.save(2, one(2), {"n": 2})
    path = tmp_path / "step-000002" / "state.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, logger="accord"):
        found = states.latest()
    assert found == (1, {"w": torch.tensor([1.0])}, {"n": 1})
    assert "step-000002.damaged-1" in caplog.text
    os.truncate(tmp_path / "step-000001" / "state.pt", 10)
    assert states.latest() is None
    assert names(tmp_path) == ["step-000001.damaged-1", "step-000002.damaged-1"]
    states.clear()
    assert not tmp_path.exists()


def test_states_of_another_key_are_not_used_and_make_room(tmp_path: Path) -> None:
    TrainingState(tmp_path, "old", 0).save(7, one(7), {})
    states = TrainingState(tmp_path, "new", 0)
    assert states.latest() is None
    assert names(tmp_path) == ["step-000007"]  # not damaged: the old configuration may still come back
    states.save(2, one(2), {})
    assert names(tmp_path) == ["step-000002"]


def test_a_run_that_starts_over_does_not_resume_from_its_former_future(tmp_path: Path) -> None:
    states = TrainingState(tmp_path, "k", 0)
    states.save(20, one(20), {})
    states.save(1, one(1), {})
    found = states.latest()
    assert found is not None
    assert found[0] == 1


def test_maybe_save_waits_and_asks_for_the_state_only_then(tmp_path: Path, monkeypatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("accord.training_state.time.monotonic", lambda: clock[0])
    asked: list[int] = []

    def make(step: int):
        def inner():
            asked.append(step)
            return one(step), {}

        return inner

    states = TrainingState(tmp_path, "k", 60)
    saved = []
    for step, at in enumerate((159.9, 160.0, 219.9, 221.0), start=1):
        clock[0] = at
        saved.append(states.maybe_save(step, make(step)))
    assert saved == [False, True, False, True]  # 60 s after the start, then 60 s after the last save
    assert asked == [2, 4]
    every = TrainingState(tmp_path / "every", "k", 0)
    assert [every.maybe_save(step, make(step)) for step in (1, 2)] == [True, True]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (np.float64(1.0), r"extra\['a'\]\[1\] is a float64"),
        (np.zeros(2), r"extra\['a'\]\[1\] is a ndarray"),
        ({"s": {1, 2}}, r"extra\['a'\]\[1\]\['s'\] is a set"),
        ({(1, 2): 3}, r"extra\['a'\]\[1\] has a key of type tuple"),
    ],
)
def test_what_could_not_be_read_back_is_refused_when_saving(tmp_path: Path, value, place) -> None:
    states = TrainingState(tmp_path, "k", 0)
    with pytest.raises(TypeError, match=place):
        states.save(1, {}, {"a": [0, value]})
    assert states.latest() is None


def test_nothing_saved_is_none_and_clear_of_nothing_is_fine(tmp_path: Path) -> None:
    states = TrainingState(tmp_path / "absent", "k", 0)
    assert states.latest() is None
    states.clear()
    assert not (tmp_path / "absent").exists()


def test_clear_leaves_what_is_not_a_state(tmp_path: Path) -> None:
    states = TrainingState(tmp_path, "k", 0)
    states.save(1, one(1), {})
    (tmp_path / "notes.txt").write_text("mine")
    states.clear()
    assert names(tmp_path) == ["notes.txt"]
