"""Every algorithm reaches the optimum that can be computed, and with one line broken it does not.

``scripts/known_optimum.py`` does the same from several random policies and prints what is left.

What this cannot see: at the optimum, reward minus β times the log ratio is the same for every response, so
that with the KL in the reward the advantage of each is 0. A fault that only scales or weighs advantages (a
baseline that holds the sample itself, tokens weighted by the length of their response) leaves that point
where it is; so does GRPO's deviation. Those are in test_gradients.py, by the gradient's direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from accord import advantages, direct_losses, kl, policy_update, tensors
from accord.online import OnlineTrainer, RatioIsNotOne
from accord.reference import Reference
from tests.exact import language
from tests.exact.training import ALGORITHMS, DEVIATION_AND_KL_IN_THE_LOSS, LIMIT, train


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_optimum_is_reached(name, tmp_path):
    run = train(tmp_path, 0, **ALGORITHMS[name])
    assert run.start > 5 * LIMIT
    assert run.end <= LIMIT


def test_grpo_with_the_deviation_and_the_kl_in_the_loss_reaches_the_optimum_of_another_penalty(tmp_path):
    """Its documented bias: β is multiplied by the deviation of the rewards, for each prompt its own."""
    run = train(tmp_path, 0, **DEVIATION_AND_KL_IN_THE_LOSS)
    assert language.kl(run.policy_PY, run.world.optimum_of_scaled_rewards()) <= LIMIT
    assert run.end > 5 * LIMIT


# One line broken. Each takes monkeypatch and changes one function as the fault would.

Patch = pytest.MonkeyPatch


def shifted_by_one(patch: Patch) -> None:
    """Log-probabilities are those of the token before."""
    right = tensors.head_logps

    def wrong(hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, **options: Any) -> Any:
        return right(hidden_RH, weight_VH, target_R.roll(1), **options)

    patch.setattr(tensors, "head_logps", wrong)


def no_temperature_in_training(patch: Patch) -> None:
    """The sampler divides logits by the temperature, the trainer does not."""
    right = tensors.head_logps
    patch.setattr(tensors, "head_logps", lambda *a, **o: right(*a, **(o | {"temperature": 1.0})))


def no_temperature_in_the_reference(patch: Patch) -> None:
    right = OnlineTrainer.reference_logps

    def wrong(self: OnlineTrainer, *args: Any) -> Tensor:
        kept, plain = self.config, self.config.sampling.model_copy(update={"temperature": 1.0})
        self.config = kept.model_copy(update={"sampling": plain})
        try:
            return right(self, *args)
        finally:
            self.config = kept

    patch.setattr(OnlineTrainer, "reference_logps", wrong)


def old_logps_at_another_temperature(patch: Patch) -> None:
    """As if old log-probabilities were kept from plain logits: with epochs they meet new ones."""
    right = policy_update.update

    def wrong(scored: Any, *args: Any) -> Any:
        return right(replace(scored, old_logp_BT=scored.old_logp_BT * 0.7), *args)

    patch.setattr(policy_update, "update", wrong)


def score_on_the_pad_token(patch: Patch) -> None:
    """The score goes to the batch's last column, where short responses have padding."""

    def wrong(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
        reward_BT = -coefficient * kl_BT * mask_BT
        reward_BT[:, -1] += score_B
        return reward_BT

    patch.setattr(advantages, "rewards_with_kl", wrong)


def score_at_every_token(patch: Patch) -> None:
    def wrong(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
        return (score_B[:, None] - coefficient * kl_BT) * mask_BT

    patch.setattr(advantages, "rewards_with_kl", wrong)


def kl_averaged_over_tokens(patch: Patch) -> None:
    """Normalised by length where the sum is needed: long responses may go further."""
    right = advantages.rewards_with_kl

    def wrong(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
        return right(score_B, kl_BT / mask_BT.sum(1, keepdim=True), mask_BT, coefficient)

    patch.setattr(advantages, "rewards_with_kl", wrong)


def sign_of_the_kl(patch: Patch) -> None:
    right = kl.k1
    patch.setattr(kl, "k1", lambda logp_BT, reference_BT: right(reference_BT, logp_BT))


def k1_in_the_loss(patch: Patch) -> None:
    def wrong(logp_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return (kl.k1(logp_BT, reference_BT) * mask_BT).sum(1)

    patch.setattr(kl, "response_k2", wrong)


def reference_with_dropout(patch: Patch) -> None:
    right = OnlineTrainer._logps_of

    def wrong(self: OnlineTrainer, tower: Any, model: Any, *args: Any, **options: Any) -> Any:
        if model is not self.reference.model:
            return right(self, tower, model, *args, **options)
        rng = torch.Generator().manual_seed(self.steps)
        kept = tower.hidden
        try:
            tower.hidden = lambda *a: _dropped(kept(*a), rng)
            return right(self, tower, model, *args, **options)
        finally:
            tower.hidden = kept

    patch.setattr(OnlineTrainer, "_logps_of", wrong)


def _dropped(hidden_TH: Tensor, rng: torch.Generator) -> Tensor:
    """Dropout of one in two."""
    return hidden_TH * 2 * (torch.rand(hidden_TH.shape, generator=rng) < 0.5)


def reference_that_moves(patch: Patch) -> None:
    """The reference is the policy itself and not a copy."""
    right = Reference.__init__

    def wrong(self: Reference, policy: Any, weights: Any, start: int, given: Any = None) -> None:
        right(self, policy, weights, start, given)
        base, copied = policy.model, self.model.model
        for mine, theirs in zip(copied.parameters(), base.parameters(), strict=True):
            mine.data = theirs.data
        self.model.lm_head.weight.data = policy.lm_head.weight.data

    patch.setattr(Reference, "__init__", wrong)


def end_token_out_of_the_mask(patch: Patch) -> None:
    """Where padding is found by its id, and the end token is the pad token: its KL is not counted."""
    right = advantages.rewards_with_kl

    def wrong(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
        short_B1 = mask_BT.sum(1, keepdim=True) < language.LONGEST  # surely ended
        last_BT = mask_BT & (mask_BT.long().flip(1).cumsum(1).flip(1) == 1)
        return right(score_B, kl_BT * ~(last_BT & short_B1), mask_BT, coefficient)

    patch.setattr(advantages, "rewards_with_kl", wrong)


def own_sample_in_the_baseline(patch: Patch) -> None:
    """The sum over the whole group, the sample itself included, over K − 1."""
    patch.setattr(
        advantages,
        "rloo",
        lambda score_PK, _: score_PK - score_PK.sum(1, keepdim=True) / (score_PK.shape[1] - 1),
    )


def pairs_of_mean_logps(patch: Patch) -> None:
    """DPO's log-probabilities averaged over tokens where they are summed."""
    right = direct_losses.response_logps
    patch.setattr(
        direct_losses, "response_logps", lambda logp_BT, mask_BT: right(logp_BT, mask_BT) / mask_BT.sum(1)
    )


COLD = {"sampling": {"max_new_tokens": 2, "batch_size": 4096, "temperature": 0.7}}
BROKEN: dict[str, tuple[Callable[[Patch], None], str, dict[str, Any]]] = {
    "3, 4 shifted by one": (shifted_by_one, "rloo", {}),
    "6 no temperature in training": (no_temperature_in_training, "rloo", COLD),
    "6 no temperature in the reference": (no_temperature_in_the_reference, "rloo", COLD),
    "18 old log-probabilities at another temperature": (
        old_logps_at_another_temperature,
        "rloo",
        {"epochs": 2},
    ),
    "2 score on the pad token": (score_on_the_pad_token, "ppo", {}),
    "14 score at every token": (score_at_every_token, "rloo", {}),
    "14 KL averaged over tokens": (kl_averaged_over_tokens, "rloo", {}),
    "14 sign of the KL": (sign_of_the_kl, "rloo", {}),
    "14 k1 in the loss": (k1_in_the_loss, "dr grpo, KL in the loss", {}),
    "12 reference with dropout": (reference_with_dropout, "rloo", {}),
    "23 reference that moves": (reference_that_moves, "rloo", {}),
    "3 end token out of the mask": (end_token_out_of_the_mask, "rloo", {}),
    "19 own sample in the baseline": (
        own_sample_in_the_baseline,
        "rloo",
        {"samples_per_prompt": 2, "copies": 32},
    ),
    "23 log-probabilities of pairs averaged": (pairs_of_mean_logps, "online_dpo", {}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_seen(fault, tmp_path, monkeypatch):
    breaks, name, options = BROKEN[fault]
    breaks(monkeypatch)
    try:
        run = train(tmp_path, 0, **(ALGORITHMS[name] | options))
    except RatioIsNotOne:
        return
    assert run.end > LIMIT


@pytest.mark.parametrize("options", [COLD, {"samples_per_prompt": 2, "copies": 32}])
def test_what_the_faults_are_tried_on_is_sound(options, tmp_path):
    """The settings that only some faults have, without the fault."""
    assert train(tmp_path, 0, **(ALGORITHMS["rloo"] | options)).end <= LIMIT
