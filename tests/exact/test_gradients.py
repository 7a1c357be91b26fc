"""Expected gradients and their variance, by listing every group of samples that there is.

A policy of nine logits over two letters and an end: seven responses of one or two tokens, so 28 groups of
two and 84 of three, in any order. Each estimator goes through the functions that training uses; its gradient
for each group is weighed with the group's probability. Nothing is sampled, so nothing is tolerated but
round-off.

Axes: Y responses, T tokens, K samples of a group, G groups.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from accord.advantages import gae, grpo, reinforce, rewards_to_go, rewards_with_kl, rloo
from accord.kl import k1, k2, response_k2
from accord.losses import aggregation_count, aggregation_weight, clipped_policy_loss

BETA = 0.7
# Responses as (first token, second token or none): tokens a, b, end; the row of logits is chosen by what went
# before: nothing, a, b.
RESPONSES = [(2, None), (0, 2), (1, 2), (0, 0), (0, 1), (1, 0), (1, 1)]
MASK_YT = torch.tensor([[True, second is not None] for _, second in RESPONSES])


def random(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = random(3, 3, seed=1)
REFERENCE_LOGITS = random(3, 3, seed=2)
REWARD_Y = 2.0 + 1.5 * random(7, seed=3)


def token_logps(logits: Tensor) -> Tensor:
    """(Y, T) log-probabilities of the responses' tokens, 0 where there is none."""
    logp = logits.log_softmax(-1)
    zero = torch.zeros((), dtype=torch.float64)
    rows = [(logp[0, a], zero if b is None else logp[1 + a, b]) for a, b in RESPONSES]
    return torch.stack([torch.stack(row) for row in rows])


REFERENCE_YT = token_logps(REFERENCE_LOGITS)


def exact_gradient(beta: float = BETA) -> Tensor:
    """∇ of E[r] − β KL(π ‖ π_ref), differentiated as the sum over responses that it is."""
    logits = LOGITS.clone().requires_grad_()
    logp_Y = token_logps(logits).sum(1)
    objective = (logp_Y.exp() * (REWARD_Y - beta * (logp_Y - REFERENCE_YT.sum(1)))).sum()
    return torch.autograd.grad(objective, logits)[0]


def groups(k: int) -> list[tuple[list[int], int]]:
    """Every group of k responses, and in how many orders it can be drawn: no estimator looks at the order."""
    drawn = itertools.combinations_with_replacement(range(len(RESPONSES)), k)
    repeats = (math.prod(math.factorial(group.count(y)) for y in set(group)) for group in drawn)
    every = itertools.combinations_with_replacement(range(len(RESPONSES)), k)
    return [(list(g), math.factorial(k) // r) for g, r in zip(every, repeats, strict=True)]


def enumerate_estimator(loss_of, k: int) -> tuple[Tensor, float]:
    """(expected ascent direction, total variance): minus the gradient of ``loss_of(logp_KT, group)``."""
    logits = LOGITS.clone().requires_grad_()
    logp_YT = token_logps(logits)
    probability_Y = logp_YT.detach().sum(1).exp()
    every = groups(k)
    weight_G = torch.stack([orders * probability_Y[group].prod() for group, orders in every])
    assert_close(weight_G.sum(), torch.ones((), dtype=torch.float64))
    gradient_G = torch.stack(
        [-torch.autograd.grad(loss_of(logp_YT[g], g), logits, retain_graph=True)[0] for g, _ in every]
    )
    mean = (weight_G[:, None, None] * gradient_G).sum(0)
    square = (weight_G * gradient_G.square().sum((1, 2))).sum()
    return mean, float(square - mean.square().sum())


def rewards(logp_KT: Tensor, group: list[int], beta: float) -> Tensor:
    """(K, T) with the KL in the reward, as training makes them."""
    divergence_KT = k1(logp_KT.detach(), REFERENCE_YT[group])
    return rewards_with_kl(REWARD_Y[group], divergence_KT, MASK_YT[group], beta)


def surrogate(logp_KT: Tensor, group: list[int], advantage_KT: Tensor, kind: str = "constant") -> Tensor:
    """The policy's loss at ratio 1; ``constant`` of length 1: the sum over tokens, the mean over samples."""
    mask_KT = MASK_YT[group]
    return clipped_policy_loss(
        logp_KT,
        logp_KT.detach(),
        advantage_KT,
        aggregation_weight(mask_KT, kind, 1),
        clip=0.2,
        token_count=aggregation_count(mask_KT, kind),
    )


def whole_response(credit, beta: float = BETA, kind: str = "constant"):
    """A loss whose credit is one number a response: ``credit`` takes and gives (1, K)."""

    def loss(logp_KT, group):
        advantage_K1 = credit(rewards(logp_KT, group, beta).sum(1)[None]).T
        return surrogate(logp_KT, group, advantage_K1 * MASK_YT[group], kind)

    return loss


def dr_grpo(score_PK: Tensor) -> Tensor:
    return grpo(score_PK, divide_by_std=False, epsilon=0.0)[0]


def with_critic(value_YT: Tensor, lam: float):
    def loss(logp_KT, group):
        value_KT = value_YT[group]
        advantage_KT, _ = gae(rewards(logp_KT, group, BETA), value_KT, MASK_YT[group], 1.0, lam)
        return surrogate(logp_KT, group, advantage_KT)

    return loss


def to_go(logp_KT, group):
    """Each token's credit is what is paid from it on."""
    return surrogate(logp_KT, group, rewards_to_go(rewards(logp_KT, group, BETA), MASK_YT[group]))


def state_values(start: float, after_a: float, after_b: float) -> Tensor:
    """(Y, T) value of the state before each token."""
    rows = [(start, (after_a, after_b, 0.0)[first]) for first, _ in RESPONSES]
    return torch.tensor(rows, dtype=torch.float64)


def exact_values() -> Tensor:
    """What is still to come, on average, under the policy."""
    logp_YT = token_logps(LOGITS)
    paid_YT = rewards(logp_YT, list(range(7)), BETA)
    start = float((logp_YT.sum(1).exp() * paid_YT.sum(1)).sum())
    after = []
    for letter in (0, 1):
        rows = [i for i, (first, second) in enumerate(RESPONSES) if first == letter and second is not None]
        after.append(float((logp_YT[rows, 1].exp() * paid_YT[rows, 1]).sum()))
    return state_values(start, *after)


ESTIMATORS = {
    "REINFORCE": (whole_response(lambda score: score), 1, 1.0),
    "REINFORCE, running baseline": (whole_response(lambda score: reinforce(score[0], 1.7)[None]), 1, 1.0),
    "REINFORCE, baseline of the batch": (whole_response(lambda score: reinforce(score[0])[None]), 2, 1.0),
    "REINFORCE++, not whitened": (to_go, 1, 1.0),
    "RLOO, K = 2": (whole_response(rloo), 2, 1.0),
    "RLOO, K = 3": (whole_response(rloo), 3, 1.0),
    # The group's mean holds the sample itself, which takes 1/K of the gradient and nothing else.
    "GRPO without deviation, K = 2": (whole_response(dr_grpo), 2, 1 / 2),
    "GRPO without deviation, K = 3": (whole_response(dr_grpo), 3, 2 / 3),
    # λ = 1 is right with any critic; below 1 the critic has to be.
    "PPO at ratio 1, a wrong critic, λ = 1": (with_critic(state_values(-2.0, 5.0, -1.0), 1.0), 1, 1.0),
    "PPO at ratio 1, the exact critic, λ = 0": (with_critic(exact_values(), 0.0), 1, 1.0),
    "PPO at ratio 1, the exact critic, λ = .95": (with_critic(exact_values(), 0.95), 2, 1.0),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_expected_gradient_is_that_of_the_objective(name):
    loss, k, factor = ESTIMATORS[name]
    mean, _ = enumerate_estimator(loss, k)
    assert_close(mean, factor * exact_gradient(), atol=1e-9, rtol=0)
    assert exact_gradient().abs().max() > 0.1


# KL as a term of the loss


def kl_loss(term):
    """RLOO on the score alone, with β times a KL term in the loss, a mean over responses."""
    scored = whole_response(rloo, beta=0.0)

    def loss(logp_KT, group):
        term_K = term(logp_KT, REFERENCE_YT[group], MASK_YT[group])
        return scored(logp_KT, group) + BETA * term_K.sum() / len(group)

    return loss


def test_k2_of_whole_responses_in_the_loss_has_the_exact_gradient():
    mean, _ = enumerate_estimator(kl_loss(response_k2), 2)
    assert_close(mean, exact_gradient(), atol=1e-9, rtol=0)


def test_k2_of_tokens_in_the_loss_leaves_out_what_a_token_leads_to():
    """Its gradient is that of Σ_t KL(π(·|s_t) ‖ π_ref(·|s_t)) with the states s_t held fixed.

    The KL of responses also changes through the states that a token leads to; a term for each token does not
    see that. It is the gradient of the KL itself for responses of one token only.
    """
    mean, _ = enumerate_estimator(kl_loss(lambda new, old, _: k2(new, old)), 2)
    logits = LOGITS.clone().requires_grad_()
    first_SV, reference_SV = logits.log_softmax(-1), REFERENCE_LOGITS.log_softmax(-1)
    state_S = torch.cat([torch.ones(1, dtype=torch.float64), first_SV[0, :2].detach().exp()])  # start, a, b
    myopic = (state_S * (first_SV.exp() * (first_SV - reference_SV)).sum(1)).sum()
    expected = exact_gradient(beta=0.0) - BETA * torch.autograd.grad(myopic, logits)[0]
    assert_close(mean, expected, atol=1e-9, rtol=0)
    assert (mean - exact_gradient()).abs().max() > 0.05


def test_k1_in_the_loss_is_no_penalty_at_all():
    """Its expected gradient is zero: the reward is maximised as if there were no reference."""
    mean, _ = enumerate_estimator(kl_loss(lambda new, old, _: k1(new, old)), 2)
    assert_close(mean, exact_gradient(beta=0.0), atol=1e-9, rtol=0)
    assert (exact_gradient(beta=0.0) - exact_gradient()).abs().max() > 0.05


# Where the gradient is another one, and how much


def test_length_normalised_losses_have_another_gradient():
    """``sequence`` and ``token`` weigh long responses otherwise, by choice: the direction is another."""
    for kind in ("sequence", "token"):
        mean, _ = enumerate_estimator(whole_response(rloo, kind=kind), 2)
        exact = exact_gradient()
        cosine = float((mean * exact).sum() / (mean.norm() * exact.norm()))
        assert 0.5 < cosine < 0.999


def test_the_deviation_of_the_group_changes_the_direction():
    mean, _ = enumerate_estimator(whole_response(lambda s: grpo(s, divide_by_std=True, epsilon=1e-9)[0]), 3)
    exact = exact_gradient()
    cosine = float((mean * exact).sum() / (mean.norm() * exact.norm()))
    assert 0.5 < cosine < 0.999


# Variance


def moments() -> tuple[float, float, float, float]:
    """M = E[X² ‖s‖²], |∇|², Var R and I = E[‖s‖²], of X = R − E[R], s = ∇log π(y), by listing responses."""
    logits = LOGITS.clone().requires_grad_()
    logp_Y = token_logps(logits).sum(1)
    score_YP = torch.stack(
        [torch.autograd.grad(logp_Y[y], logits, retain_graph=True)[0].flatten() for y in range(7)]
    )
    p_Y = logp_Y.detach().exp()
    paid_Y = REWARD_Y - BETA * (logp_Y.detach() - REFERENCE_YT.sum(1))
    centred_Y = paid_Y - (p_Y * paid_Y).sum()
    square_Y = score_YP.square().sum(1)
    gradient_P = (p_Y * centred_Y) @ score_YP
    return (
        float((p_Y * centred_Y.square() * square_Y).sum()),
        float(gradient_P.square().sum()),
        float((p_Y * centred_Y.square()).sum()),
        float((p_Y * square_Y).sum()),
    )


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_variance_of_rloo_falls_with_k_as_theory_says(k):
    """K · Var = M − |∇|² + (|∇|² + Var(R) · I) / (K − 1).

    With X = R − E[R] and s = ∇log π, RLOO's estimate (1/K) Σ (X_i − mean of the other X) s_i is the
    U-statistic of the kernel h(i, j) = ½ (X_i − X_j)(s_i − s_j). Hoeffding 1948: its variance is
    [4 (K − 2) ζ₁ + 2 ζ₂] / (K (K − 1)), where ζ₁ = Var E[h | y_i] = ¼ (M − |∇|²), as E[h | y] = ½ (X s + ∇),
    and ζ₂ = Var h = ½ (M + Var(R) · I), as E[s] = E[X] = 0 cancels all other products.

    At equal samples (K · Var) the first two terms are what the baseline E[R] itself would give; the last is
    the price of estimating it from K − 1 siblings.
    """
    m, gradient, variance, information = moments()
    _, found = enumerate_estimator(whole_response(rloo), k)
    assert k * found == pytest.approx(m - gradient + (gradient + variance * information) / (k - 1), rel=1e-9)


def test_variance_by_estimator():
    """At equal samples: without a baseline it is worst, siblings cost little, an exact critic is best."""
    m, gradient, _, _ = moments()
    found = {name: k * enumerate_estimator(loss, k)[1] for name, (loss, k, _) in ESTIMATORS.items()}
    assert m - gradient < found["RLOO, K = 3"] < found["RLOO, K = 2"] < found["REINFORCE"]
    assert found["PPO at ratio 1, the exact critic, λ = 0"] < m - gradient
    # A critic that is far off is worse than none: its error is multiplied with every token's gradient.
    assert found["PPO at ratio 1, a wrong critic, λ = 1"] > found["REINFORCE"]
