"""Follow a table through a network, and build the graph on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from torch import Tensor, nn

from ninokit.errors import UnsupportedModelError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph, Neurons
from ninokit.graph.structure import SharedEnd
from ninokit_transformers.adapters import LowRank, low_rank, stand_ins, submodule
from ninokit_transformers.places import Attention, Places
from ninokit_transformers.roles import ROLES, Role
from ninokit_transformers.tables import Network, RelativePositions, Row, Step, expand, join

__all__ = ["build_graph"]

_NAMED = 5  # parameters named in an error
_VECTOR = ("out",)
_LABELS = {"out": "dst", "in": "src", "stack": "group"}
_LOW_RANK = Role(EdgeKind.LINEAR, None, "rank")


def build_graph(model: nn.Module, module: nn.Module, path: str, network: Network) -> NeuralGraph:
    """The graph of a network that a table describes.

    Args:
        model: whose parameters the graph must cover: the network, or a wrapper.
        module: the network.
        path: its name in the model.
        network: its class.

    Returns:
        A graph that covers every parameter once.

    Raises:
        UnsupportedModelError: if the table leaves out parameters, or expects others.
        GraphError: if a parameter has not the shape that the table expects.
    """
    steps = list(expand(network.items, module, path))
    flow = _Flow(model, _attention(module, network), returns_stream=not any(map(_ends_stream, steps)))
    for step in steps:
        flow.follow(step)
    return flow.build(type(module).__name__)


def _attention(module: nn.Module, network: Network) -> Attention:
    try:
        heads = int(attrgetter(network.heads)(module))
        kv_heads = int(attrgetter(network.kv_heads)(module)) if network.kv_heads else heads
    except AttributeError as error:
        raise UnsupportedModelError(f"{type(module).__name__} does not tell its number of heads: {error}") from error
    return Attention(heads, kv_heads, network.rotary)


def _ends_stream(step: Step) -> bool:
    """Whether something reads the stream to compute the network's outputs."""
    if not isinstance(step.item, Row) or ROLES[step.item.roles.split()[0]].writes != "outputs":
        return False
    found = submodule(step.module, step.item.path)
    return found is not None and any(isinstance(getattr(m, "weight", None), Tensor) for m in stand_ins(found))


@dataclass(frozen=True)
class _Part:
    """A role of a parameter, in a range of its outputs.

    Args:
        label: the role's name.
        role: what it is.
        src: the neurons that it reads; None for an extra node.
        dst: the neurons that it writes to.
        window: first and last + 1 of its outputs, None for all.
    """

    label: str
    role: Role
    src: Neurons | None
    dst: Neurons
    window: tuple[int, int] | None


@dataclass(frozen=True)
class _Cut:
    """How a block is cut, and what its parameter's axes are to `ninokit.graph.GraphBuilder.edges`."""

    groups: int = 1
    shared: SharedEnd | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: _LABELS)


class _Flow:
    """A neural graph grown step by step."""

    def __init__(self, model: nn.Module, attention: Attention, *, returns_stream: bool) -> None:
        self._builder = GraphBuilder(model)
        self._places = Places(self._builder, attention, returns_stream=returns_stream)
        self._attention = attention
        self._parameters = dict(model.named_parameters())
        self._names = {id(parameter): name for name, parameter in self._parameters.items()}
        self._covered: set[str] = set()
        self._tokens: set[str] = set()  # the token embeddings, which outputs may use again

    def follow(self, step: Step) -> None:
        """Add what a step of the table says."""
        if isinstance(step.item, Row):
            self._row(step.item, step.module, step.path)
        elif isinstance(step.item, RelativePositions):
            here = submodule(step.module, step.item.path) is not None
            if here:
                self._row(Row("relative_position", step.item.path), step.module, step.path)
            self._places.bias_heads(here=here)
        else:
            self._places.begin_decoder(join(step.path, "decoder"))

    def build(self, network: str) -> NeuralGraph:
        """The finished graph; `network` is the class, for the error if parameters are left over."""
        left = [name for name in self._parameters if name not in self._covered]
        if left:
            more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
            raise UnsupportedModelError(f"the table of {network} leaves out {', '.join(left[:_NAMED])}{more}")
        return self._builder.build()

    def _row(self, row: Row, module: nn.Module, path: str) -> None:
        name, found = join(path, row.path), submodule(module, row.path)
        modules = [] if found is None else list(stand_ins(found))
        weights, biases = self._held(modules, row.weight, name), self._held(modules, row.bias, name)
        role = ROLES[row.roles.split()[0]]
        if row.weight is not None and not weights and role.reads is not None and not row.optional:
            raise UnsupportedModelError(
                f"{join(name, row.weight)}: its table expects this parameter, but there is none"
            )
        if not weights and (row.weight is not None or not biases):
            return  # a norm without scale, or what the network may do without
        axes = (row.axes or role.axes).split() if weights else _VECTOR
        tied = self._tied(name, [*weights, *biases], role)
        parts = self._parts(row, name, (weights or biases)[0], axes, tied=tied)
        for weight in weights:
            self._cover(weight, parts, axes)
        for bias in biases:
            self._cover(bias, [_vector(part, EdgeKind.BIAS) for part in parts], _VECTOR)
        for adapter in low_rank(found) if found is not None else ():
            if self._name(adapter.down, name) not in self._covered:  # by another row about the same module
                self._adapter(adapter, name, parts)
        self._places.close(role)

    def _held(self, modules: Sequence[nn.Module], attribute: str | None, name: str) -> list[str]:
        """The names of the parameters that modules hold under an attribute."""
        held = [getattr(module, attribute, None) for module in modules] if attribute else []
        return [self._name(tensor, join(name, attribute or "")) for tensor in held if isinstance(tensor, Tensor)]

    def _name(self, tensor: Tensor, wanted: str) -> str:
        if id(tensor) not in self._names:
            raise UnsupportedModelError(f"{wanted} is no parameter, but computed from others")
        return self._names[id(tensor)]

    def _tied(self, name: str, parameters: Sequence[str], role: Role) -> bool:
        """Whether the outputs use the token embedding again; between other layers a tie is too much."""
        again = [parameter for parameter in parameters if parameter in self._covered]
        tied = any(parameter in self._tokens for parameter in again)
        if again and (role.writes != "outputs" or (role.reads is not None and not tied)):
            raise UnsupportedModelError(f"{name} uses {again[0]} again, which belongs to another row")
        return tied

    def _parts(self, row: Row, name: str, parameter: str, axes: Sequence[str], *, tied: bool) -> list[_Part]:
        """The neurons that a row's parameters join, told by the shape of the first."""
        shape = self._parameters[parameter].shape
        if len(shape) != len(axes):
            raise UnsupportedModelError(f"{parameter}: expected the axes {' '.join(axes)!r}, got shape {tuple(shape)}")
        sizes = dict(zip(axes, shape, strict=True))
        if tied:
            self._places.use_tokens_as_outputs()
        labels = row.roles.split()
        shares = [self._share(ROLES[label]) for label in labels]
        parts, start = [], 0
        for label, share in zip(labels, shares, strict=True):
            stop = start + sizes["out"] * share // sum(shares)
            role = replace(ROLES[label], begins=None) if tied else ROLES[label]
            src = self._places.read(role.reads, name, sizes["in"]) if role.reads and "in" in sizes else None
            stacked = sizes["stack"] if role.writes == "expert_hidden" else 1
            dst = self._places.write(role, name, (stop - start) * stacked)
            parts.append(_Part(label, role, src, dst, (start, stop) if len(labels) > 1 else None))
            start = stop
        return parts

    def _share(self, role: Role) -> int:
        """The part that a role has of the outputs of a parameter that fuses several."""
        heads = {"query": self._attention.heads, "key": self._attention.kv_heads, "value": self._attention.kv_heads}
        return heads.get(role.writes, 1)

    def _cover(self, parameter: str, parts: Sequence[_Part], axes: Sequence[str]) -> None:
        """Add the edges of a parameter; one that is used again has them already."""
        if parameter in self._covered:
            return
        self._covered.add(parameter)
        for part in parts:
            if part.role.reads == "tokens":
                self._tokens.add(parameter)
            self._edges(parameter, part, axes)

    def _edges(self, parameter: str, part: _Part, axes: Sequence[str]) -> None:
        cut = self._cut(parameter, part, axes)
        src, dst = part.src, part.dst
        if src is None:
            src = self._builder.neurons(f"{parameter}[{part.label}]" if part.window else parameter, 1)
        elif part.role.backward:
            src, dst = dst, src
        self._builder.edges(
            part.role.kind,
            src,
            dst,
            parameter=parameter,
            axes=" ".join(cut.labels.get(axis, axis) for axis in axes),
            groups=cut.groups,
            shared=cut.shared,
            window={axes.index("out"): part.window} if part.window else None,
        )

    def _cut(self, parameter: str, part: _Part, axes: Sequence[str]) -> _Cut:
        if part.src is None:
            return _Cut()
        if "stack" in axes:
            experts = self._parameters[parameter].shape[axes.index("stack")]
            return _Cut(experts, "dst" if part.role.reads == "expert_hidden" else "src")
        if part.role.reads == "value" and self._attention.grouped:
            # Of the heads that share a value each reads it anew: as many taps an edge.
            return _Cut(self._attention.kv_heads, "dst", {**_LABELS, "in": "(group tap src)"})
        return _Cut(labels={**_LABELS, "out": "src", "in": "dst"} if part.role.backward else _LABELS)

    def _adapter(self, adapter: LowRank, name: str, parts: Sequence[_Part]) -> None:
        """Low-rank matrices in their own direction, inputs → rank → outputs, whatever the weight's edges have."""
        rank = self._builder.neurons(join(name, f"{adapter.name}.rank"), adapter.down.shape[0])
        down = replace(_LOW_RANK, reads=parts[0].role.reads)
        wanted = join(name, adapter.name)
        self._cover(
            self._name(adapter.down, wanted), [_Part("rank", down, parts[0].src, rank, None)], _matrix(adapter.down)
        )
        ups = [_Part(part.label, _LOW_RANK, rank, part.dst, part.window) for part in parts]
        self._cover(self._name(adapter.up, wanted), ups, _matrix(adapter.up))
        for tensor, kind in ((adapter.shift, EdgeKind.BIAS), (adapter.magnitude, EdgeKind.NORM_SCALE)):
            if tensor is not None:
                self._cover(self._name(tensor, wanted), [_vector(part, kind) for part in parts], _VECTOR)


def _vector(part: _Part, kind: EdgeKind) -> _Part:
    """One number an output of a part."""
    return replace(part, role=replace(part.role, kind=kind), src=None)


def _matrix(tensor: Tensor) -> tuple[str, ...]:
    return ("out", "in", *["tap"] * (tensor.ndim - 2))
