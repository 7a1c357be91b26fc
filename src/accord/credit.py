"""Credit assignment: which pure function of `advantages` an algorithm takes. The update knows none of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from accord import advantages, tensors
from accord.config import Online

DECAY = 0.9  # of the running baseline: the mean of about the last ten batches


@dataclass(frozen=True)
class Credit:
    """What the update is given.

    Attributes:
        return_BT: target of the critic (PPO), else None.
        no_spread_share: share of the groups whose scores teach nothing, where the algorithm compares samples.
        pair_P2: online DPO: rows of the better and of the worse response of each group; equal where there is
            no spread. Else None.
    """

    advantage_BT: Tensor
    return_BT: Tensor | None = None
    no_spread_share: float | None = None
    pair_P2: Tensor | None = None


@dataclass
class CreditAssignment:
    """The match of algorithms, and REINFORCE's running baseline, which is its only state.

    Attributes:
        baseline: moving mean of the scores of the batches before; None before the first.
    """

    config: Online
    baseline: float | None = field(default=None)

    def assign(
        self,
        score_B: Tensor,
        reward_BT: Tensor,
        value_BT: Tensor | None,
        mask_BT: Tensor,
        groups: int,
        valid_B: Tensor | None = None,
    ) -> Credit:
        """Advantages of a batch.

        Args:
            score_B: what each response is paid, without the KL.
            reward_BT: reward per token, KL included where it is in the reward.
            value_BT: the critic's values (PPO), else None.
            groups: prompts of the batch, each with the same number of responses.
            valid_B: false where a response could not be scored: its advantages are 0, and it is in nobody's
                baseline. None: all of them.
        """
        config = self.config
        valid_PK = None if valid_B is None else valid_B.view(groups, -1)
        if valid_B is not None:
            mask_BT = mask_BT & valid_B[:, None]
        total_PK = reward_BT.sum(1).view(groups, -1)
        match config.algorithm:
            case "ppo":
                assert value_BT is not None
                advantage_BT, return_BT = advantages.gae(
                    reward_BT, value_BT, mask_BT, config.gamma, config.gae_lambda
                )
                if valid_B is not None:  # the critic has nothing to learn there
                    return_BT = torch.where(valid_B[:, None], return_BT, value_BT)
                if config.whiten_advantage:
                    advantage_BT = tensors.whiten(advantage_BT, mask_BT)
                return Credit(advantage_BT, return_BT)
            case "reinforce++":
                advantage_BT = advantages.rewards_to_go(reward_BT, mask_BT)
                if config.whiten_advantage:
                    advantage_BT = tensors.whiten(advantage_BT, mask_BT)
                return Credit(advantage_BT)
            case "reinforce":
                return Credit(self._against_the_baseline(reward_BT.sum(1), valid_B)[:, None] * mask_BT)
            case "rloo":
                return Credit(advantages.rloo(total_PK, valid_PK).reshape(-1, 1) * mask_BT)
            case "grpo" | "gspo":
                advantage_PK, _ = advantages.grpo(total_PK, valid_PK, divide_by_std=config.group_std)
                # Of the scores alone: a KL in the reward always differs a little, and would hide such groups.
                _, no_spread_P = advantages.grpo(score_B.view(groups, -1), valid_PK, divide_by_std=False)
                advantage_BT = advantage_PK.reshape(-1, 1) * mask_BT
                return Credit(advantage_BT, no_spread_share=float(no_spread_P.float().mean()))
            case "online_dpo":
                return _pairs(score_B.view(groups, -1), valid_PK, mask_BT)

    def _against_the_baseline(self, score_B: Tensor, valid_B: Tensor | None) -> Tensor:
        used_B = torch.ones_like(score_B, dtype=torch.bool) if valid_B is None else valid_B
        baseline = None if self.config.baseline == "batch" else self.baseline  # the first batch is its own
        advantage_B = torch.zeros_like(score_B)
        advantage_B[used_B] = advantages.reinforce(score_B[used_B], baseline)
        mean = float(score_B[used_B].mean())
        self.baseline = mean if self.baseline is None else DECAY * self.baseline + (1 - DECAY) * mean
        return advantage_B


def _pairs(score_PK: Tensor, valid_PK: Tensor | None, mask_BT: Tensor) -> Credit:
    """Online DPO: the best and the worst of each group. Its loss needs no advantages, they are 0."""
    best_P, worst_P = advantages.best_and_worst(score_PK, valid_PK)
    first_P = torch.arange(len(score_PK), device=score_PK.device) * score_PK.shape[1]
    pair_P2 = torch.stack([first_P + best_P, first_P + worst_P], 1)
    equal_P = score_PK.gather(1, best_P[:, None]) == score_PK.gather(1, worst_P[:, None])
    pair_P2 = torch.where(equal_P, pair_P2[:, :1], pair_P2)
    return Credit(
        torch.zeros(mask_BT.shape, device=mask_BT.device),
        no_spread_share=float(equal_P.float().mean()),
        pair_P2=pair_P2,
    )
