"""Packing changes nothing: positions, masks and log-probabilities are those of each sequence alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from accord import towers
from accord.batches import Group, by_budget, pack
from accord.tensors import head_logps
from accord.towers import Tower, base_of, head_of

EOS = 2  # and PAD
GROUPS = [
    Group((1, 50, 60), ((70, 71, EOS),)),
    Group((1, 51, 61, 62, 63, 64, 65), ((80, EOS), (EOS,), (81, 82, 83, 84, 85, EOS), (80, 80))),
    Group((90,), ((91, EOS, EOS), (92,))),
    Group(tuple(range(20, 60)), (tuple(range(100, 130)), (7,))),
]
ROWS = [(g.prompt, r) for g in GROUPS for r in g.responses]


def packed_logps(policy, groups, temperature=1.0):
    packed = pack(groups)
    hidden = Tower(base_of(policy)).hidden(packed)
    logp_R, _ = head_logps(
        hidden[packed.predictor_R], head_of(policy), packed.target_R, temperature=temperature
    )
    return packed, packed.to_BT(logp_R)


def padded_logps(plain, side):
    """Plain transformers on one padded batch, its mask from lengths and positions of real tokens only."""
    rows = [(*p, *r) for p, r in ROWS]
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), EOS), torch.zeros(len(rows), width, dtype=torch.long)
    starts = [width - len(row) if side == "left" else 0 for row in rows]
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, start : start + len(row)] = torch.tensor(row)
        mask[i, start : start + len(row)] = 1
    position = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logp = plain(ids, attention_mask=mask, position_ids=position).logits.log_softmax(-1)
    out = []
    for i, (prompt, response) in enumerate(ROWS):
        first = starts[i] + len(prompt)
        at = torch.arange(first - 1, first - 1 + len(response))
        out.append(logp[i, at, torch.tensor(response)])
    return out


@pytest.mark.parametrize("side", ["left", "right"])
def test_packed_equals_padded(policy, plain, side):
    packed, logp_BT = packed_logps(policy, GROUPS)
    for row, expected in enumerate(padded_logps(plain, side)):
        assert_close(logp_BT[row, : len(expected)], expected, atol=1e-5, rtol=0)
        assert not logp_BT[row, len(expected) :].any()
    assert packed.length_B.tolist() == [len(r) for _, r in ROWS]


def test_shared_prompt_equals_prompt_repeated(policy, plain_logps):
    _, shared_BT = packed_logps(policy, GROUPS, 0.7)
    _, alone_BT = packed_logps(policy, [Group(p, (r,)) for p, r in ROWS], 0.7)
    assert_close(shared_BT, alone_BT, atol=1e-5, rtol=0)
    for row, (prompt, response) in enumerate(ROWS):
        assert_close(shared_BT[row, : len(response)], plain_logps(prompt, response, 0.7), atol=1e-5, rtol=0)


def test_gradients_of_packed_equal_plain_ones(policy, plain):
    towers.base_of(policy).requires_grad_(True)
    _, logp_BT = packed_logps(policy, GROUPS)
    logp_BT.sum().backward()
    plain.requires_grad_(True)
    total = 0.0
    for prompt, response in ROWS:
        logp = plain(torch.tensor([[*prompt, *response]])).logits[0].log_softmax(-1)
        total += logp[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None]).sum()
    total.backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in policy.named_parameters():
        scale = float(theirs[name].grad.abs().max())
        assert_close(parameter.grad, theirs[name].grad, atol=1e-4 * scale, rtol=1e-3)
    plain.zero_grad()
    plain.requires_grad_(False)


def test_mask_keeps_final_eos_where_pad_is_eos():
    packed = pack([Group((1, 5), ((7, EOS), (EOS, EOS, EOS)))])
    assert packed.mask_BT.tolist() == [[True, True, False], [True, True, True]]
    assert packed.target_R.tolist() == [7, EOS, EOS, EOS, EOS]
    assert packed.tokens_T[packed.last_B].tolist() == [EOS, EOS]


def test_stream_by_hand():
    packed = pack([Group((10, 11), ((20,), (30, 31))), Group((12,), ((40, 41),))])
    assert packed.tokens_T.tolist() == [10, 11, 20, 30, 31, 12, 40, 41]
    assert packed.position_T.tolist() == [0, 1, 2, 2, 3, 0, 1, 2]
    assert packed.predictor_R.tolist() == [1, 1, 3, 5, 6]
    assert packed.last_B.tolist() == [2, 4, 7]


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), lengths), min_size=1, max_size=4))
def test_ragged_round_trip(shape):
    token = iter(range(10_000))
    groups = [
        Group(tuple(next(token) for _ in range(p)), tuple(tuple(next(token) for _ in range(n)) for n in ns))
        for p, ns in shape
    ]
    packed = pack(groups)
    responses = [r for g in groups for r in g.responses]
    spread = packed.to_BT(packed.target_R)
    assert [spread[i, : len(r)].tolist() for i, r in enumerate(responses)] == [list(r) for r in responses]
    assert torch.equal(packed.from_BT(spread), packed.target_R)
    assert int(packed.mask_BT.sum()) == len(packed.target_R)
    predictors = [(g.prompt[-1], *r[:-1]) for g in groups for r in g.responses]
    assert packed.tokens_T[packed.predictor_R].tolist() == [t for row in predictors for t in row]


@pytest.mark.parametrize("group", [Group((), ((1,),)), Group((1,), ()), Group((1,), ((2,), ()))])
def test_empty_prompt_or_response_is_refused(group):
    with pytest.raises(ValueError, match="at least one token"):
        pack([group])


def test_by_budget_keeps_order_and_lets_long_ones_stand_alone():
    assert by_budget([3, 4, 20, 1, 2, 8], 10) == [[0, 1], [2], [3, 4], [5]]
    assert by_budget([], 10) == []
