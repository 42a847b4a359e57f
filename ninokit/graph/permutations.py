"""Parameters of a network whose neurons are put into another order.

Shape legend: group, dst, src, tap = as in `ninokit.graph.views`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ninokit.errors import GraphError
from ninokit.graph.structure import Edges, Neurons

__all__ = ["permute_parameter"]


def permute_parameter(blocks: Iterable[Edges], tensor: Tensor, orders: Mapping[str, Tensor]) -> Tensor:
    """A parameter, or a tensor of its shape, after its neurons have moved.

    Args:
        blocks: the edges that carry the parameter, such as ``graph.blocks[name]``.
        tensor: shape (parameter's shape…), on any device.
        orders: group name → int64 tensor of shape (size,), the old neuron at each new place; groups that stay may be
            left out.

    Returns:
        A new tensor: on the edge from a neuron to another stands what stood on the edge between their old places.

    Raises:
        GraphError: if an order tears the slices of a block apart.

    Example:
        >>> import torch, ninokit
        >>> from ninokit.graph.permutations import permute_parameter
        >>> layer = torch.nn.Linear(3, 2)
        >>> blocks = ninokit.encode(layer).blocks["weight"]
        >>> moved = permute_parameter(blocks, layer.weight, {"(output)": torch.tensor([1, 0])})
        >>> torch.equal(moved, layer.weight[[1, 0]])
        True
    """
    source = tensor.detach().contiguous()  # views split and merge axes as they lie in memory
    moved = source.clone()
    for block in blocks:
        if block.view is not None and (block.src.name in orders or block.dst.name in orders):
            places = (place.to(tensor.device) for place in _old_places(block, orders))
            block.view(moved).copy_(block.view(source)[tuple(places)])
    return moved


def _old_places(block: Edges, orders: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """For each place (group, dst, src) of a block the one from which its number comes, as three that broadcast."""
    dst_part, dst = _split(block.dst, 1 if block.shared == "dst" else block.groups, orders)
    src_part, src = _split(block.src, 1 if block.shared == "src" else block.groups, orders)
    if block.shared:  # the neurons of the end that is cut move freely, from slice to slice
        part = src_part[:, None] if block.shared == "dst" else dst_part[:, :, None]
        return part, dst[:, :, None], src[:, None]
    part = dst_part[:, :1]
    if not (torch.equal(dst_part, part.expand_as(dst_part)) and torch.equal(src_part, part.expand_as(src_part))):
        raise GraphError(
            f"{block.label}: the order of {block.src.name!r} or of {block.dst.name!r} tears apart the {block.groups} "
            f"slices that its edges join; move slices as wholes, and alike on both ends"
        )
    return part[:, :, None], dst[:, :, None], src[:, None]


def _split(group: Neurons, slices: int, orders: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The slice from which each neuron comes, and its place there, shapes (slices, neurons a slice)."""
    step = group.size // slices
    order = orders[group.name] if group.name in orders else torch.arange(group.size)
    return order.view(slices, step) // step, order.view(slices, step) % step
