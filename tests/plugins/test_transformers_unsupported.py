"""What the tables do not describe is declined, with the parameters at fault."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from transformer_networks import huggingface, vision_transformer

from ninokit.errors import ArchitectureError, UnsupportedModelError
from ninokit_transformers.encoder import encode


def refused(model: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"^{re.escape(message)}$"):
        encode(model)


def test_model_of_another_kind():
    refused(nn.Sequential(nn.Linear(3, 2)), "neither Sequential nor a module in it is of a class in the tables")


def test_parameters_that_no_row_describes():
    model = huggingface("Llama", "ForCausalLM")
    model.scale = nn.Parameter(torch.ones(3))
    refused(model, "the table of LlamaForCausalLM leaves out scale")
    for layer in model.model.layers:
        layer.self_attn.extra = nn.Linear(2, 2)
        layer.mlp.extra = nn.Linear(2, 2, bias=False)
    names = [
        f"model.layers.0.{name}" for name in ("self_attn.extra.weight", "self_attn.extra.bias", "mlp.extra.weight")
    ]
    names += [f"model.layers.1.self_attn.extra.{name}" for name in ("weight", "bias")]
    refused(model, f"the table of LlamaForCausalLM leaves out {', '.join(['scale', *names[:4]])} and 2 more")


def test_attention_to_another_models_states():
    model = huggingface("Bert", "LMHeadModel", is_decoder=True, add_cross_attention=True, num_hidden_layers=1)
    cross = "bert.encoder.layer.0.crossattention."
    names = [f"self.{part}.{kind}" for part in ("query", "key", "value") for kind in ("weight", "bias")]
    listed = ", ".join(f"{cross}{name}" for name in names[:5])
    refused(model, f"the table of BertLMHeadModel leaves out {listed} and 5 more")


def test_users_own_head():
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = huggingface("Bert", "Model")
            self.head = nn.Linear(16, 2)

    refused(Classifier(), "the table of BertModel leaves out head.weight, head.bias")


def test_two_known_networks():
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, bias=False), nn.MultiheadAttention(4, 2, bias=False))
    refused(model, "the table of TransformerEncoderLayer leaves out 1.in_proj_weight, 1.out_proj.weight")


def test_missing_modules():
    model = huggingface("GPT2", "LMHeadModel")
    model.transformer.h[1].mlp.c_proj = nn.Identity()
    refused(model, "transformer.h.1.mlp.c_proj.weight: its table expects this parameter, but there is none")
    del model.transformer.h
    refused(model, "transformer.h: its table expects a module there, but there is none")


def test_norm_that_was_taken_out():
    model = huggingface("GPT2", "LMHeadModel")
    expected = encode(model).num_parameters
    model.transformer.ln_f = nn.Identity()
    assert encode(model).num_parameters == expected - 16


def test_layer_of_another_shape():
    model = huggingface("Bert", "ForMaskedLM")
    model.bert.encoder.layer[0].output.dense = nn.Linear(20, 12)
    name = "bert.encoder.layer.0"
    refused(
        model,
        f"residual edges {name}.attention.output.dense.stream → {name}.output.dense.stream: 12 slices do not divide 16 "
        f"neurons of '{name}.attention.output.dense.stream' and 12 of '{name}.output.dense.stream'",
    )


def test_weights_packed_by_a_quantiser():
    model = huggingface("Llama", "ForCausalLM")
    model.model.layers[0].mlp.up_proj.weight = nn.Parameter(torch.zeros(160, dtype=torch.uint8), requires_grad=False)
    refused(model, "model.layers.0.mlp.up_proj.weight: expected the axes 'out in', got shape (160,)")


def test_weight_that_is_computed():
    model = nn.TransformerEncoderLayer(4, 2, 8)
    nn.utils.parametrizations.weight_norm(model.linear1)
    refused(model, "linear1.weight is no parameter, but computed from others")


def test_layers_that_share_weights():
    model = huggingface("Llama", "ForCausalLM")
    model.model.layers[1] = model.model.layers[0]
    refused(
        model,
        "model.layers.1.input_layernorm uses model.layers.0.input_layernorm.weight again, which belongs to another row",
    )


def test_outputs_tied_to_something_else_than_the_embedding():
    model = huggingface("Llama", "ForCausalLM", tie_word_embeddings=False, vocab_size=20)
    model.lm_head.weight = model.model.layers[0].mlp.up_proj.weight
    refused(model, "lm_head uses model.layers.0.mlp.up_proj.weight again, which belongs to another row")


def test_layers_that_do_not_tell_their_heads():
    model = huggingface("GPT2", "LMHeadModel")
    model.config = object()
    refused(
        model,
        "GPT2LMHeadModel does not tell its number of heads: 'object' object has no attribute 'num_attention_heads'",
    )


def test_convolutional_stem():
    module = pytest.importorskip("torchvision.models.vision_transformer")
    stem = [module.ConvStemConfig(out_channels=4, kernel_size=3, stride=3)]
    refused(
        vision_transformer(conv_stem_configs=stem),
        "conv_proj.weight: its table expects this parameter, but there is none",
    )


def test_unknown_models_of_a_known_library():
    transformers = pytest.importorskip("transformers")
    config = transformers.BloomConfig(hidden_size=8, n_layer=1, n_head=2, vocab_size=11)
    refused(transformers.BloomModel(config), "neither BloomModel nor a module in it is of a class in the tables")


def test_ninokit_says_why(monkeypatch):
    import ninokit
    from ninokit_transformers import ninokit_architectures

    known = {family.name: family for family in ninokit_architectures()}
    monkeypatch.setattr("ninokit.encoding.architectures", lambda: known)
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8), nn.Linear(4, 2, bias=False))
    with pytest.raises(ArchitectureError) as caught:
        ninokit.encode(model)
    assert "\n  transformers: the table of TransformerEncoderLayer leaves out 1.weight\n" in str(caught.value)
    assert ninokit.encode(nn.DataParallel(model[0])).num_parameters == sum(p.numel() for p in model[0].parameters())
