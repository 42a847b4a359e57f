"""Tiny transformers with random parameters, and what they are called with."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

TOKENS = 11  # of every vocabulary
SMALL = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**SMALL, "vocab_size": TOKENS, "max_position_embeddings": 16}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
GROUPED = {**TEXT, **ENDS, "num_key_value_heads": 2}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    # prefix of the family's classes → (name of its config, settings)
    "GPT2": (
        "GPT2Config",
        {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": TOKENS, "n_positions": 16, **ENDS},
    ),
    "Bert": ("BertConfig", TEXT),
    "Roberta": ("RobertaConfig", {**TEXT, **ENDS, "pad_token_id": 1}),
    "ViT": ("ViTConfig", {**SMALL, "image_size": 8, "patch_size": 4}),
    "Llama": ("LlamaConfig", GROUPED),
    "Mistral": ("MistralConfig", GROUPED),
    "Qwen2": ("Qwen2Config", GROUPED),
    "Qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 6}),
    "Gemma": ("GemmaConfig", {**GROUPED, "head_dim": 6}),
    "Gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 6}),
    "Gemma3": ("Gemma3TextConfig", {**GROUPED, "head_dim": 6}),
    "Phi": ("PhiConfig", GROUPED),
    "Phi3": ("Phi3Config", GROUPED),
    "Mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 3}),
    "T5": (
        "T5Config",
        {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 3, "vocab_size": TOKENS}
        | {"relative_attention_num_buckets": 6, "decoder_start_token_id": 0},
    ),
}


def huggingface(family: str, kind: str, **settings: Any) -> nn.Module:
    """A model of a class such as ``Llama`` + ``ForCausalLM``, with settings besides those of its family."""
    transformers = pytest.importorskip("transformers")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    name, config = CONFIGS[family]
    model = getattr(transformers, family + kind)(getattr(transformers, name)(**{**config, **settings}))
    if family == "Mixtral":
        model.set_experts_implementation("eager")  # the others compute in single precision
    return model


def tokens(examples: int = 3, length: int = 7) -> Tensor:
    return torch.randint(2, TOKENS, (examples, length), generator=torch.Generator().manual_seed(1))


def text(**others: Any) -> dict[str, Any]:
    return {"input_ids": tokens(), **others}


def one_text() -> dict[str, Any]:
    """For classifiers of sequences, which without padding take one at a time."""
    return {"input_ids": tokens(1)}


def translation() -> dict[str, Any]:
    return {"input_ids": tokens(), "decoder_input_ids": tokens(3, 5)}


def images() -> dict[str, Any]:
    return {"pixel_values": torch.randn(2, 3, 8, 8)}


class Answers(nn.Module):
    """A model's answers without the hidden states that it returns beside them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, **inputs: Tensor) -> Any:
        found = self.inner(**inputs)
        return found.logits if "logits" in found else (found.start_logits, found.end_logits)


def vision_transformer(**settings: Any) -> nn.Module:
    module = pytest.importorskip("torchvision.models.vision_transformer")
    defaults = {"image_size": 9, "patch_size": 3, "num_layers": 2, "num_heads": 2, "hidden_dim": 12, "mlp_dim": 24}
    return module.VisionTransformer(**{**defaults, "num_classes": 5, **settings})
