"""Small transformers: GPT-2 of Hugging Face and torchvision's vision transformer.

Shapes: B examples in a batch, T tokens a sequence.
"""

from __future__ import annotations

from torch import Tensor, nn

from ninokit._optional import require

__all__ = ["gpt2", "vision_transformer"]


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
