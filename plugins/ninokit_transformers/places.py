"""The groups of neurons of a transformer, place by place, and the structural edges that join them."""

from __future__ import annotations

from dataclasses import dataclass

from ninokit.errors import UnsupportedModelError
from ninokit.graph import EdgeKind, GraphBuilder, Neurons
from ninokit_transformers.roles import FIXED_PLACES, Role
from ninokit_transformers.tables import join

__all__ = ["Attention", "Places"]


@dataclass(frozen=True)
class Attention:
    """How attention is cut into heads.

    Args:
        heads: of queries.
        kv_heads: of keys and values; each serves as many consecutive heads of queries.
        rotary: whether queries and keys are rotated by position, which gives the neurons of a head an order.
    """

    heads: int
    kv_heads: int
    rotary: bool

    @property
    def grouped(self) -> bool:
        """Whether several heads share their keys and values."""
        return self.kv_heads < self.heads


class Places:
    """The neurons that stand in each place, as far as the network has been followed.

    Args:
        builder: which gets the groups and the structural edges.
        attention: how attention is cut into heads.
        returns_stream: whether the network returns the stream itself, so that the order of its neurons counts.
    """

    def __init__(self, builder: GraphBuilder, attention: Attention, *, returns_stream: bool) -> None:
        self._builder = builder
        self._attention = attention
        self._returns_stream = returns_stream
        self._standing: dict[str, Neurons] = {}
        self._origins: dict[str, Neurons] = {}  # group of the stream → the first one whose neurons it goes on from
        self._biased_heads: Neurons | None = None

    def standing(self, place: str) -> Neurons:
        """The neurons that stand in a place.

        Raises:
            UnsupportedModelError: if there are none.
        """
        if place not in self._standing:
            raise UnsupportedModelError(f"no neurons stand in the place {place!r} where a parameter needs them")
        return self._standing[place]

    def read(self, place: str, name: str, size: int) -> Neurons:
        """The neurons in a place; inputs of the network, if nothing has written there.

        Args:
            place: where.
            name: of the module that reads.
            size: how many it expects, if they are inputs.
        """
        if place not in self._standing:
            self._standing[place] = self._builder.neurons(join(name, place), size, rigid=size)
        return self._standing[place]

    def write(self, role: Role, name: str, size: int) -> Neurons:
        """The neurons that a parameter writes to, made if they are not there.

        Args:
            role: the parameter's.
            name: of the module that writes.
            size: how many.
        """
        before = self._standing.get(role.writes)
        if before is not None and role.begins is None:
            made = before
        else:
            made = self._make(role.writes, name, size)
            if before is not None and role.begins == "sum":
                self._continue(before, made)
        self._standing[role.writes] = made
        if role.reads == "tokens":
            self._standing["embedded"] = made
        return made

    def close(self, role: Role) -> None:
        """Take away the neurons that nothing reads after a parameter of this role."""
        for place in role.closes:
            self._standing.pop(place, None)

    def begin_decoder(self, name: str) -> None:
        """The stream becomes the memory of another one, which begins with the same token embedding if there is one.

        Args:
            name: of the decoder.
        """
        self._standing["memory"] = self._standing.pop("stream")
        embedded = self._standing.get("embedded")
        if embedded is not None:
            self._standing["stream"] = self._neurons("stream", name, embedded.size)
            self._continue(embedded, self._standing["stream"])

    def use_tokens_as_outputs(self) -> None:
        """The token table is read backwards: its tokens are the outputs, its columns the neurons of the stream."""
        self._standing["outputs"] = self.standing("tokens")
        embedded, stream = self.standing("embedded"), self.standing("stream")
        if self._origin(stream) != self._origin(embedded):
            self._continue(embedded, stream)

    def bias_heads(self, *, here: bool) -> None:
        """One table of position buckets by heads serves a stack of layers, whose heads therefore have the same indices.

        Args:
            here: whether the table stands in this layer.
        """
        heads = self.standing("heads")
        if here:
            self._biased_heads = heads
        elif self._biased_heads is not None:
            self._builder.edges(EdgeKind.RESIDUAL, self._biased_heads, heads, groups=heads.size)

    def _make(self, place: str, name: str, size: int) -> Neurons:
        makers = {
            "query": self._queries,
            "key": self._keys,
            "value": self._values,
            "head_dims": self._head_dims,
            "expert_hidden": self._expert_hidden,
        }
        return makers[place](name, size) if place in makers else self._neurons(place, name, size)

    def _queries(self, name: str, size: int) -> Neurons:
        heads, kv_heads = self._attention.heads, self._attention.kv_heads
        queries = self._neurons("query", name, size, self._query_runs(size))
        self._standing["heads"] = self._neurons("heads", name, heads, heads // kv_heads)
        self._builder.edges(EdgeKind.ATTENTION_HEAD, self._standing["heads"], queries, groups=heads)
        return queries

    def _query_runs(self, size: int) -> int:
        """Query neurons whose inner order is fixed.

        Rotation gives a head's neurons an order. Heads that share a key have it too, since one order of the key's
        neurons has to fit them all, and an order among themselves, by which the output projection tells them apart.
        """
        if self._attention.grouped:
            return size // self._attention.kv_heads
        return size // self._attention.heads if self._attention.rotary else 1

    def _keys(self, name: str, size: int) -> Neurons:
        if not self._attention.grouped:
            return self.standing("query")
        keys = self._neurons("key", name, size, size // self._attention.kv_heads)
        kv_heads = self._neurons("kv_heads", name, self._attention.kv_heads)
        self._standing["kv_heads"] = kv_heads
        for joined in (keys, self.standing("heads")):
            self._builder.edges(EdgeKind.ATTENTION_HEAD, kv_heads, joined, groups=kv_heads.size)
        return keys

    def _values(self, name: str, size: int) -> Neurons:
        values = self._neurons("value", name, size)
        heads = self.standing("kv_heads" if self._attention.grouped else "heads")
        self._builder.edges(EdgeKind.ATTENTION_HEAD, heads, values, groups=heads.size)
        return values

    def _head_dims(self, name: str, size: int) -> Neurons:
        dims = self._neurons("head_dims", name, size, size)
        self._builder.edges(EdgeKind.ATTENTION_HEAD, self.standing("heads"), dims)
        return dims

    def _expert_hidden(self, name: str, size: int) -> Neurons:
        hidden, experts = self._neurons("expert_hidden", name, size), self.standing("experts")
        self._builder.edges(EdgeKind.ATTENTION_HEAD, experts, hidden, groups=experts.size)
        return hidden

    def _continue(self, before: Neurons, after: Neurons) -> None:
        self._builder.edges(EdgeKind.RESIDUAL, before, after, groups=after.size)
        self._origins[after.name] = self._origin(before)

    def _origin(self, group: Neurons) -> Neurons:
        return self._origins.get(group.name, group)

    def _neurons(self, place: str, name: str, size: int, rigid: int = 1) -> Neurons:
        fixed = place in FIXED_PLACES or (place == "stream" and self._returns_stream)
        return self._builder.neurons(join(name, place), size, rigid=size if fixed else rigid)
