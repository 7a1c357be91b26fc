"""The mean of checkpoints by hand, and that transformers loads it."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from accord.policy_average import average_policies
from accord.records import BadInput


def moved(folder, tiny_folder, name, amount):
    target = folder / name
    shutil.copytree(tiny_folder, target)
    values = load_file(target / "model.safetensors")
    key = "model.layers.0.mlp.up_proj.weight"
    save_file(values | {key: values[key] + amount}, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_the_mean_and_a_weighted_mean(tiny_folder, tmp_path):
    key = "model.layers.0.mlp.up_proj.weight"
    first, second = moved(tmp_path, tiny_folder, "a", 1.0), moved(tmp_path, tiny_folder, "b", 4.0)
    start = load_file(tiny_folder / "model.safetensors")
    average_policies([first, second], tmp_path / "mean")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "mean").state_dict()
    assert torch.allclose(found[key], start[key] + 2.5, atol=1e-6)
    other = "model.layers.1.mlp.up_proj.weight"
    assert torch.allclose(found[other], start[other], atol=1e-7)
    average_policies([first, second], tmp_path / "weighted", [3, 1])
    weighted = load_file(tmp_path / "weighted" / "model.safetensors")[key]
    assert torch.allclose(weighted, start[key] + 1.75, atol=1e-6)
    assert (tmp_path / "mean" / "tokenizer.json").is_file()


def test_what_cannot_be_averaged_is_refused(tiny_folder, tmp_path):
    first, second = moved(tmp_path, tiny_folder, "a", 1.0), moved(tmp_path, tiny_folder, "b", 4.0)
    with pytest.raises(BadInput, match="needs 2 policies or more"):
        average_policies([first], tmp_path / "out")
    with pytest.raises(BadInput, match=r"the weights \[1\.0, -1\.0\]: one for each, 0 or more"):
        average_policies([first, second], tmp_path / "out", [1.0, -1.0])
    with pytest.raises(BadInput, match="there is no checkpoint at"):
        average_policies([first, tmp_path / "none"], tmp_path / "out")
    values = load_file(second / "model.safetensors")
    key = "model.layers.0.mlp.up_proj.weight"
    save_file(values | {key: torch.zeros(2)}, second / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match="average policies of one SFT model"):
        average_policies([first, second], tmp_path / "out")
    assert not (tmp_path / "out").exists()
