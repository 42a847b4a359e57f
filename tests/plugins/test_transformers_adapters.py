"""Transformers with LoRA adapters: in PEFT's wrappers, and in modules of the same make without PEFT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformer_networks import huggingface, one_text, text, vision_transformer

from ninokit.graph import EdgeKind, NeuralGraph
from ninokit.testing import check_encoding
from ninokit_transformers.encoder import encode


class Lora(nn.Module):
    """A linear layer and what is added to it, under PEFT's names."""

    def __init__(self, layer: nn.Linear, rank: int, *adapters: str) -> None:
        super().__init__()
        self.base_layer = layer
        down, up = (
            {name: nn.Linear(*size, bias=False) for name in adapters}
            for size in ((layer.in_features, rank), (rank, layer.out_features))
        )
        self.lora_A, self.lora_B = nn.ModuleDict(down), nn.ModuleDict(up)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + sum(self.lora_B[name](self.lora_A[name](x)) for name in self.lora_A)


class Trained(nn.Module):
    """A module that a copy stands in for, under PEFT's names."""

    def __init__(self, module: nn.Module, copy: nn.Module) -> None:
        super().__init__()
        self.original_module, self.modules_to_save = module, nn.ModuleDict({"default": copy})

    def forward(self, x: Tensor) -> Tensor:
        return self.modules_to_save["default"](x)


def ends(graph: NeuralGraph, prefix: str) -> list[tuple]:
    return [
        (
            b.parameter.removeprefix(prefix),
            b.kind.name,
            b.src.name.removeprefix(prefix),
            b.dst.name.removeprefix(prefix),
        )
        for b in graph.edges
        if b.parameter and b.parameter.startswith(prefix)
    ]


def test_rank_neurons_stand_between_inputs_and_outputs():
    model = huggingface("Llama", "ForCausalLM")
    attention = model.model.layers[0].self_attn
    for name in ("q_proj", "k_proj", "o_proj"):
        setattr(attention, name, Lora(getattr(attention, name), 3, "default"))
    model.model.layers[0].mlp.up_proj = Lora(model.model.layers[0].mlp.up_proj, 2, "first", "second")
    graph = encode(model)
    prefix, stream = "model.layers.0.", "model.embed_tokens.stream"
    assert ends(graph, f"{prefix}self_attn.k_proj") == [
        (".base_layer.weight", "KEY", ".key", stream),
        (".lora_A.default.weight", "LINEAR", stream, ".default.rank"),
        (".lora_B.default.weight", "LINEAR", ".default.rank", ".key"),
    ]
    (down,) = graph.blocks[f"{prefix}self_attn.o_proj.lora_A.default.weight"]
    assert (down.src.name, down.groups, down.shared, down.num_taps) == (f"{prefix}self_attn.v_proj.value", 2, "dst", 2)
    ranks = {group.name: group.size for group in graph.neurons if group.name.startswith(f"{prefix}mlp.up_proj")}
    assert ranks == {f"{prefix}mlp.up_proj.first.rank": 2, f"{prefix}mlp.up_proj.second.rank": 2}
    check_encoding(model, text(), graph, min_share=0.98)


def test_ranks_are_checked():
    """An adapter of the key that leads to the value is found out by its rank's edges alone."""
    model = huggingface("Bert", "ForMaskedLM", num_hidden_layers=1)
    attention = model.bert.encoder.layer[0].attention.self
    attention.query = Lora(attention.query, 3, "default")
    report = check_encoding(model, text(), encode(model))
    assert not any("lora" in name for name in report.silent)


def test_trained_copy_of_a_head():
    model = huggingface("Bert", "ForSequenceClassification")
    model.classifier = Trained(model.classifier, nn.Linear(16, 2))
    graph = encode(model)
    assert {b.dst.name for b in graph.edges if b.kind is EdgeKind.LINEAR and "classifier" in b.parameter} == {
        "classifier.outputs"
    }
    report = check_encoding(model, one_text(), graph, min_share=0.98)
    assert {name for name in report.silent if "classifier" in name} == {
        "classifier.original_module.weight",
        "classifier.original_module.bias",
    }


def adapted(model: nn.Module, **settings: Any) -> nn.Module:
    peft = pytest.importorskip("peft")
    adapter = peft.get_peft_model(model, peft.LoraConfig(r=3, **settings))
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "lora" in name:
                parameter.normal_()
    return adapter


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PEFT = {
    "every linear layer and the embedding": ("Llama", "ForCausalLM", {"target_modules": [*LINEAR, "embed_tokens"]}),
    "magnitudes": ("Llama", "ForCausalLM", {"target_modules": LINEAR, "use_dora": True}),
    "fused": ("GPT2", "LMHeadModel", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "fused, grouped": ("Phi3", "ForCausalLM", {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]}),
    "biases": ("Bert", "ForMaskedLM", {"target_modules": ["query", "key", "value"], "lora_bias": True}),
    "copy of the head": ("Llama", "ForTokenClassification", {"target_modules": ["q_proj"], "task_type": "TOKEN_CLS"}),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # between releases of PEFT and transformers
@pytest.mark.parametrize("name", PEFT)
def test_peft(name):
    family, kind, settings = PEFT[name]
    model = adapted(huggingface(family, kind), **settings)
    graph = encode(model)
    assert all(name.startswith("base_model.model.") for name in graph.parameters)
    assert any("lora_A" in name for name in graph.parameters)
    check_encoding(model, text(), graph, min_share=0.98)


def test_peft_on_convolutions():
    model = adapted(vision_transformer(), target_modules=["conv_proj", "mlp.0"])
    check_encoding(model, torch.randn(2, 3, 9, 9), encode(model), min_share=0.97)


def test_peft_on_attention_that_several_rows_describe():
    """Encoded alone: PEFT puts other parameters in these places at every call, so they can't be permuted."""
    model = adapted(nn.TransformerEncoderLayer(8, 2, 12), target_modules=["self_attn"])
    graph = encode(model)
    prefix = "base_model.model.self_attn."
    kinds = {b.kind for b in graph.blocks[f"{prefix}base_layer.in_proj_weight"]}
    assert kinds == {EdgeKind.QUERY, EdgeKind.KEY, EdgeKind.VALUE}
    assert [b.dst.name for b in graph.blocks[f"{prefix}lora_B.default.weight"]] == [
        f"{prefix}{place}" for place in ("query", "query", "value")
    ]
    assert len(graph.blocks[f"{prefix}lora_A.default.weight"]) == 1
