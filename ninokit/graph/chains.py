"""Networks that are a plain chain of layers, read with `torch.fx`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from ninokit.errors import UnsupportedModelError

__all__ = [
    "ELEMENTWISE_FUNCTIONS",
    "ELEMENTWISE_MODULES",
    "ChainStep",
    "is_elementwise",
    "is_flatten",
    "is_reshape",
    "parameter_owners",
    "read_chain",
]

# Asking a tensor for its shape does not branch the network.
_SHAPE_QUERIES = {"size", "dim", "ndim", "shape"}


@dataclass(frozen=True)
class ChainStep:
    """One step of a chain: a leaf module, or a function or tensor method by name.

    Args:
        name: the module's name in the model, or the function's.
        module: the module, None for a function or method.
        args: the arguments after the tensor that flows through; empty for a module.
        kwargs: the keyword arguments.
    """

    name: str
    module: nn.Module | None
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


def read_chain(model: nn.Module) -> list[ChainStep]:
    """The steps of a network through which one tensor flows, in the order in which they run.

    The network is traced symbolically: nothing is computed, and it may have any container or class around it.

    Args:
        model: a network with one input and one output.

    Returns:
        Its leaf modules and functions in order.

    Raises:
        UnsupportedModelError: if it is no chain (several inputs, branches, a module used twice) or can't be traced.

    Example:
        >>> import torch
        >>> [step.name for step in read_chain(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()))]
        ['0', '1']
    """
    tracer = fx.Tracer()
    if tracer.is_leaf_module(model, ""):
        return [ChainStep("", model)]
    try:
        graph = tracer.trace(model)
    except Exception as error:  # any model may fail in any way under symbolic values
        reason = (str(error).splitlines() or ["no message"])[0]
        raise UnsupportedModelError(f"torch.fx can't trace it ({type(error).__name__}: {reason})") from error
    modules = dict(model.named_modules())
    steps = [_step(node, modules) for node in _path(graph)]
    # One activation module may serve many layers; one with weights would tie them.
    used = [step.name for step in steps if step.module and next(step.module.parameters(), None) is not None]
    repeated = next((name for name in used if used.count(name) > 1), None)
    if repeated is not None:
        raise UnsupportedModelError(f"the module {repeated!r} is used more than once")
    return steps


def _path(graph: fx.Graph) -> Iterator[fx.Node]:
    """The nodes between the only input and the output."""
    inputs = [node for node in graph.nodes if node.op == "placeholder" and node.users]
    if len(inputs) != 1:
        raise UnsupportedModelError(f"it has {len(inputs)} inputs; a chain has one")
    node = inputs[0]
    shapes = _shape_nodes(graph)
    while True:
        users = [user for user in node.users if user not in shapes]
        if len(users) != 1:
            raise UnsupportedModelError(f"the output of {node.name!r} is used {len(users)} times; in a chain once")
        (user,) = users
        if user.op == "output":
            return
        if user.op not in {"call_module", "call_function", "call_method"} or not user.args or user.args[0] is not node:
            raise UnsupportedModelError(f"{user.name!r} is no step of a chain")
        tensors = [argument for argument in user.all_input_nodes if argument not in shapes]
        if tensors != [node]:
            raise UnsupportedModelError(f"{user.name!r} joins several tensors; in a chain there is one")
        yield user
        node = user


def _asks_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPE_QUERIES
    return node.op == "call_function" and node.target is getattr and node.args[1] in _SHAPE_QUERIES


def _shape_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values come from shapes alone; a graph's nodes stand in the order in which they run."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if _asks_shape(node) or (inputs and found.issuperset(inputs)):
            found.add(node)
    return found


def _step(node: fx.Node, modules: dict[str, nn.Module]) -> ChainStep:
    if node.op == "call_module":
        return ChainStep(str(node.target), modules[str(node.target)])
    name = node.target if isinstance(node.target, str) else _function_name(node.target)
    return ChainStep(name, None, tuple(node.args[1:]), tuple(node.kwargs.items()))


def _function_name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


# Modules that act on each neuron alone (or on all of a layer alike), and keep their order.
ELEMENTWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.Threshold,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Hardshrink,
    nn.Softshrink,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Softmax,
    nn.LogSoftmax,
)

# The same as functions and tensor methods, by name.
ELEMENTWISE_FUNCTIONS = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "sigmoid",
        "sigmoid_",
        "logsigmoid",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "softplus",
        "softsign",
        "tanh",
        "tanh_",
        "tanhshrink",
        "softmax",
        "log_softmax",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_alpha_dropout",
        "contiguous",
    ]
)


def parameter_owners(model: nn.Module) -> list[nn.Module]:
    """The modules that hold parameters themselves.

    Args:
        model: any module.

    Returns:
        The module and its descendants, those without parameters of their own left out.
    """
    return [module for module in model.modules() if next(module.parameters(recurse=False), None) is not None]


def is_elementwise(step: ChainStep) -> bool:
    """Whether a step acts on each neuron alone, or on all of a layer alike, and has no parameters.

    Args:
        step: a step of a chain.

    Returns:
        True for activations, dropout, softmax and identities.
    """
    if step.module is None:
        return step.name in ELEMENTWISE_FUNCTIONS
    return type(step.module) in ELEMENTWISE_MODULES


def is_flatten(step: ChainStep) -> bool:
    """Whether a step merges all dimensions but the batch's.

    Args:
        step: a step of a chain.

    Returns:
        True for `torch.nn.Flatten()`, ``torch.flatten(x, 1)``, ``x.flatten(1)``, ``x.view(x.size(0), -1)``,
        ``x.reshape(x.shape[0], -1)``. Other sizes might cut an example in pieces.
    """
    if isinstance(step.module, nn.Flatten):
        return step.module.start_dim == 1 and step.module.end_dim == -1
    if step.name == "flatten":
        bounds = {**dict(zip(("start_dim", "end_dim"), step.args, strict=False)), **dict(step.kwargs)}
        return bounds.get("start_dim") == 1 and bounds.get("end_dim", -1) == -1
    if step.name in {"view", "reshape"} and step.module is None:
        sizes = step.args[0] if len(step.args) == 1 and isinstance(step.args[0], (tuple, list)) else step.args
        return len(sizes) == 2 and sizes[1] == -1 and _is_batch_size(sizes[0])
    return False


def is_reshape(step: ChainStep) -> bool:
    """Whether a step only arranges the numbers of its input anew; harmless before the first layer.

    Args:
        step: a step of a chain.

    Returns:
        True for any flatten, unflatten, view or reshape.
    """
    if step.module is None:
        return step.name in {"flatten", "unflatten", "view", "reshape"}
    return isinstance(step.module, (nn.Flatten, nn.Unflatten))


def _is_batch_size(value: Any) -> bool:
    """Whether a traced value is ``x.size(0)`` or ``x.shape[0]``."""
    if not isinstance(value, fx.Node):
        return False
    if value.target is operator.getitem:
        shape, index = value.args
        return isinstance(shape, fx.Node) and _asks_shape(shape) and isinstance(index, int) and index == 0
    return value.target == "size" and tuple(value.args[1:]) == (0,)
