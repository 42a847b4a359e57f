"""Is a graph right? Permuting the neurons that it claims are interchangeable must not change the network.

Written from the meaning of the graph alone: a group's neurons are moved, every parameter is moved through its views,
and the network must compute the same function.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ninokit.graph import EdgeKind, Edges, NeuralGraph, Neurons

_VECTORS = {EdgeKind.BIAS, EdgeKind.NORM_SCALE}


def draw_permutations(graph: NeuralGraph, fixed: set[str], seed: int = 0) -> dict[str, Tensor]:
    """Group name → permutation (new place → old neuron).

    Groups joined by slices move these as wholes and together, if all agree on their number; within a slice, neurons
    move freely. Where slices of different numbers meet, neurons move inside the finest alone.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[str, set[int]] = {group.name: {1} for group in graph.neurons}
    components = {group.name: {group.name} for group in graph.neurons}
    for block in graph.edges:
        if block.groups > 1:
            joined = components[block.src.name] | components[block.dst.name]
            for name in joined:
                components[name] = joined
            numbers[block.src.name].add(block.groups)
            numbers[block.dst.name].add(block.groups)
    drawn: dict[str, Tensor] = {}
    sizes = {group.name: group.size for group in graph.neurons}
    for group in graph.neurons:
        if group.name in drawn:
            continue
        members = components[group.name]
        slices = max(max(numbers[name]) for name in members)
        nested = all(slices % n == 0 for name in members for n in numbers[name])
        alike = all(numbers[name] <= {1, slices} for name in members) and not members & fixed
        order = torch.randperm(slices, generator=generator) if alike else torch.arange(slices)
        for name in sorted(members):
            if name in fixed or not nested:
                drawn[name] = torch.arange(sizes[name])
                continue
            inside = sizes[name] // slices
            moved = [torch.randperm(inside, generator=generator) + inside * old for old in order.tolist()]
            drawn[name] = torch.cat(moved)
    return drawn


def permute_model(model: nn.Module, graph: NeuralGraph, permutations: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model with its neurons in another order, BatchNorm's statistics too."""
    moved = copy.deepcopy(model)
    old, new = dict(model.named_parameters()), dict(moved.named_parameters())
    with torch.no_grad():
        for block in graph.edges:
            if block.view is not None:
                _move(block, old[block.parameter], new[block.parameter], permutations)
        for name, module in moved.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None and module.affine:
                for block in graph.edges:
                    if block.parameter == f"{name}.weight":
                        for buffer in (module.running_mean, module.running_var):
                            _move(block, buffer.clone(), buffer, permutations)
            elif isinstance(module, _BatchNorm) and module.running_mean is not None:
                order = permutations[_group_before(graph, moved, name).name]
                for buffer in (module.running_mean, module.running_var):
                    buffer.copy_(buffer[order])
    return moved


def _group_before(graph: NeuralGraph, model: nn.Module, norm: str) -> Neurons:
    """The outputs of the last layer that stands before a norm without parameters."""
    before = "(input)"
    groups = {group.name: group for group in graph.neurons}
    for name, _ in model.named_modules():
        if name == norm:
            return groups[before]
        before = name if name in groups else before
    raise AssertionError(norm)


def _move(block: Edges, old: Tensor, new: Tensor, permutations: Mapping[str, Tensor]) -> None:
    groups, dst_step, src_step = block.groups, block.dst.size // block.groups, block.src.size // block.groups
    dst = permutations[block.dst.name].view(groups, dst_step)
    src = permutations[block.src.name].view(groups, src_step)
    # All neurons of a slice came from one slice, and the two sides agree on which.
    part = dst[:, :1] // dst_step
    assert (dst // dst_step == part).all()
    assert (src // src_step == part).all()
    rows, columns = (dst % dst_step)[:, :, None], (src % src_step)[:, None]
    block.view(new).copy_(block.view(old)[part[:, :, None], rows, columns])


def randomise(model: nn.Module) -> nn.Module:
    """Evaluation mode, double precision, no number equal to another: norms start as ones and zeros otherwise."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 1))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


def outside_groups(graph: NeuralGraph) -> set[str]:
    """Inputs and outputs, which nobody may permute: what no parameter enters, and what no neuron leaves."""
    inner = [block for block in graph.edges if block.kind not in _VECTORS]
    entered, left = {block.dst.name for block in inner}, {block.src.name for block in inner}
    return {group.name for group in graph.neurons if group.name not in entered or group.name not in left}


def check_invariance(model: nn.Module, graph: NeuralGraph, inputs: Tensor, seeds: int = 2) -> None:
    """Assert that the network computes the same after its hidden neurons were permuted through the graph."""
    with torch.no_grad():
        expected = model(inputs)
        assert expected.std() > 1e-6  # an answer that depends on something
        for seed in range(seeds):
            permutations = draw_permutations(graph, outside_groups(graph), seed)
            moved = [name for name, order in permutations.items() if not torch.equal(order, torch.arange(len(order)))]
            assert moved or all(group.size == 1 or group.name in outside_groups(graph) for group in graph.neurons)
            found = permute_model(model, graph, permutations)(inputs)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
