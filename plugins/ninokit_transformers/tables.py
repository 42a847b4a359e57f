"""The words in which the tables of networks are written, and their expansion for a given network.

A table lists a network's parameters in the order in which numbers flow through them, by the modules that hold them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ninokit.errors import UnsupportedModelError
from ninokit_transformers.adapters import submodule

__all__ = [
    "Base",
    "Choice",
    "Decoder",
    "Item",
    "Layers",
    "Network",
    "RelativePositions",
    "Row",
    "Step",
    "Under",
    "expand",
]


@dataclass(frozen=True)
class Row:
    """The weight and the bias of one module.

    Args:
        roles: names from `ROLES`; several, separated by spaces, for a parameter that fuses them along its outputs.
        path: of the module, from where the table stands.
        weight: name of its weight, None if the row is about the bias alone.
        bias: name of its bias, None if it has none; a bias that is not there is left out.
        axes: labels of the weight's axes where they are not those of its role.
        optional: whether the network may do without.
    """

    roles: str
    path: str = ""
    weight: str | None = "weight"
    bias: str | None = "bias"
    axes: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Under:
    """A table of a submodule."""

    path: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Base:
    """The table of a Hugging Face model without its head, which stands under the model's ``base_model_prefix``."""

    items: Sequence[Item]


@dataclass(frozen=True)
class Layers:
    """A table that holds for each child of a submodule, in turn."""

    path: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Choice:
    """One of several tables, by an attribute of the module on which the table stands."""

    attribute: str
    tables: Mapping[object, Sequence[Item]]


@dataclass(frozen=True)
class Decoder:
    """From here on a decoder, whose memory is the stream so far; both read one token embedding, if there is any."""


@dataclass(frozen=True)
class RelativePositions:
    """A table of position buckets by heads in the first layer, which all layers of the stack use.

    Args:
        path: of the embedding in a layer; it exists in the first alone.
    """

    path: str


Item = Row | Under | Base | Layers | Choice | Decoder | RelativePositions


@dataclass(frozen=True)
class Network:
    """A class of networks.

    Args:
        items: its table.
        heads: attribute of the network with the number of attention heads; dots lead into others.
        kv_heads: the same of heads of keys and values, if there may be fewer.
        rotary: whether queries and keys are rotated by position, which pairs the neurons of a head by their order.
    """

    items: Sequence[Item]
    heads: str
    kv_heads: str | None = None
    rotary: bool = False


@dataclass(frozen=True)
class Step:
    """An item that stands on a module.

    Args:
        item: nothing that leads to others.
        module: on which it stands.
        path: the module's name.
    """

    item: Row | Decoder | RelativePositions
    module: nn.Module
    path: str


def expand(items: Sequence[Item], module: nn.Module, path: str) -> Iterator[Step]:
    """The steps of a table, one by one, in the order in which numbers flow.

    Args:
        items: the table.
        module: on which it stands.
        path: the module's name in the network.

    Yields:
        Rows, and what stands between them.

    Raises:
        UnsupportedModelError: if a submodule is missing on which a table stands.
    """
    for item in items:
        if isinstance(item, Under):
            yield from _expand_below(item.items, module, path, item.path)
        elif isinstance(item, Base):
            yield from _expand_below(item.items, module, path, str(getattr(module, "base_model_prefix", "")))
        elif isinstance(item, Layers):
            # Not named_children, which leaves out a layer that stands there a second time.
            for name in _below(module, path, item.path)._modules:
                yield from _expand_below(item.items, module, path, join(item.path, name))
        elif isinstance(item, Choice):
            yield from expand(item.tables[getattr(module, item.attribute)], module, path)
        else:
            yield Step(item, module, path)


def _expand_below(items: Sequence[Item], module: nn.Module, path: str, below: str) -> Iterator[Step]:
    yield from expand(items, _below(module, path, below), join(path, below))


def _below(module: nn.Module, path: str, below: str) -> nn.Module:
    found = submodule(module, below)
    if found is None:
        raise UnsupportedModelError(f"{join(path, below)}: its table expects a module there, but there is none")
    return found


def join(*names: str) -> str:
    """Names of modules, one in another, as one name."""
    return ".".join(name for name in names if name)
