"""KL estimators by enumeration, and the adaptive controller by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from accord.kl import AdaptiveKl, FixedKl, KlBudget, k1, k2, k3, response_k2
from accord.records import BadInput

LOGITS = [0.3, -1.1, 0.7]
REFERENCE_LOGITS = [-0.2, 0.4, 0.1]


def row(values: list[float]) -> Tensor:
    return tensor([values], dtype=torch.float64)


def test_three_estimators_by_hand():
    # policy 1/2, reference 1/4: log ratio ln 2 = 0.6931472; k2 = (ln 2)²/2; k3 = 1/2 − 1 + ln 2
    # policy 1/4, reference 1/2: log ratio −ln 2; k3 = 2 − 1 − ln 2
    logp, reference = row([0.5, 0.25]).log(), row([0.25, 0.5]).log()
    assert_close(k1(logp, reference), row([0.69314718, -0.69314718]))
    assert_close(k2(logp, reference), row([0.24022651, 0.24022651]))
    assert_close(k3(logp, reference), row([0.19314718, 0.30685282]))


def enumerated(estimator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Over all 3 actions of a softmax: the estimator's mean, and the expectation of its gradient when it is
    used as a loss (actions drawn from the policy, their probabilities held fixed as sampling does); beside
    them the exact KL(policy ‖ reference) and its gradient with respect to the logits."""
    logits = tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    logp = torch.log_softmax(logits, 0)
    reference = torch.log_softmax(tensor(REFERENCE_LOGITS, dtype=torch.float64), 0)
    mean = (logp.exp().detach() * estimator(logp[None], reference[None])[0]).sum()
    (gradient,) = torch.autograd.grad(mean, logits, retain_graph=True)
    exact = (logp.exp() * (logp - reference)).sum()
    (exact_gradient,) = torch.autograd.grad(exact, logits)
    return mean.detach(), gradient, exact.detach(), exact_gradient


def test_k1_and_k3_have_the_exact_mean():
    for estimator in (k1, k3):
        mean, _, exact, _ = enumerated(estimator)
        assert_close(mean, exact)


def test_k1_in_the_loss_has_zero_expected_gradient():
    # Σ p ∇log p = ∇ Σ p = 0, although the KL's own gradient is far from 0
    _, gradient, _, exact_gradient = enumerated(k1)
    assert_close(gradient, torch.zeros(3, dtype=torch.float64), atol=1e-14, rtol=0)
    assert exact_gradient.abs().max() > 0.1


def test_k2_in_the_loss_has_the_exact_gradient():
    _, gradient, _, exact_gradient = enumerated(k2)
    assert_close(gradient, exact_gradient, atol=1e-14, rtol=0)


def test_exact_gradient_by_hand():
    # dKL/dlogit_i = p_i (log(p_i/q_i) − KL). Two actions, p = (3/4, 1/4), q = (1/2, 1/2):
    # KL = 3/4 ln 1.5 + 1/4 ln 0.5 = 0.1308120; first: 3/4 (0.4054651 − 0.1308120) = 0.2059898, − that
    logits = row([math.log(3.0), 0.0]).requires_grad_()
    logp = torch.log_softmax(logits, 1)
    weight = logp.exp().detach()
    (weight * k2(logp, row([0.5, 0.5]).log())).sum().backward()
    assert_close(logits.grad, row([0.20598980, -0.20598980]))


def test_k3_in_the_loss_has_the_gradient_of_the_other_kl():
    # E_p[∇(r − 1 − log r)] = E_p[(1 − r) ∇log p] = −Σ q ∇log p = ∇KL(q ‖ p), which for logits is p − q
    _, gradient, _, exact_gradient = enumerated(k3)
    p, q = (torch.softmax(tensor(x, dtype=torch.float64), 0) for x in (LOGITS, REFERENCE_LOGITS))
    assert_close(gradient, p - q)
    assert (gradient - exact_gradient).abs().max() > 0.05


@given(st.lists(st.tuples(st.floats(-30, 0), st.floats(-30, 0)), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_k3_is_never_negative_even_in_float32(pairs):
    logp, reference = tensor(pairs).T.unsqueeze(1)
    assert (k3(logp, reference) >= 0).all()
    assert_close(k3(logp, logp), torch.zeros_like(logp))


def test_k3_keeps_the_digits_of_a_small_step():
    # log r = 1e-3: e^x − 1 − x = x²/2 + x³/6 = 5.001667e-7, of which float32's exp(x) − 1 keeps none to 1%
    assert_close(k3(tensor([[0.0]]), tensor([[1e-3]])), tensor([[5.001667e-7]]), rtol=2e-4, atol=0)


def test_gradient_of_k2_and_k3():
    logp, reference = row([-0.5, -2.0]).requires_grad_(), row([-1.0, -0.7]).requires_grad_()
    assert torch.autograd.gradcheck(k2, (logp, reference))
    assert torch.autograd.gradcheck(k3, (logp, reference))


def test_shapes_and_half_precision_are_refused():
    with pytest.raises(ValueError, match=r"reference_logp_BT has T = 3 .* logp_BT has T = 2"):
        k1(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="needs 2 axes"):
        k2(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"bfloat16.*float32"):
        k3(torch.zeros(1, 2, dtype=torch.bfloat16), torch.zeros(1, 2))


def test_adaptive_kl_by_hand():
    # horizon 10,000, 64 samples a step: one step moves by error · 0.0064
    controller = AdaptiveKl(coefficient=0.1, target=6.0, horizon=10_000)
    # 6.6/6 − 1 = 0.1, inside the limit: 0.1 · (1 + 0.1 · 0.0064) = 0.100064
    assert controller.update(6.6, 64) == pytest.approx(0.100064, rel=1e-12)
    # 60/6 − 1 = 9 is cut to 0.2: 0.100064 · 1.00128 = 0.10019208192
    assert controller.update(60.0, 64) == pytest.approx(0.10019208192, rel=1e-12)
    # 0/6 − 1 = −1 is cut to −0.2: 0.10019208192 · 0.99872 = 0.1000638360551424
    assert controller.update(0.0, 64) == pytest.approx(0.1000638360551424, rel=1e-12)
    # a k1 sum may be negative: cut to −0.2 as well
    assert controller.update(-3.0, 64) == pytest.approx(0.1000638360551424 * 0.99872, rel=1e-12)
    # on target nothing moves
    before = controller.coefficient
    assert controller.update(6.0, 64) == before == controller.coefficient


def test_adaptive_kl_counts_samples_not_steps():
    # 0.2 · 500/1000 = 0.1 in one step of 500 samples
    assert AdaptiveKl(1.0, 1.0, 1000).update(5.0, 500) == pytest.approx(1.1)


def test_adaptive_kl_refuses_what_would_break_it():
    controller = AdaptiveKl(0.1, 6.0, 100)
    with pytest.raises(ValueError, match="KL of this step is nan"):
        controller.update(math.nan, 4)
    # 0.2 · 500 = 100 = horizon: the factor could be 1 − 1 = 0
    with pytest.raises(BadInput, match="set the horizon above 100"):
        controller.update(0.0, 500)
    assert controller.coefficient == 0.1
    with pytest.raises(BadInput, match="target is 0"):
        AdaptiveKl(0.1, 0.0, 100)


def test_fixed_kl_stays():
    controller = FixedKl(0.05)
    assert controller.update(100.0, 64) == 0.05 == controller.coefficient


def test_k2_of_a_response_by_hand_and_its_gradient_is_that_of_k1_in_the_reward():
    # log ratios ln 2 and −ln 4 (sum −ln 2), then ln 2 alone; the padded column holds NaN
    logp = tensor([[0.5, 0.25], [0.5, math.nan]], dtype=torch.float64).log().requires_grad_()
    reference = tensor([[0.25, 1.0], [0.25, math.nan]], dtype=torch.float64).log()
    mask = tensor([[True, True], [True, False]])
    found = response_k2(logp, reference, mask)
    assert_close(found, tensor([0.24022651, 0.24022651], dtype=torch.float64))
    found.sum().backward()
    # A = −Σ k1 of the response at each of its tokens; the loss −A · logp has the gradient −A
    ln2 = math.log(2)
    assert_close(logp.grad, tensor([[-ln2, -ln2], [ln2, 0.0]], dtype=torch.float64))


def test_k2_of_a_response_has_the_gradient_of_the_exact_kl_and_the_sum_over_tokens_has_not():
    """Two binary tokens, the second depends on the first: all four responses are enumerated."""
    logits = tensor([0.4, -0.3, 0.8], dtype=torch.float64, requires_grad=True)  # first; second after 0, 1
    reference = tensor([0.0, 2.5, -0.2], dtype=torch.float64)
    responses = [(a, b) for a in (0, 1) for b in (0, 1)]

    def logps(theta: Tensor) -> Tensor:
        one = torch.stack([torch.nn.functional.logsigmoid(theta), torch.nn.functional.logsigmoid(-theta)])
        return torch.stack([torch.stack([one[a, 0], one[b, 1 + a]]) for a, b in responses])

    mask = torch.ones(4, 2)
    logp, fixed = logps(logits), logps(reference)
    probability = logp.sum(1).exp()
    (exact,) = torch.autograd.grad((probability * (logp - fixed).sum(1)).sum(), logits, retain_graph=True)
    weight = probability.detach()
    response = (weight * response_k2(logp, fixed, mask)).sum()
    (whole,) = torch.autograd.grad(response, logits, retain_graph=True)
    (tokens,) = torch.autograd.grad((weight * k2(logp, fixed).sum(1)).sum(), logits)
    assert_close(whole, exact, atol=1e-12, rtol=0)
    assert (tokens - exact).abs().max() > 0.01


def test_budget_by_hand():
    budget = KlBudget(0.05, target=4.0, rate=0.5, floor=0.05)
    assert budget.update(6.0, 64) == pytest.approx(0.05 * math.exp(0.25))  # error 0.5
    assert budget.update(40.0, 64) == pytest.approx(0.05 * math.exp(0.75))  # error 9, held at 1
    assert budget.update(-1.0, 64) == pytest.approx(0.05 * math.exp(0.25))  # error held at −1
    assert budget.update(0.0, 64) == pytest.approx(0.05)  # never under the configured coefficient
    with pytest.raises(ValueError, match="was not changed"):
        budget.update(math.nan, 64)
    with pytest.raises(BadInput, match="target is 0"):
        KlBudget(0.05, 0.0, 0.1, 0.05)


def test_budget_brings_a_lagging_kl_under_its_target_and_keeps_it_there():
    """A policy that goes a tenth of the way to 1 / coefficient a step: without the budget KL ends at 20."""
    budget, kl, seen = KlBudget(0.05, target=4.0, rate=0.2, floor=0.05), 0.0, []
    for _ in range(200):
        kl += 0.1 * (1 / budget.coefficient - kl)
        budget.update(kl, 64)
        seen.append(kl)
    assert sum(seen[-50:]) / 50 == pytest.approx(4.0, rel=0.05)
    assert max(seen[-50:]) < 4.4
