"""Every family: its graph covers all parameters, and its neurons are interchangeable as the graph says."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformer_networks import (
    Answers,
    huggingface,
    images,
    one_text,
    text,
    translation,
    vision_transformer,
)

from ninokit.testing import check_encoding, conformance_checks
from ninokit_transformers import ninokit_architectures
from ninokit_transformers.encoder import encode, matches

(FAMILY,) = ninokit_architectures()

# With an output layer nothing but rows of tables, outputs and the order inside a rotated head is fixed.
WITH_OUTPUTS = [
    *[("GPT2", kind, text) for kind in ("LMHeadModel", "ForTokenClassification", "ForQuestionAnswering")],
    ("GPT2", "ForSequenceClassification", one_text),
    *[("Bert", kind, text) for kind in ("ForMaskedLM", "ForPreTraining", "ForTokenClassification")],
    *[("Bert", kind, text) for kind in ("ForNextSentencePrediction", "ForQuestionAnswering")],
    ("Bert", "ForSequenceClassification", one_text),
    ("Bert", "ForMultipleChoice", lambda: {"input_ids": one_text()["input_ids"][None]}),
    *[("Roberta", kind, text) for kind in ("ForMaskedLM", "ForCausalLM", "ForSequenceClassification")],
    ("ViT", "ForImageClassification", images),
    *[("Llama", kind, text) for kind in ("ForCausalLM", "ForTokenClassification", "ForQuestionAnswering")],
    ("Llama", "ForSequenceClassification", one_text),
    *[(family, "ForCausalLM", text) for family in ("Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3")],
    *[(family, "ForCausalLM", text) for family in ("Phi", "Phi3", "Mixtral")],
    ("Qwen3", "ForQuestionAnswering", text),
]


@pytest.mark.parametrize(
    ("family", "kind", "inputs"), WITH_OUTPUTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_networks_with_an_output_layer(family, kind, inputs):
    model = huggingface(family, kind)
    graph = encode(model)
    assert graph.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    check_encoding(model, inputs(), graph, min_share=0.98)


VARIANTS = {
    "GPT2 untied": ("GPT2", "LMHeadModel", {"tie_word_embeddings": False}),
    "BERT untied": ("Bert", "ForMaskedLM", {"tie_word_embeddings": False}),
    "Llama tied": ("Llama", "ForCausalLM", {"tie_word_embeddings": True}),
    "Llama with biases": ("Llama", "ForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "Llama with as many keys as queries": ("Llama", "ForCausalLM", {"num_key_value_heads": 4}),
    "Llama with one key": ("Llama", "ForCausalLM", {"num_key_value_heads": 1}),
    "Llama with wide heads": ("Llama", "ForCausalLM", {"head_dim": 10}),
    "Qwen3 with as many keys as queries": ("Qwen3", "ForCausalLM", {"num_key_value_heads": 4}),
    "Phi with norms of the heads": ("Phi", "ForCausalLM", {"qk_layernorm": True, "num_key_value_heads": 4}),
    "Phi3 with as many keys as queries": ("Phi3", "ForCausalLM", {"num_key_value_heads": 4}),
    "Mixtral with one expert": ("Mixtral", "ForCausalLM", {"num_local_experts": 1, "num_experts_per_tok": 1}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_settings(name):
    family, kind, settings = VARIANTS[name]
    model = huggingface(family, kind, **settings)
    check_encoding(model, text(), encode(model), min_share=0.97)


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
@pytest.mark.parametrize("kind", ["ForConditionalGeneration", "ForQuestionAnswering"])
def test_t5(kind, feed_forward):
    model = Answers(huggingface("T5", kind, feed_forward_proj=feed_forward))  # not the encoder's states beside
    check_encoding(model, translation(), encode(model), min_share=0.99)


def test_t5_encoder_alone():
    model = huggingface("T5", "ForTokenClassification")
    check_encoding(model, text(), encode(model), min_share=0.99)


# What returns the residual stream fixes its order: embeddings and norms, whose other side is fixed too, can't move.
RETURNING_THE_STREAM = [
    *[(family, "Model", text, 0.7) for family in ("GPT2", "Bert", "Roberta")],
    *[(family, "Model", text, 0.85) for family in ("Llama", "Qwen3", "Gemma2", "Phi", "Mixtral")],
    ("Gemma3", "TextModel", text, 0.85),
    ("ViT", "Model", images, 0.6),
    ("T5", "Model", translation, 0.9),
    ("T5", "EncoderModel", text, 0.85),
]


@pytest.mark.parametrize(
    ("family", "kind", "inputs", "share"),
    RETURNING_THE_STREAM,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_without_an_output_layer(family, kind, inputs, share):
    model = huggingface(family, kind)
    graph = encode(model)
    check_encoding(model, inputs(), graph, min_share=share)
    streams = [group for group in graph.neurons if group.name.endswith("stream")]
    assert streams
    assert all(group.rigid == group.size for group in streams)


def attention(**settings) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    model = nn.MultiheadAttention(8, 2, batch_first=True, **settings)
    key, value = torch.randn(3, 4, model.kdim), torch.randn(3, 4, model.vdim)
    return model, (torch.randn(3, 5, 8), key, value)


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": False}, {"kdim": 6, "vdim": 5}, {"add_bias_kv": True}, {"kdim": 6, "bias": False}],
    ids=str,
)
def test_attention_layer(settings):
    model, inputs = attention(**settings)
    check_encoding(model, inputs, encode(model), min_share=0.95)


SOURCE, TARGET = torch.randn(3, 5, 8), torch.randn(3, 4, 8)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_torch(norm_first, bias):
    """Their inputs and outputs are the stream: its order is fixed, which leaves 9 parameters in 10."""
    settings = {"norm_first": norm_first, "batch_first": True, "bias": bias}
    encoder_layer = nn.TransformerEncoderLayer(8, 2, 12, **settings)
    decoder_layer = nn.TransformerDecoderLayer(8, 4, 12, **settings)
    networks = [
        (encoder_layer, (SOURCE,)),
        (decoder_layer, (TARGET, SOURCE)),
        (nn.TransformerEncoder(encoder_layer, 2, nn.LayerNorm(8), enable_nested_tensor=False), (SOURCE,)),
        (nn.TransformerEncoder(encoder_layer, 2, enable_nested_tensor=False), (SOURCE,)),
        (nn.TransformerDecoder(decoder_layer, 2, nn.LayerNorm(8)), (TARGET, SOURCE)),
        (nn.Transformer(8, 2, 2, 1, 12, **settings), (SOURCE, TARGET)),
    ]
    for model, inputs in networks:
        check_encoding(model, inputs, encode(model), min_share=0.88)


@pytest.mark.parametrize(
    "settings", [{}, {"representation_size": 7}, {"patch_size": 9}, {"num_heads": 4, "num_layers": 1}], ids=str
)
def test_vision_transformer_of_torchvision(settings):
    model = vision_transformer(**settings)
    check_encoding(model, torch.randn(2, 3, 9, 9), encode(model), min_share=0.97)


def test_vision_transformer_with_another_head():
    model = vision_transformer()
    model.heads = nn.Linear(12, 3)
    check_encoding(model, torch.randn(2, 3, 9, 9), encode(model), min_share=0.97)
    model.heads = nn.Identity()
    graph = encode(model)
    check_encoding(model, torch.randn(2, 3, 9, 9), graph, min_share=0.75)
    assert all(group.rigid == 12 for group in graph.neurons if group.name.endswith("stream"))


def test_registered_family():
    reports = conformance_checks(FAMILY, min_share=0.89)
    assert len(reports) == 3
    assert FAMILY.name == "transformers"


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (nn.TransformerEncoderLayer(4, 2, 8), True),
        (nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8)), True),  # declined by its graph
        (nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4)), False),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), False),
    ],
)
def test_matches(model, answer):
    assert matches(model) is answer
