"""The optimiser's owner: accumulation, skipped steps, schedules, and states that continue bit for bit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from accord.config import Optimizer
from accord.execution.local import Local, schedule_factor


def linear(dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(5, 3, dtype=dtype)


def local(model, **options):
    optimizer = Optimizer(**({"learning_rate": 1e-2} | options))
    return Local([(dict(model.named_parameters()), optimizer.learning_rate)], optimizer, 10)


def data(rows=8):
    draw = torch.Generator().manual_seed(3)
    return torch.randn(rows, 5, generator=draw), torch.randn(rows, 3, generator=draw)


def loss(model, x, y):
    return ((model(x.to(model.weight.dtype)) - y).float() ** 2).sum() / 24


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_microbatches_add_up_to_the_full_batch(dtype):
    x, y = data()
    whole, parts = linear(dtype), linear(dtype)
    one, many = local(whole), local(parts)
    one.backward(loss(whole, x, y))
    for rows in (slice(0, 3), slice(3, 4), slice(4, 8)):
        many.backward(loss(parts, x[rows], y[rows]))
    tight = {"atol": 1e-6, "rtol": 1e-6} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
    assert_close(many.step(), one.step(), **tight)
    assert_close(parts.weight, whole.weight, **tight)


def test_step_is_clipped_adamw():
    x, y = data()
    mine, theirs = linear(), linear()
    runner = local(mine, max_grad_norm=0.1)
    adam = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        runner.backward(loss(mine, x, y))
        adam.zero_grad()
        loss(theirs, x, y).backward()
        norm = torch.stack([p.grad.norm() for p in theirs.parameters()]).norm()
        for p in theirs.parameters():
            p.grad *= min(1.0, 0.1 / float(norm))
        adam.step()
        assert_close(runner.step(), float(norm), rtol=1e-5, atol=0)
    assert_close(mine.weight, theirs.weight, atol=1e-6, rtol=1e-5)


def test_nan_gradient_is_skipped_and_counted():
    x, y = data()
    model = linear()
    runner = local(model)
    before = model.weight.detach().clone()
    for count in (1, 2):
        runner.backward(loss(model, x, y) * math.nan)
        assert not math.isfinite(runner.step())
        assert runner.bad_steps == count
    assert torch.equal(model.weight, before)
    runner.backward(loss(model, x, y))
    assert math.isfinite(runner.step())
    assert runner.bad_steps == 0
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_round_trip_is_bit_identical(dtype):
    x, y = data()
    straight = linear(dtype)
    runner = local(straight, schedule="linear", warmup_steps=2)
    state = None
    for step in range(6):
        if step == 3:
            state = copy.deepcopy(runner.state())
        runner.backward(loss(straight, x, y))
        runner.step()
    resumed = linear(dtype)
    other = local(resumed, schedule="linear", warmup_steps=2)
    other.load(state)
    for _ in range(3):
        other.backward(loss(resumed, x, y))
        other.step()
    assert torch.equal(resumed.weight, straight.weight)
    assert torch.equal(resumed.bias, straight.bias)
    assert other.steps == runner.steps == 6


def test_bfloat16_steps_below_rounding_still_add_up():
    # 1 + 200 steps of 1e-4: each is lost in bfloat16 (spacing 2⁻⁷ above 1), the float32 master keeps them
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(model.weight)
    runner = local(model, learning_rate=1e-4)
    for _ in range(200):
        runner.backward(-model.weight.float().sum())
        runner.step()
    assert_close(model.weight.item(), 1.0234375, atol=2**-7, rtol=0)
    assert model.weight.item() > 1.01


def test_schedules_by_hand():
    warm = Optimizer(warmup_steps=2, schedule="linear")
    assert [schedule_factor(warm, s, 6) for s in range(7)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    cosine = Optimizer(schedule="cosine")
    assert_close([schedule_factor(cosine, s, 4) for s in (0, 2, 4)], [1.0, 0.5, 0.0])
    assert schedule_factor(Optimizer(), 99, 4) == 1.0
