"""Direct losses against numbers derived by hand, numerical gradients, and limits in which they must agree."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from accord.direct_losses import dpo, ipo, kto, kto_baseline, orpo, response_logps, robust_dpo, simpo
from accord.preference_losses import davidson, rao_kupper


def f64(values, grad: bool = False) -> Tensor:
    return tensor(values, dtype=torch.float64, requires_grad=grad)


CHOSEN, REJECTED = [2.0, -1.0], [-1.0, 0.0]  # log ratios: margins 3 and −1


def test_response_logps_sum_the_masked_tokens():
    logp_BT = f64([[-1.0, -2.0, -9.0], [-3.0, float("nan"), float("nan")]])
    mask_BT = tensor([[True, True, False], [True, False, False]])
    assert_close(response_logps(logp_BT, mask_BT), f64([-3.0, -3.0]))


def test_dpo_by_hand():
    # β = ½: log(1 + e^−1.5) = 0.2014132780 and log(1 + e^0.5) = 0.9740769842; their mean
    assert_close(dpo(f64(CHOSEN), f64(REJECTED), beta=0.5), f64(0.5877451311))
    # over a global count of 4
    assert_close(dpo(f64(CHOSEN), f64(REJECTED), beta=0.5, count=4), f64(0.2938725656))
    # at the reference itself every pair costs ln 2
    assert_close(dpo(f64([0.0]), f64([0.0]), beta=0.1), f64(math.log(2)))


def test_cdpo_and_robust_dpo_by_hand():
    # β · margin = 1.5, ε = .1: L = 0.2014132780, turned 1.7014132780
    assert_close(dpo(f64([2.0]), f64([-1.0]), beta=0.5, label_smoothing=0.1), f64(0.3514132780))
    # (.9 · 0.2014132780 − .1 · 1.7014132780) / .8
    assert_close(robust_dpo(f64([2.0]), f64([-1.0]), beta=0.5, label_smoothing=0.1), f64(0.0139132780))


def test_robust_dpo_undoes_turned_labels_in_expectation():
    a, b, e = f64([0.7]), f64([-0.4]), 0.2
    robust = partial(robust_dpo, beta=0.3, label_smoothing=e)
    assert_close((1 - e) * robust(a, b) + e * robust(b, a), dpo(a, b, beta=0.3))


def test_cdpo_rests_at_the_margin_of_the_smoothing():
    # d/dm = σ(m) − (1 − ε) = 0 at m = log(.9/.1)
    chosen = f64([math.log(9.0) / 0.5], grad=True)
    dpo(chosen, f64([0.0]), beta=0.5, label_smoothing=0.1).backward()
    assert_close(chosen.grad, f64([0.0]))


def test_ipo_by_hand():
    # 1/(2 · ½) = 1: (3 − 1)² = 4 and (−1 − 1)² = 4; with β = ¼ the target is 2: 1 and 9
    assert_close(ipo(f64(CHOSEN), f64(REJECTED), beta=0.5), f64(4.0))
    assert_close(ipo(f64(CHOSEN), f64(REJECTED), beta=0.25), f64(5.0))


def test_kto_by_hand():
    ratio, good = f64([3.0, 1.0]), tensor([True, False])
    # z0 = 1, β = ½: good 1 − σ(½ · 2) = 0.2689414214; bad 1 − σ(½ · (1 − 1)) = ½; mean
    assert_close(kto(ratio, good, f64(1.0), beta=0.5), f64(0.3844707107))
    # weights 2 and 1, a count of 4: (2 · 0.2689414214 + 0.5) / 4
    weighted = kto(ratio, good, f64(1.0), beta=0.5, good_weight=2.0, count=4)
    assert_close(weighted, f64(0.2594707107))


def test_the_kto_baseline_is_a_mean_that_is_never_negative_and_has_no_gradient():
    assert_close(kto_baseline(f64([3.0, -1.0])), f64(1.0))
    assert_close(kto_baseline(f64([3.0, -1.0]), count=4), f64(0.5))
    assert kto_baseline(f64([1.0, -3.0])) == 0
    assert not kto_baseline(f64([3.0], grad=True)).requires_grad
    baseline = f64(1.0, grad=True)  # and the loss would not use one
    kto(f64([3.0], grad=True), tensor([True]), baseline, beta=0.5).backward()
    assert baseline.grad is None


def test_orpo_by_hand():
    # p = ½ and ¼: odds 1 and ⅓; log σ(log 3) = log ¾. −log ½ + .1 · log(4/3)
    chosen, rejected = f64([math.log(0.5)]), f64([math.log(0.25)])
    assert_close(orpo(chosen, rejected, odds_weight=0.1), f64(math.log(2) + 0.1 * math.log(4 / 3)))


def test_orpo_of_a_certain_answer_is_finite():
    chosen = f64([0.0], grad=True)  # p = 1, infinite odds
    loss = orpo(chosen, f64([-1.0]), odds_weight=0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(chosen.grad).all()


def test_simpo_by_hand():
    # 2 · (−½ + 1) − ½ = ½: log(1 + e^−½)
    assert_close(simpo(f64([-0.5]), f64([-1.0]), beta=2.0, gamma=0.5), f64(0.4740769842))


LOSSES = {
    "dpo": partial(dpo, beta=0.3),
    "cdpo": partial(dpo, beta=0.3, label_smoothing=0.1, count=5),
    "robust_dpo": partial(robust_dpo, beta=0.3, label_smoothing=0.2),
    "ipo": partial(ipo, beta=0.3),
    "orpo": partial(orpo, odds_weight=0.4),
    "simpo": partial(simpo, beta=2.0, gamma=0.7),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_pairs(name):
    inputs = f64([-0.4, -1.0, -2.0], True), f64([-0.1, -0.6, -0.7], True)
    assert torch.autograd.gradcheck(LOSSES[name], inputs)


def test_gradient_of_kto():
    loss = partial(kto, good_N=tensor([True, False, True]), baseline=f64(0.2), beta=0.4, bad_weight=1.5)
    assert torch.autograd.gradcheck(loss, (f64([0.4, -1.0, 2.0], True),))


def test_dpos_gradient_is_the_papers():
    # −β σ(r̂_rejected − r̂_chosen) on the chosen side (Rafailov et al. 2023, section 4), here β = ½, margin 3
    chosen, rejected = f64([2.0], True), f64([-1.0], True)
    dpo(chosen, rejected, beta=0.5).backward()
    assert_close(chosen.grad, f64([-0.5 / (1 + math.exp(1.5))]))
    assert_close(rejected.grad, -chosen.grad)


def test_ties_on_dpos_margin():
    """DPO-RK and DPO-D with the constants of Chen et al. 2024: ν = 3 and ν = 1; margin β·Δ = 1.5."""
    margin, tie, win = f64([1.5]), tensor([2]), tensor([0])
    # Rao–Kupper, η = log 3: P(win) = 1/(1 + 3e^−1.5), P(tie) = 8 P(win) P(loss), P(loss) = 1/(1 + 3e^1.5)
    p_win, p_loss = 1 / (1 + 3 * math.exp(-1.5)), 1 / (1 + 3 * math.exp(1.5))
    eta = f64(math.log(3.0))
    assert_close(rao_kupper(margin, win, eta), f64(-math.log(p_win)))
    assert_close(rao_kupper(margin, tie, eta), f64(-math.log(8 * p_win * p_loss)))
    # Davidson, log ν = 0: 1 / (e^.75 + e^−.75 + 1) of a tie
    total = math.exp(0.75) + math.exp(-0.75) + 1
    assert_close(davidson(margin, tie, f64(0.0)), f64(math.log(total)))
    assert_close(davidson(margin, win, f64(0.0)), f64(math.log(total) - 0.75))


@pytest.mark.parametrize("name", ["dpo", "ipo", "robust_dpo"])
def test_equal_shapes_and_a_beta_above_0_are_insisted_on(name):
    loss = {"dpo": dpo, "ipo": ipo, "robust_dpo": partial(robust_dpo, label_smoothing=0.1)}[name]
    with pytest.raises(ValueError, match=r"beta is 0\.0: it must be above 0"):
        loss(f64([1.0]), f64([1.0]), beta=0.0)
    with pytest.raises(ValueError, match="needs 1 axes"):
        loss(f64([1.0]), f64([[1.0]]), beta=0.1)


def test_other_nonsense_is_refused():
    one = f64([1.0])
    with pytest.raises(ValueError, match=r"robust DPO needs it above 0"):
        robust_dpo(one, one, beta=0.1, label_smoothing=0.0)
    with pytest.raises(ValueError, match=r"gamma is -1"):
        simpo(one, one, beta=2.0, gamma=-1)
    with pytest.raises(ValueError, match="odds_weight is 0"):
        orpo(one, one, odds_weight=0)
    with pytest.raises(ValueError, match=r"bfloat16"):
        dpo(one.bfloat16(), one.bfloat16(), beta=0.1)
