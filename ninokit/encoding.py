"""Architecture families, and `encode`: from a network to its neural graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from ninokit.errors import ArchitectureError, GraphError, UnsupportedModelError
from ninokit.graph.structure import NeuralGraph

__all__ = ["Architecture", "architectures", "encode", "unwrap", "wrappings"]

_log = logging.getLogger(__name__)

ExampleInputs = Any


@dataclass(frozen=True)
class Architecture:
    """A family of networks with one way of encoding them.

    Args:
        name: unique over all plugins.
        description: one line, for listings.
        matches: whether a model is of this family, judged quickly, by its class or its modules.
        encode: model and example inputs (or None) → its graph, covering every parameter. It raises
            `UnsupportedModelError` with the reason for a model that it can't handle.
        examples: makes small models of the family, each with what it is called with (a tensor, a tuple of arguments,
            or a dictionary of keyword arguments), on which `ninokit.testing.conformance_checks` checks it.
    """

    name: str
    description: str
    matches: Callable[[nn.Module], bool]
    encode: Callable[[nn.Module, ExampleInputs | None], NeuralGraph]
    examples: Callable[[], Iterable[tuple[nn.Module, ExampleInputs]]] | None = None


def architectures() -> dict[str, Architecture]:
    """The registered architecture families by name, in the order in which they are asked.

    Returns:
        Third-party families first, then the built-in ones.

    Example:
        >>> import ninokit
        >>> {"cnn", "mlp"} <= ninokit.architectures().keys()
        True
    """
    from ninokit.plugins import registry

    return registry().architectures()


def encode(
    model: nn.Module, example_inputs: ExampleInputs | None = None, *, architecture: str | None = None
) -> NeuralGraph:
    """The neural graph of a network.

    Args:
        model: any module; one wrapped by `torch.compile` or a data-parallel wrapper is seen through.
        example_inputs: what the model is called with, for families that need it.
        architecture: name of the family to use; left out, the registered ones are asked in turn.

    Returns:
        A graph that covers every parameter of the model exactly once.

    Raises:
        ArchitectureError: if no family encodes the model; the message has each one's reason.
        GraphError: if the graph of the family that is named is wrong, which is a defect of its plugin.

    Example:
        >>> import torch, ninokit
        >>> ninokit.encode(torch.nn.Sequential(torch.nn.Linear(3, 2))).num_nodes
        6
    """
    if not isinstance(model, nn.Module):
        raise ArchitectureError(f"model: expected a torch.nn.Module, got {model!r}")
    model = unwrap(model)
    _check_parameters(model)
    known = architectures()
    if architecture is not None and architecture not in known:
        raise ArchitectureError(f"architecture: there is none named {architecture!r}; registered are {sorted(known)}")
    reasons = {}
    for name, family in known.items() if architecture is None else [(architecture, known[architecture])]:
        try:
            if architecture is None and not family.matches(model):
                reasons[name] = "does not match"
                continue
            graph = _checked(family.encode(model, example_inputs))
        except UnsupportedModelError as error:
            reasons[name] = str(error)
        except Exception as error:
            if architecture is not None and isinstance(error, GraphError):
                raise
            reasons[name] = f"broken ({type(error).__name__}: {error})"
            _log.warning("the architecture %s failed on %s: %s", name, type(model).__name__, reasons[name])
        else:
            _log.debug("%s encoded as %s", type(model).__name__, name)
            return graph
    details = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items()) or "\n  none is registered"
    raise ArchitectureError(
        f"no architecture encodes {type(model).__name__}:{details}\n"
        f"Build its graph with ninokit.graph.GraphBuilder and pass it to attach(graph=…), or register an architecture."
    )


def _checked(graph: object) -> NeuralGraph:
    if not isinstance(graph, NeuralGraph):
        raise TypeError(f"it must return a NeuralGraph, and returned {graph!r}")
    return graph


def wrappings(model: nn.Module) -> Iterator[nn.Module]:
    """A module, and what `torch.compile`'s and the data-parallel wrappers around it hold, from the outermost inwards.

    Args:
        model: any module.

    Yields:
        Modules that share their parameters; the last is no wrapper.
    """
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner: Any = model
    while isinstance(inner, nn.Module):
        yield inner
        inner = inner.module if isinstance(inner, parallel) else getattr(inner, "_orig_mod", None)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile`'s and the data-parallel wrappers, whose parameters it shares.

    Args:
        model: any module.

    Returns:
        The innermost module.
    """
    *_, innermost = wrappings(model)
    return innermost


def _check_parameters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ArchitectureError(f"{name} has no shape yet; run the model once on a batch before encoding it")
    if next(model.parameters(), None) is None:
        raise ArchitectureError(f"{type(model).__name__} has no parameters, so there is nothing to nowcast")
