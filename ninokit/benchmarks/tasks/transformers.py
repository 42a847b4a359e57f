"""Small transformers: GPT-2 of Hugging Face, with LoRA or without, and torchvision's vision transformer.

Shapes: B examples in a batch, T tokens a sequence.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ninokit._optional import require

__all__ = ["gpt2", "lora_names", "vision_transformer", "with_lora"]

# GPT-2's matrices: of the attention, and of the feed-forward part.
_ADAPTED = ("c_attn", "c_proj", "c_fc")


class _Logits(nn.Module):
    """A language model of transformers that returns its logits alone, from tokens (B, T) to (B, T, vocabulary)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=tokens).logits
        return logits


def gpt2(task: str, *, vocabulary: int, length: int, width: int, layers: int, heads: int) -> nn.Module:
    """A GPT-2 without dropout: it sees its text a few times only.

    Args:
        task: the task's name, for the error message.
        vocabulary: tokens there are.
        length: most tokens of a sequence.
        width: of the residual stream, a multiple of ``heads``.
        layers: at least 1.
        heads: of the attention.

    Returns:
        A network from tokens of shape (B, T), T at most ``length``, to logits of shape (B, T, vocabulary).

    Raises:
        DependencyError: transformers is missing.
    """
    library = require("transformers", f"task {task!r}")
    config = library.GPT2Config(
        vocab_size=vocabulary,
        n_positions=length,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        # GPT-2's own special tokens are outside these vocabularies.
        bos_token_id=None,
        eos_token_id=None,
    )
    return _Logits(library.GPT2LMHeadModel(config))


def with_lora(task: str, network: nn.Module, *, rank: int) -> nn.Module:
    """A `gpt2` with LoRA (Hu et al. 2021) on all matrices of its layers; only the adapters can be trained.

    Args:
        task: the task's name, for the error message.
        network: of `gpt2`; it is changed.
        rank: of the adapters.

    Returns:
        The same network, with the same outputs until it is trained.

    Raises:
        DependencyError: peft is missing.
    """
    library = require("peft", f"task {task!r}")
    # As usual, the adapters' sum counts twice. GPT-2's matrices are stored transposed.
    config = library.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(_ADAPTED), fan_in_fan_out=True)
    adapted: nn.Module = library.inject_adapter_in_model(config, network)
    return adapted


def lora_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `gpt2` by the names that they have after `with_lora`.

    Args:
        weights: name in the network without adapters → tensor.

    Returns:
        Name in the network with adapters → the same tensor.

    Example:
        >>> list(lora_names({"h.0.mlp.c_fc.bias": Tensor(), "h.0.ln_1.bias": Tensor()}))
        ['h.0.mlp.c_fc.base_layer.bias', 'h.0.ln_1.bias']
    """
    split = {name: name.rpartition(".") for name in weights}
    return {
        f"{module}.base_layer.{kind}" if module.endswith(_ADAPTED) else name: weights[name]
        for name, (module, _, kind) in split.items()
    }


def vision_transformer(task: str, *, side: int, patch: int, width: int, layers: int, heads: int) -> nn.Module:
    """A vision transformer for square grey images of ten classes.

    Args:
        task: the task's name, for the error message.
        side: of the images, in pixels; a multiple of ``patch``.
        patch: pixels a side of a patch.
        width: of the residual stream, a multiple of ``heads``.
        layers: at least 1.
        heads: of the attention.

    Returns:
        torchvision's network from (B, 1, side, side) to (B, 10).

    Raises:
        DependencyError: torchvision is missing.
    """
    network: nn.Module = require("torchvision.models", f"task {task!r}").VisionTransformer(
        image_size=side,
        patch_size=patch,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
        num_classes=10,
    )
    network.conv_proj = _grey_patches(patch, width)
    return network


def _grey_patches(patch: int, width: int) -> nn.Conv2d:
    """An embedding of patches for one colour, initialised like torchvision's, which is always for three."""
    patches = nn.Conv2d(1, width, patch, stride=patch)
    nn.init.trunc_normal_(patches.weight, std=1 / patch)  # one over the root of the inputs of a patch
    nn.init.zeros_(patches.bias)  # type: ignore[arg-type]
    return patches
