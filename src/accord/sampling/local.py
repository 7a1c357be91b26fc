"""A decode loop over the transformers model classes, with a static key-value cache.

Prompts are prefilled packed and once each, however many samples they get. Finished sequences leave the batch.
The log-probability of each token comes with it. Sampling is plain unless top-p or top-k are configured.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from accord.attention import PackedPlan, Segment
from accord.batches import Group, Rollouts, Tokens
from accord.config import Sampling
from accord.products import product
from accord.records import BadInput
from accord.sampling.lean_step import LeanStep, fits
from accord.streams import generator
from accord.towers import base_of, head_of

logger = logging.getLogger("accord")
BLOCK = 256  # columns whose probabilities are summed first: √V balances the two searches


def inverse_cdf(logits_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """Sample by inverting the cumulative distribution in two levels; returns (token_B, logp_B).

    First the block of 256 tokens is found among the block sums, then the token inside it: one pass over the
    vocabulary in place of a sort or a full cumulative sum.
    """
    rows, width = logits_BV.shape
    highest = logits_BV.amax(1, keepdim=True)
    weight = (logits_BV - highest).exp_()
    if width % BLOCK:
        weight = torch.nn.functional.pad(weight, (0, BLOCK - width % BLOCK))
    blocks = weight.view(rows, -1, BLOCK)
    sums = blocks.sum(-1).double()
    cumulative = sums.cumsum(1)
    total = cumulative[:, -1]
    point = (uniform_B.to(total) * total)[:, None]
    block = torch.searchsorted(cumulative, point, right=True).clamp_(max=sums.shape[1] - 1)
    inside = blocks.gather(1, block[:, :, None].expand(-1, 1, BLOCK))[:, 0].double()
    rest = point - (cumulative.gather(1, block) - sums.gather(1, block))
    offset = torch.searchsorted(inside.cumsum(1), rest, right=True).clamp_(max=BLOCK - 1)
    # Rounding can step past the last possible token of a block: then take its likeliest one.
    picked = inside.gather(1, offset)
    offset = torch.where(picked > 0, offset, inside.argmax(1, keepdim=True))
    token_B = (block * BLOCK + offset)[:, 0]
    logp_B = inside.gather(1, offset)[:, 0].log() - total.log()
    return token_B, logp_B.float()


def truncate(logits_BV: Tensor, top_p: float, top_k: int) -> Tensor:
    """Top-k and nucleus truncation (Holtzman et al. 2020): other tokens get −inf."""
    if top_k and top_k < logits_BV.shape[1]:
        least = logits_BV.topk(top_k, dim=1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least, float("-inf"))
    if top_p < 1:
        ordered, index = logits_BV.sort(dim=1, descending=True)
        before = ordered.softmax(1).cumsum(1) - ordered.softmax(1)
        ordered = ordered.masked_fill(before >= top_p, float("-inf"))
        logits_BV = torch.empty_like(logits_BV).scatter_(1, index, ordered)
    return logits_BV


class _Prefill:
    """Packed attention that also hands keys and values to the cache."""

    def __init__(self, plan: PackedPlan, cache: _Cache, index: Tensor, rows: Tensor, columns: Tensor) -> None:
        self.plan, self.cache = plan, cache
        self.index, self.rows, self.columns = index, rows, columns

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        self.cache.write(layer, self.rows, self.columns, key[0][:, self.index], value[0][:, self.index])
        return self.plan.attend(layer, query, key, value, scaling)


class _Cache:
    """Keys and values (B, key heads, slots, D) of each layer; row i fills its first length_i slots.

    Attention on a CPU goes over all slots, since a whole block needs no copy; so there are at most ``SLOTS``
    more of them than tokens, and the cache grows.
    """

    SLOTS = 64

    def __init__(self, layers: int, rows: int, heads: int, prompt: int, width: int, like: Tensor) -> None:
        shape = (layers, rows, heads, prompt + self.SLOTS, width)
        self.key = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.value = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.rows = torch.arange(rows, device=like.device)
        self.mask_BS = torch.full((rows, shape[3]), float("-inf"), dtype=like.dtype, device=like.device)
        self.length_B = torch.zeros(rows, dtype=torch.long, device=like.device)
        self.active = rows
        self.longest = 0

    def write(self, layer: int, rows: Tensor, columns: Tensor, key_HND: Tensor, value_HND: Tensor) -> None:
        self.key[layer][rows, :, columns] = key_HND.transpose(0, 1)
        self.value[layer][rows, :, columns] = value_HND.transpose(0, 1)

    def advance(self, longest: int) -> None:
        """Make room for one token a row: the mask opens at each row's own next slot."""
        n = self.active
        if longest > self.key.shape[3]:
            pad = functional.pad
            self.key, self.value = (pad(part, (0, 0, 0, self.SLOTS)) for part in (self.key, self.value))
            self.mask_BS = pad(self.mask_BS, (0, self.SLOTS), value=float("-inf"))
        self.mask_BS[self.rows[:n], self.length_B[:n]] = 0
        self.longest = longest

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """One new token a row, from a model's own modules: (1, heads, B, D) as if the batch were a stream."""
        rows = [part[0].transpose(0, 1) for part in (query, key, value)]
        out = self.attend_one(layer, rows[0], rows[1], rows[2], scaling)
        return out.view(1, len(out), query.shape[1], query.shape[3])

    def attend_one(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """One new token a row: query (B, heads, D), key and value (B, key heads, D) → (B, heads · D)."""
        n, heads, width = query.shape
        key_heads, stop = key.shape[1], self.longest
        self.key[layer][self.rows[:n], :, self.length_B[:n]] = key
        self.value[layer][self.rows[:n], :, self.length_B[:n]] = value
        # The queries of one key head stand in for a sequence, so that keys are neither copied nor repeated.
        queries = query.reshape(n, key_heads, heads // key_heads, width)
        keys, values = self.key[layer][:n], self.value[layer][:n]
        if query.device.type == "cpu":
            mask_B1S = self.mask_BS[:n, None]
            scores = torch.bmm(queries.flatten(0, 1) * scaling, keys.flatten(0, 1).transpose(1, 2))
            weights = torch.softmax(scores.view(n, heads, -1) + mask_B1S, dim=-1)
            out = torch.bmm(weights.view(n * key_heads, heads // key_heads, -1), values.flatten(0, 1))
            return out.view(n, heads * width)
        out = functional.scaled_dot_product_attention(
            queries,
            keys[:, :, :stop],
            values[:, :, :stop],
            attn_mask=self.mask_BS[:n, None, None, :stop],
            scale=scaling,
        )
        return out.reshape(n, heads * width)

    def compact(self, keep: list[int]) -> list[int]:
        """Keep the given rows: the last ones move into the gaps. Returns which old row each new row holds."""
        count = len(keep)
        order = list(range(count))
        kept = set(keep)
        movers = [row for row in keep if row >= count]
        for gap in range(count):
            if gap not in kept:
                order[gap] = movers.pop()
        target = [row for row in range(count) if order[row] != row]
        if target:
            source = [order[row] for row in target]
            self.key[:, target] = self.key[:, source]
            self.value[:, target] = self.value[:, source]
            self.mask_BS[target] = self.mask_BS[source]
            self.length_B[target] = self.length_B[source]
        self.active = count
        return order


class LocalSampler:
    """Samples from the model that is being trained, in this process: its weights are always the newest."""

    def __init__(self, model: Any, ends: frozenset[int]) -> None:
        self.model, self.ends = model, ends
        self.version = 0

    def sample(self, prompts: Sequence[Tokens], k: int, sampling: Sampling, seed: int) -> Rollouts:
        """k responses to each prompt, of at most ``max_new_tokens`` tokens with the end token.

        Raises:
            BadInput: a prompt that leaves no room in the model's context.
        """
        context = self.model.config.max_position_embeddings
        longest = max(len(prompt) for prompt in prompts)
        if longest + sampling.max_new_tokens > context:
            raise BadInput(
                f"a prompt of {longest} tokens and {sampling.max_new_tokens} new ones exceed the model's"
                f" context of {context}: lower data.max_prompt_tokens or max_new_tokens"
            )
        if sampling.top_p < 1 or sampling.top_k:
            logger.warning(
                "top-p or top-k is set: log-probabilities are of the truncated distribution, ratios biased"
            )
        total = len(prompts) * k
        uniform = torch.rand(total, sampling.max_new_tokens, generator=generator(seed), dtype=torch.float64)
        tokens: list[list[int]] = [[] for _ in range(total)]
        logps: list[list[float]] = [[] for _ in range(total)]
        batch = max(k, sampling.batch_size // k * k)
        with torch.no_grad():
            for start in range(0, total, batch):
                stop = min(start + batch, total)
                chosen = prompts[start // k : stop // k]
                self._run(chosen, k, sampling, uniform[start:stop], tokens[start:stop], logps[start:stop])
        width = max(map(len, tokens))
        logp_BT = torch.zeros(total, width)
        for row, values in enumerate(logps):
            logp_BT[row, : len(values)] = torch.tensor(values)
        groups = tuple(
            Group(tuple(prompt), tuple(tuple(r) for r in tokens[i * k : (i + 1) * k]))
            for i, prompt in enumerate(prompts)
        )
        finished_B = torch.tensor([row[-1] in self.ends for row in tokens])
        return Rollouts(groups, logp_BT, finished_B, self.version)

    def _run(
        self,
        prompts: Sequence[Tokens],
        k: int,
        sampling: Sampling,
        uniform_BT: Tensor,
        tokens: list[list[int]],
        logps: list[list[float]],
    ) -> None:
        base, head = base_of(self.model), head_of(self.model)
        head_product = product(head, None, len(prompts) * k)
        lean = LeanStep(base, len(prompts) * k) if fits(base) else None
        config = self.model.config
        heads = config.num_key_value_heads or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        longest = max(map(len, prompts))
        cache = _Cache(len(base.layers), len(prompts) * k, heads, longest, width, head)
        hidden_BH = self._prefill(base, prompts, k, cache)
        rows = list(range(len(prompts) * k))  # row of the cache → sequence
        uniform_TB = uniform_BT.to(head.device).t()
        sequence_B = torch.tensor(rows, device=head.device)
        alive = set(rows)
        for step in range(sampling.max_new_tokens):
            logits_BV = head_product(hidden_BH).float()
            if sampling.temperature != 1:
                logits_BV /= sampling.temperature
            if sampling.top_p < 1 or sampling.top_k:
                logits_BV = truncate(logits_BV, sampling.top_p, sampling.top_k)
            token_B, logp_B = inverse_cdf(logits_BV, uniform_TB[step][sequence_B])
            for row, token, logp in zip(rows, token_B.tolist(), logp_B.tolist(), strict=True):
                if row in alive:
                    tokens[row].append(token)
                    logps[row].append(logp)
                    if token in self.ends:
                        alive.discard(row)
            if not alive or step + 1 == sampling.max_new_tokens:
                return
            if len(alive) <= 0.85 * len(rows):
                order = cache.compact([i for i, row in enumerate(rows) if row in alive])
                rows = [rows[i] for i in order]
                sequence_B, token_B = sequence_B[order], token_B[order]
            n = cache.active
            cache.advance(longest + step + 1)
            if lean is not None:
                hidden_BH = lean(token_B[:n], cache.length_B[:n], cache)
            else:
                out = base(
                    input_ids=token_B[None, :n],
                    position_ids=cache.length_B[None, :n],
                    attention_plan=cache,
                    use_cache=False,
                )
                hidden_BH = out.last_hidden_state[0]
            cache.length_B[:n] += 1

    @staticmethod
    def _prefill(base: Any, prompts: Sequence[Tokens], k: int, cache: _Cache) -> Tensor:
        """Run the prompts packed, fill the cache for each of their k rows, return the last hidden states (B,
        H).
        """
        device = cache.key.device
        segments: list[Segment] = []
        index: list[int] = []
        rows: list[int] = []
        columns: list[int] = []
        position: list[int] = []
        start = 0
        for p, prompt in enumerate(prompts):
            segments.append(Segment(start, start + len(prompt)))
            position += range(len(prompt))
            for row in range(p * k, (p + 1) * k):
                index += range(start, start + len(prompt))
                rows += [row] * len(prompt)
                columns += range(len(prompt))
            start += len(prompt)
        plan = _Prefill(
            PackedPlan(segments, device),
            cache,
            torch.tensor(index, device=device),
            torch.tensor(rows, device=device),
            torch.tensor(columns, device=device),
        )
        stream = torch.tensor([token for prompt in prompts for token in prompt], device=device)
        out = base(
            input_ids=stream[None],
            position_ids=torch.tensor(position, device=device)[None],
            attention_plan=plan,
            use_cache=False,
        )
        cache.mask_BS[rows, columns] = 0
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device).repeat_interleave(k)
        cache.length_B[: len(lengths)] = lengths
        last = (torch.cumsum(torch.tensor([len(p) for p in prompts]), 0) - 1).to(device)
        hidden_BH: Tensor = out.last_hidden_state[0][last].repeat_interleave(k, 0)
        return hidden_BH
