"""`ninokit.timm`: what goes to timm, what to `attach`, and training with each of timm's optimizers."""

from __future__ import annotations

import copy
import importlib
import re
import sys

import pytest
import torch
from torch import nn

import ninokit
import ninokit.timm
from ninokit.errors import ArchitectureError, ConfigError, DependencyError
from ninokit.training.nowcasting import attached_to

timm = pytest.importorskip("timm")
importlib.import_module("timm.optim")

PLAN = {"period": 5, "total_steps": 20}
BATCH, LABELS = torch.linspace(-1, 1, 4 * 3 * 32 * 32).view(4, 3, 32, 32), torch.arange(4)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    second_order = getattr(optimizer, "is_second_order", False)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(BATCH), LABELS)
        loss.backward(create_graph=second_order)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_model_its_optimizer_and_nowcasting():
    training = ninokit.timm.create_model(
        "test_resnet",
        opt="lamb",
        lr=0.02,
        weight_decay=0.1,
        optimizer_settings={"layer_decay": 0.5},
        num_classes=4,
        in_chans=3,
        recalibrate_batchnorm=2,
        horizons=[1],
        **PLAN,
    )
    model, optimizer, nowcasting = training
    assert training._fields == ("model", "optimizer", "nowcasting")
    assert (type(model).__name__, model.num_classes) == ("ResNet", 4)
    expected = timm.optim.create_optimizer_v2(model, "lamb", lr=0.02, weight_decay=0.1, layer_decay=0.5)
    assert type(optimizer) is type(expected)
    assert optimizer.param_groups == expected.param_groups
    assert attached_to(optimizer) is nowcasting
    train(model, optimizer, 6)
    assert [(event.step, event.horizon, event.accepted) for event in nowcasting.events] == [(5, 1, True)]
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {None}


def test_adamw_unless_told_and_timms_own_defaults():
    model, optimizer, _ = ninokit.timm.create_model("test_vit", **PLAN)
    assert type(optimizer) is torch.optim.AdamW
    expected = timm.optim.create_optimizer_v2(model, "adamw")
    assert optimizer.param_groups == expected.param_groups


def test_the_optimizer_has_the_parameters_on_their_device():
    model, optimizer, _ = ninokit.timm.create_model("test_vit", device="meta", **PLAN)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((), {}),
        (("adamw", 1e-3, 0.05), {}),
        (("sgd",), {"lr": 0.1, "momentum": 0.5, "filter_bias_and_bn": False}),
        (("adamw",), {"lr": 1e-3, "weight_decay": 0.05, "layer_decay": 0.7, "betas": (0.8, 0.9)}),
        (("lookahead_adamw",), {"lr": 1e-3}),
    ],
)
def test_a_drop_in_for_timms_function(arguments, settings):
    model = timm.create_model("test_vit", num_classes=4)
    expected = timm.optim.create_optimizer_v2(model, *arguments, **settings)
    optimizer = ninokit.timm.create_optimizer_v2(model, *arguments, **settings, **PLAN)
    assert type(optimizer) is type(expected)
    assert optimizer.param_groups == expected.param_groups
    assert attached_to(optimizer) is not None


# What a package that timm can do without, and second derivatives, have to say.
@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum':UserWarning")
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
@pytest.mark.parametrize(
    "name",
    [*timm.optim.list_optimizers(exclude_filters=["bnb*", "fused*", "kron?"]), "lookahead_sgd", "lookahead_lamb"],
)
def test_every_optimizer(name):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6), nn.Tanh(), nn.Linear(6, 4))
    optimizer = ninokit.timm.create_optimizer_v2(model, name, lr=1e-4, **PLAN)
    train(model, optimizer, 12)
    nowcasting = attached_to(optimizer)
    assert (nowcasting.steps, nowcasting.accepted) == (12, 2)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert nowcasting.steps == 12


@pytest.mark.parametrize("opt", ["adamw", "lookahead_lamb"])
def test_layer_decay_stopped_and_resumed_goes_on_to_the_same_bits(opt):
    def start():
        torch.manual_seed(0)
        settings = {"layer_decay": 0.7, "betas": (0.8, 0.9)}
        return ninokit.timm.create_model(
            "test_resnet", opt=opt, lr=1e-3, optimizer_settings=settings, num_classes=4, recalibrate_batchnorm=3, **PLAN
        )

    whole, optimizer, _ = start()
    losses = train(whole, optimizer, 14)
    first, optimizer, _ = start()
    train(first, optimizer, 7)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    second, optimizer, nowcasting = start()
    second.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert train(second, optimizer, 7) == losses[7:]
    assert [event.step for event in nowcasting.events] == [5, 10]
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in whole.state_dict().items())


def test_parameters_need_their_network_too():
    model = timm.create_model("test_vit", num_classes=4)
    message = "model: expected the network beside its parameters, as nowcasting looks at all of it; pass model=…"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ninokit.timm.create_optimizer_v2(model.parameters(), "sgd", lr=0.1, **PLAN)
    optimizer = ninokit.timm.create_optimizer_v2(model.head.parameters(), "sgd", lr=0.1, model=model, **PLAN)
    before = model.patch_embed.proj.weight.clone()
    train(model, optimizer, 5)
    assert attached_to(optimizer).accepted == 1
    assert torch.equal(model.patch_embed.proj.weight, before)


def test_the_graph_is_asked_for_where_the_nowcaster_needs_it(monkeypatch):
    def encode(model, example_inputs, architecture):
        raise ArchitectureError(f"{type(model).__name__} {example_inputs} {architecture}")

    monkeypatch.setattr(sys.modules["ninokit.training.attach"], "encode", encode)
    wnn = ninokit.nowcasters.Wnn(hidden=8)
    with pytest.raises(ArchitectureError, match=r"^VisionTransformer inputs timm$"):
        ninokit.timm.create_model("test_vit", nowcaster=wnn, example_inputs="inputs", architecture="timm", **PLAN)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ninokit.timm.create_model("test_vit", **PLAN),
        lambda: ninokit.timm.create_optimizer_v2(nn.Linear(2, 2), **PLAN),
    ],
)
def test_without_timm_it_says_what_to_install(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(DependencyError) as caught:
        call()
    assert re.fullmatch(
        r"ninokit\.timm needs the package 'timm', which does not import here \(.+\)\. "
        r'Install it with: pip install "ninokit\[timm\]"',
        str(caught.value),
    )


def test_timms_norms_with_activation_are_recalibrated_as_all_others():
    model = timm.create_model("test_efficientnet", num_classes=4)
    norm = next(module for module in model.modules() if type(module).__name__ == "BatchNormAct2d")
    optimizer = ninokit.timm.create_optimizer_v2(model, "sgd", lr=1e-8, recalibrate_batchnorm=2, **PLAN)
    train(model, optimizer, 5)
    seen = []
    norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].mean((0, 2, 3))))
    train(model, optimizer, 2)
    torch.testing.assert_close(norm.running_mean, (seen[0] + seen[1]) / 2)
    assert norm.momentum == 0.1
