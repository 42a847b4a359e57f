"""The proof that a neural graph is right: its permutations leave the network's output as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ninokit.encoding import encode, unwrap
from ninokit.errors import EncodingError
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.symmetry import find_symmetry
from ninokit.graph.tables import listed
from ninokit.testing.faults import find_fault
from ninokit.testing.reports import EncodingReport, make_report
from ninokit.testing.rounds import rounds
from ninokit.testing.twins import Twin

__all__ = ["check_encoding"]


def check_encoding(
    model: nn.Module,
    inputs: Any,
    graph: NeuralGraph | None = None,
    *,
    draws: int = 3,
    seed: int = 0,
    min_share: float = 0.0,
    tolerance: float = 1e-9,
) -> EncodingReport:
    """Prove that a neural graph describes its network.

    Neurons that the graph calls interchangeable are put into random orders, and every parameter with them, through
    its view: the network must compute the same. This happens on a copy in double precision and evaluation mode, with
    random parameters. Which orders are allowed follows from the graph (`ninokit.graph.symmetry`); the network's inputs
    and outputs, which are the groups that no parameter enters or that no neuron leaves, stay. Of the outputs all
    floating-point tensors in tuples, mappings and dataclasses are compared; a network must not return hidden neurons.

    Args:
        model: any module.
        inputs: what it is called with: a tensor, a tuple of arguments, or a dictionary of keyword arguments. The
            output must depend on them, and they should reach every parameter.
        graph: its neural graph; left out, the model is encoded.
        draws: random permutations of all groups at once, at least 1; some of a part of them follow.
        seed: of the random numbers.
        min_share: share of the scalar parameters, 0 to 1, that the permutations must move: a graph that declares all
            neurons rigid proves nothing.
        tolerance: the largest change of the output, relative to its size, that rounding may make.

    Returns:
        What was moved, and what was not, and why.

    Raises:
        EncodingError: if the output changes, with the neurons and the parameter at fault; if too little moves; or if
            the network can't be checked.

    Example:
        >>> import torch
        >>> from ninokit.testing import check_encoding
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> check_encoding(model, torch.randn(3, 4)).share
        0.9655172413793104
    """
    if draws < 1:
        raise EncodingError(f"draws: expected at least 1, got {draws}")
    model = unwrap(model)
    graph = encode(model, inputs) if graph is None else graph
    _check_parameters(model, graph)
    reused = _reused(model)
    symmetry = find_symmetry(graph, reused=reused)
    twin = _twin(model, inputs, graph, seed)
    _check_left_out(twin, graph)
    generator = torch.Generator().manual_seed(seed)
    changes = [0.0]
    for cuts in rounds(symmetry.free, draws):
        changes.append(twin.change(graph, symmetry.draw(generator, cuts)))
        if changes[-1] > tolerance:
            fault = find_fault(twin, graph, reused=reused, tolerance=tolerance, generator=generator)
            raise EncodingError(
                f"{twin.name}: neurons that the graph calls interchangeable are not; moving them changes the output by "
                f"{changes[-1]:.1e} of its size, allowed is {tolerance:.0e}\n{fault}",
                fault.culprits,
            )
    report = make_report(
        graph, symmetry, model=twin.name, silent=twin.silent, rounds=len(changes) - 1, change=max(changes)
    )
    if report.share < min_share:
        raise EncodingError(_too_little(report, min_share))
    return report


def _twin(model: nn.Module, inputs: Any, graph: NeuralGraph, seed: int) -> Twin:
    try:
        return Twin(model, inputs, graph, seed)
    except EncodingError:
        raise
    except Exception as error:  # whatever the network's own code raises
        raise EncodingError(
            f"{type(model).__name__}: a copy of it in double precision can't be made or run, and so not checked: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_parameters(model: nn.Module, graph: NeuralGraph) -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    described = {name: tuple(shape) for name, shape in graph.parameters.items()}
    found = {**described, **{name: shapes.get(name, "left out") for name in graph.left_out}}
    for name in {**shapes, **found}:
        if shapes.get(name) != found.get(name):
            raise EncodingError(
                f"{name}: shape {shapes.get(name, 'none')} in {type(model).__name__}, "
                f"{found.get(name, 'none')} in the graph; give a graph of this network"
            )


def _check_left_out(twin: Twin, graph: NeuralGraph) -> None:
    if graph.left_out and twin.hears(graph.left_out):
        used = [name for name in graph.left_out if twin.hears([name])]
        raise EncodingError(
            f"{twin.name}: the graph leaves out {listed(used)}, but the output depends on what it leaves out; add "
            f"edges that carry what the network uses",
            used,
        )


def _reused(model: nn.Module) -> set[str]:
    """Parameters that several modules have, by the names that the graph knows."""
    names: dict[int, str] = {}
    found = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in names:
            found.add(names[id(parameter)])
        names.setdefault(id(parameter), name)
    return found


def _too_little(report: EncodingReport, min_share: float) -> str:
    fixed = ", ".join(f"{name!r} ({reason})" for name, reason in report.fixed.items())
    return (
        f"{report.model}: the permutations move {report.moved_parameters:,} of {report.parameters:,} parameters, a "
        f"share of {report.share:.3f}, expected at least {min_share}; fixed are {fixed}"
    )
