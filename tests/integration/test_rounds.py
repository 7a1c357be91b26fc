"""What rounds start from, what they ask about, and that it is written down."""

from __future__ import annotations

import json

import torch
from transformers import AutoModelForCausalLM

from accord import config, models, online, pipeline
from accord.config import Run
from accord.streams import generator


def read(path):
    return json.loads(path.read_text())


def test_rounds_go_on_from_the_last_and_ask_by_a_strategy(settings, tmp_path):
    settings["rounds"] = 2
    settings["collect"] |= {"strategy": "information_gain", "pairs": 40, "members": 3}
    settings["between_rounds"] = {"policy_from": "previous", "reward_from": "previous"}
    mine = tmp_path / "mine.py"
    mine.write_text("def short(prompts, texts):\n    return [-len(text) / 100 for text in texts]\n")
    # SFT's samples of a later round are drawn without what a training is paid besides
    settings["online"] |= {
        "rewards": [{"path": f"{mine}:short", "weight": 0.1}],
        "constraint": {"path": f"{mine}:short", "threshold": -1},
    }
    run, out = config.validate(Run, settings), tmp_path / "run"
    pipeline.run(run, out, quiet=True)
    first, second = (read(out / f"round-{r}/lineage.json") for r in (0, 1))
    assert (first["reward_from"], first["policy_from"]) == ("sft", "sft")
    assert (second["reward_from"], second["policy_from"]) == ("round-0", "round-0")
    assert first["chosen_by"] == "random, because there are no labels to choose by yet"
    assert second["chosen_by"] == "information_gain"
    assert second["sampled_from"] == "round-0"
    assert set(second["labels"]["train"]["by_policy"]) == {"sft", "round-0"}
    lines = [json.loads(line) for line in (out / "round-1/labels.jsonl").read_text().splitlines()]
    card = read(out / "round-1/reward/accord_reward.json")
    assert sum(line["side"] == "test" for line in lines) >= card["pairs_test"]
    # SFT stays what everything is compared with: its KL is 0, and the round's policy starts beyond it.
    curve = read(out / "round-1/curve.json")["points"]
    assert abs(curve[0]["kl"]) < 1e-5
    sft, start, end = (
        AutoModelForCausalLM.from_pretrained(out / name).state_dict()["model.layers.3.mlp.up_proj.weight"]
        for name in ("sft", "round-0/policy", "round-1/policy")
    )
    steps = settings["online"]["steps"]
    # Adam moves a weight by about its rate a step at most, so that from SFT two rounds' way is out of reach.
    assert float((end - start).abs().max()) < 1.2e-3 * steps
    assert float((end - sft).abs().max()) > float((end - start).abs().max())
    cached = read(out / "accord.lock.json")
    pipeline.run(run, out, quiet=True)
    assert all(stage["cached"] for stage in read(out / "accord.lock.json")["stages"])
    assert len(cached["stages"]) == 9
    assert "information_gain" in (out / "report.html").read_text()


def test_the_kl_is_to_the_given_reference(tiny_folder, tokenizer, prompts, plain):
    """A policy that starts elsewhere: its KL to SFT against two plain forwards."""
    policy = models.load_policy(tiny_folder, torch.float32)
    with torch.no_grad():
        for parameter in policy.model.layers[3].parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(0, "moved")))
    moved = {name: value.clone() for name, value in policy.state_dict().items()}
    settings = config.Online(
        algorithm="rloo", weights={"train": "top", "top_layers": 2}, sampling={"max_new_tokens": 6}
    )
    trainer = online.OnlineTrainer(
        policy, tokenizer, type("S", (), {"score": lambda self, p, r: [0.0] * len(r)})(), settings,
        reference=models.load_policy(tiny_folder, torch.float32),
    )  # fmt: skip
    other = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    other.load_state_dict(moved)
    for row, prompt in zip(trainer.evaluate(prompts, 1, 0), prompts, strict=True):
        asked = models.encode_prompt(tokenizer, prompt)
        ids = torch.tensor([[*asked, *row["ids"]]])
        with torch.no_grad():
            logp = [
                model(ids)
                .logits[0, len(asked) - 1 : -1]
                .log_softmax(-1)
                .gather(1, ids[0, len(asked) :, None])
                for model in (other, plain)
            ]
        assert abs(row["kl"] - float((logp[0] - logp[1]).sum())) < 1e-3
        assert abs(row["kl"]) > 1e-3
