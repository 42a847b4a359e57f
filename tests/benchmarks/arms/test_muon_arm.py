"""Muon: which weights it gets, and that it trains."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ninokit.benchmarks.arms import UnsuitedArmError, find_arm
from ninokit.benchmarks.arms.hidden_matrices import hidden_matrices
from ninokit.benchmarks.tasks.transformers import gpt2, vision_transformer
from ninokit.errors import DependencyError


def small_gpt2():
    return gpt2("test", vocabulary=11, length=8, width=8, layers=2, heads=2)


def small_cnn():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class Untied(nn.Module):
    """A language model with an output layer of its own, and a linear layer that an embedding shares."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(9, 4)
        self.shared = nn.Linear(4, 9, bias=False)
        self.shared.weight = self.tokens.weight
        self.body = nn.Linear(9, 4)
        self.head = nn.Linear(4, 9)


class Masks(nn.Module):
    """Its outputs come from a convolution."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(4, 4)
        self.head = nn.Conv2d(4, 1, 1)


def test_matrices_of_a_gpt2_are_those_of_its_blocks():
    model = small_gpt2()
    assert model.network.lm_head.weight is model.network.transformer.wte.weight
    assert list(hidden_matrices(model)) == [
        f"network.transformer.h.{block}.{layer}.weight"
        for block in (0, 1)
        for layer in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]


def test_matrices_of_a_vision_transformer_are_those_of_its_blocks():
    model = vision_transformer("test", side=8, patch=4, width=8, layers=1, heads=2)
    block = "encoder.layers.encoder_layer_0"
    assert list(hidden_matrices(model)) == [
        f"{block}.self_attention.in_proj_weight",
        f"{block}.self_attention.out_proj.weight",
        f"{block}.mlp.0.weight",
        f"{block}.mlp.3.weight",
    ]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.Linear(4, 2)), ["0.weight", "2.weight"]),
        (lambda: nn.Sequential(small_cnn(), nn.ReLU(), nn.Linear(3, 3)), ["0.4.weight"]),
        (small_cnn, []),
        (Untied, ["body.weight"]),
        (Masks, ["scale.weight"]),
        (lambda: nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)), []),
        (lambda: nn.Linear(3, 3), []),
        (
            lambda: nn.Sequential(nn.MultiheadAttention(4, 2, kdim=3, vdim=5), nn.Linear(4, 2)),
            [f"0.{name}" for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight")],
        ),
        (lambda: nn.Conv1d(3, 3, 1), []),
    ],
)
def test_hidden_matrices_by_name(make, expected):
    assert list(hidden_matrices(make())) == expected


def test_frozen_matrices_are_left_out(network):
    network[0].weight.requires_grad_(requires_grad=False)
    assert list(hidden_matrices(network)) == ["3.weight"]


def test_both_optimizers_together_train_every_parameter_once(recipe):
    model = small_gpt2()
    trainer = find_arm("muon").begin(model, recipe)
    muon, adamw = trainer.optimizers
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    mine, others = ([p for group in o.param_groups for p in group["params"]] for o in (muon, adamw))
    assert {id(p) for p in mine} == {id(p) for p in hidden_matrices(model).values()}
    assert {id(p) for p in mine}.isdisjoint(id(p) for p in others)
    assert len(mine) + len(others) == len(list(model.parameters()))
    assert {group["lr"] for group in adamw.param_groups} == {0.01}
    assert {(group["momentum"], group["nesterov"]) for group in muon.param_groups} == {(0.95, True)}
    trainer.close()


def test_where_all_that_is_trained_is_hidden_matrices_muon_is_alone(network, recipe, steps_of):
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in {"0.weight", "3.weight"})
    trainer = find_arm("muon").begin(network, recipe)
    assert [type(optimizer) for optimizer in trainer.optimizers] == [torch.optim.Muon]
    steps_of(network, trainer, 2)
    trainer.close()


@pytest.mark.parametrize(("option", "rate"), [(None, 0.02), (0.08, 0.08)])
def test_the_option_is_muons_rate(network, recipe, option, rate):
    trainer = find_arm("muon").begin(network, replace(recipe, lr=0.003, option=option))
    muon, adamw = trainer.optimizers
    assert (muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == (rate, 0.003)
    trainer.close()


def test_muon_trains(network, recipe, steps_of):
    trainer = find_arm("muon").begin(network, recipe)
    losses = steps_of(network, trainer, 40)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    trainer.close()


def test_steps_of_muon_are_orthogonal_in_their_scale(recipe):
    """The first step's singular values are near the rate, whatever the gradient's are; without decay."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 2))
    trainer = find_arm("muon").begin(model, replace(recipe, weight_decay=0.0))
    before = model[0].weight.detach().clone()
    model[0].weight.grad = torch.randn(6, 4) * torch.tensor([1.0, 3.0, 10.0, 30.0])
    trainer.step()
    sizes = torch.linalg.svdvals(before - model[0].weight.detach()) / (0.02 * (6 / 4) ** 0.5)
    assert 0.6 < sizes.min() < sizes.max() < 1.3
    trainer.close()


def test_a_matrix_is_trained_the_same_whichever_way_round_it_is_kept(recipe):
    """The gradients of the two are each other's transposes; Newton-Schulz rounds to bfloat16."""
    for sizes in ((4, 6), (6, 4)):
        linear = nn.Sequential(nn.Linear(*sizes, bias=False), nn.Linear(sizes[1], 2))
        turned = nn.Sequential(Conv1D(sizes[1], sizes[0]), nn.Linear(sizes[1], 2))
        start = linear[0].weight.detach().clone()
        turned[0].weight.data.copy_(start.T)
        gradient = torch.randn_like(start)
        for model, own in ((linear, gradient), (turned, gradient.T)):
            model[0].weight.grad = own.clone()
            trainer = find_arm("muon").begin(model, replace(recipe, weight_decay=5.0))
            trainer.step()
            trainer.close()
        step = linear[0].weight.detach() - start
        torch.testing.assert_close(turned[0].weight.detach().T - start, step, rtol=0, atol=0.01 * float(step.norm()))


def test_network_without_a_hidden_matrix(recipe):
    message = (
        "arm 'muon': Sequential has no hidden matrix, as linear layers before the output have them, so that Muon would "
        "train nothing. Leave the arm out here"
    )
    with pytest.raises(UnsuitedArmError, match=f"^{re.escape(message)}$") as caught:
        find_arm("muon").begin(small_cnn(), recipe)
    assert caught.value.reason == "no hidden matrix"


def test_torch_without_muon(network, recipe, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    message = (
        f"arm 'muon' needs torch.optim.Muon, which PyTorch has from 2.9 on; this is {torch.__version__}. Install a "
        "newer one with: pip install --upgrade torch"
    )
    with pytest.raises(DependencyError, match=f"^{re.escape(message)}$"):
        find_arm("muon").begin(network, recipe)
