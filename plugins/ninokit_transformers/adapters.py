"""Modules that PEFT has put in the place of others, told by what they hold; PEFT itself is not needed.

A LoRA layer keeps the original as ``base_layer`` and adds to it ``lora_B(lora_A(x))``; a module that is trained beside
adapters has the original as ``original_module`` and the copies that stand in for it in ``modules_to_save``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

__all__ = ["LowRank", "low_rank", "stand_ins", "submodule"]

_MATRICES = (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"))


class LowRank(NamedTuple):
    """A product of two matrices that is added to a weight.

    Attributes:
        name: of the adapter.
        down: shape (rank, in, taps…), what the inputs are first led through.
        up: shape (out, rank, taps…).
        shift: shape (out,), or None.
        magnitude: shape (out,), the scale of each row of the whole weight, or None.
    """

    name: str
    down: Tensor
    up: Tensor
    shift: Tensor | None
    magnitude: Tensor | None


def submodule(module: nn.Module, path: str) -> nn.Module | None:
    """A module inside another, through those that have been put in a place.

    Args:
        module: where to start.
        path: names separated by dots; empty for the module itself.

    Returns:
        The module, or None if there is none of this name.
    """
    found: Any = module
    for name in path.split(".") if path else ():
        found = getattr(next(stand_ins(found)), name, None)
        if not isinstance(found, nn.Module):
            return None
    return found


def stand_ins(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that hold the weights in a module's place.

    Args:
        module: any module.

    Yields:
        The module itself, the original inside a LoRA layer, or an original and the copies of it that are trained.
    """
    original = getattr(module, "base_layer", getattr(module, "original_module", None))
    if not isinstance(original, nn.Module):
        yield module
        return
    yield from stand_ins(original)
    copies = getattr(module, "modules_to_save", None)
    for copy in copies.values() if isinstance(copies, nn.ModuleDict) else ():
        yield from stand_ins(copy)


def low_rank(module: nn.Module) -> Iterator[LowRank]:
    """The low-rank adapters of a LoRA layer.

    Args:
        module: any module.

    Yields:
        One an adapter; none of a module that is no LoRA layer.
    """
    if not isinstance(getattr(module, "base_layer", None), nn.Module):
        return
    magnitudes = _parts(module, "lora_magnitude_vector")
    for first, second in _MATRICES:
        ups = _parts(module, second)
        for name, down in _parts(module, first).items():
            up, magnitude = ups[name], magnitudes.get(name)
            yield LowRank(name, _weight(down), _weight(up), getattr(up, "bias", None), _weight(magnitude))


def _parts(module: nn.Module, attribute: str) -> Mapping[str, Any]:
    found = getattr(module, attribute, None)
    return dict(found.items()) if isinstance(found, (nn.ModuleDict, nn.ParameterDict)) else {}


def _weight(part: Any) -> Any:
    """The parameter of a module, or the parameter itself."""
    return part.weight if isinstance(part, nn.Module) else part
