"""Checks of an architecture on its examples, and on what it can't encode."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from ninokit.encoding import Architecture
from ninokit.errors import UnsupportedModelError
from ninokit.graph.structure import NeuralGraph
from ninokit.testing.conformance import MIN_SHARE, check_dgl_view, encode_example, prove_example
from ninokit.testing.plugins.findings import Check, CheckError

__all__ = ["architecture_checks"]

_FOREIGN = (nn.Bilinear(2, 3, 4), nn.ModuleDict({"one": nn.Linear(2, 2)}))


def architecture_checks(family: Architecture) -> Iterator[Check]:
    """Checks of an architecture.

    Args:
        family: the architecture.

    Yields:
        The checks; each is run before the next is taken.
    """
    title = f"architecture {family.name}"
    examples: list[tuple[nn.Module, Any]] = []
    yield Check(f"{title}: examples", lambda: _make(family, examples))
    for number, (model, inputs) in enumerate(examples):
        yield Check(f"{title}: proof of example {number}", partial(_prove, family, model, inputs))
        yield Check(f"{title}: DGL view of example {number}", partial(_view, family, model, inputs))
    yield Check(f"{title}: errors", lambda: _check_errors(family, examples))


def _make(family: Architecture, examples: list[tuple[nn.Module, Any]]) -> str:
    examples.extend(family.examples() if family.examples else ())
    if not examples:
        raise CheckError("there are none; give the Architecture a function that makes some, in the field examples")
    return ", ".join(type(model).__name__ for model, _ in examples)


def _prove(family: Architecture, model: nn.Module, inputs: Any) -> str:
    report = prove_example(encode_example(family, model, inputs), model, inputs, MIN_SHARE)
    return f"{report.share:.1%} of the parameters moved, the output stayed; the numbers came back from the edges"


def _view(family: Architecture, model: nn.Module, inputs: Any) -> str:
    graph = family.encode(model, inputs)
    check_dgl_view(graph, model)
    return f"{graph.num_nodes} nodes, {graph.num_edges} edges"


def _check_errors(family: Architecture, examples: list[tuple[nn.Module, Any]]) -> str:
    """A model that can't be encoded gives `UnsupportedModelError`, so that the next family is asked, and says why."""
    declined = [model for model in _FOREIGN if _encode(family, model) is None]
    for model, inputs in examples:
        graph = _encode(family, model)
        if graph is not None and graph != family.encode(model, inputs):
            raise CheckError(
                f"{type(model).__name__} has another graph without example inputs; decline it, or read none"
            )
    return f"{len(declined)} of {len(_FOREIGN)} foreign models declined with a reason"


def _encode(family: Architecture, model: nn.Module) -> NeuralGraph | None:
    """The graph of a model without example inputs; None if it is declined as it should be."""
    name = type(model).__name__
    family.matches(model)
    try:
        return family.encode(model, None)
    except UnsupportedModelError as error:
        if not str(error):
            raise CheckError(f"UnsupportedModelError for {name} has no message; say why it is declined") from error
    except Exception as error:
        raise CheckError(
            f"encode of {name} without example inputs: expected UnsupportedModelError with the reason, got "
            f"{type(error).__name__}: {error}"
        ) from error
    return None
