"""The proof can fail: graphs of transformers with one fault each are found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import nn
from transformer_networks import Answers, huggingface, text, translation

from ninokit.errors import EncodingError
from ninokit.graph import EdgeKind, Edges, NeuralGraph, Neurons
from ninokit.graph.views import make_view
from ninokit.testing import check_encoding
from ninokit_transformers.encoder import encode


def with_blocks(graph: NeuralGraph, change: Callable[[Edges], Edges | None]) -> NeuralGraph:
    """Every block changed, or left out; at least one is."""
    blocks = tuple(new for block in graph.edges if (new := change(block)) is not None)
    assert blocks != graph.edges
    return NeuralGraph(graph.neurons, blocks, graph.parameters)


def with_groups(graph: NeuralGraph, ending: str, **changes: int) -> NeuralGraph:
    """Groups whose name has this ending changed."""

    def new(group: Neurons) -> Neurons:
        return replace(group, **changes) if group.name.endswith(ending) else group

    groups = tuple(map(new, graph.neurons))
    assert groups != graph.neurons
    blocks = tuple(replace(block, src=new(block.src), dst=new(block.dst)) for block in graph.edges)
    return NeuralGraph(groups, blocks, graph.parameters)


def group_of(graph: NeuralGraph, ending: str) -> Neurons:
    """The first group whose name has this ending."""
    return next(group for group in graph.neurons if group.name.endswith(ending))


def swapped_axes(ending: str) -> Callable[[NeuralGraph], NeuralGraph]:
    """A square weight read the other way round."""

    def change(block: Edges) -> Edges:
        if not str(block.parameter).endswith(ending):
            return block
        axes = ["dst src", "src dst"]
        views = [make_view(view_shape(block), a, expected=expected(block), window=window(block)) for a in axes]
        return replace(block, view=views[1 - views.index(block.view)])

    return lambda graph: with_blocks(graph, change)


def view_shape(block: Edges) -> tuple[int, int]:
    return tuple(stop for _, stop in block.view.window)


def window(block: Edges) -> dict[int, tuple[int, int]]:
    return dict(enumerate(block.view.window))


def expected(block: Edges) -> dict[str, int]:
    return dict(zip(("group", "dst", "src"), block.shape, strict=True))


def key_and_value_exchanged(graph: NeuralGraph) -> NeuralGraph:
    names = {"k_proj": "v_proj", "v_proj": "k_proj"}

    def change(block: Edges) -> Edges:
        module = next((name for name in names if name in str(block.parameter)), None)
        return block if module is None else replace(block, parameter=block.parameter.replace(module, names[module]))

    return with_blocks(graph, change)


def without_ties(src: str, dst: str) -> Callable[[NeuralGraph], NeuralGraph]:
    """Structural diagonals between groups of these endings left out."""

    def change(block: Edges) -> Edges | None:
        gone = block.kind is EdgeKind.RESIDUAL and block.src.name.endswith(src) and block.dst.name.endswith(dst)
        return None if gone else block

    return lambda graph: with_blocks(graph, change)


def without_heads(dst: str) -> Callable[[NeuralGraph], NeuralGraph]:
    """Heads that do not lead to groups of this ending."""

    def change(block: Edges) -> Edges | None:
        return None if block.kind is EdgeKind.ATTENTION_HEAD and block.dst.name.endswith(dst) else block

    return lambda graph: with_blocks(graph, change)


def projection_reads_queries(graph: NeuralGraph) -> NeuralGraph:
    """As in the published graphs of grouped attention: a dense block from the query neurons."""

    def change(block: Edges) -> Edges:
        if "o_proj" not in str(block.parameter):
            return block
        query = next(g for g in graph.neurons if g.name == block.parameter.replace("o_proj.weight", "q_proj.query"))
        view = make_view((block.dst.size, query.size), "dst src", expected={"group": 1, "dst": 16, "src": query.size})
        return replace(block, src=query, groups=1, shared=None, view=view)

    return with_blocks(graph, change)


def projection_confuses_heads_and_values(graph: NeuralGraph) -> NeuralGraph:
    """Neurons of a value and heads that share it in the other order."""

    def change(block: Edges) -> Edges:
        if "o_proj" not in str(block.parameter):
            return block
        shape, plan = view_shape(block), expected(block)
        return replace(block, view=make_view(shape, "dst (group src tap)", expected=plan))

    return with_blocks(graph, change)


def gate_elsewhere(graph: NeuralGraph) -> NeuralGraph:
    """Hidden neurons of the gate that are others than those of what it gates, which alone go on."""
    other = Neurons("other hidden", group_of(graph, "layers.0.mlp.gate_proj.hidden").size)

    def change(block: Edges) -> Edges:
        return replace(block, dst=other) if "layers.0.mlp.gate_proj" in str(block.parameter) else block

    changed = [change(block) for block in graph.edges]
    onwards = Edges(EdgeKind.ATTENTION_HEAD, other, group_of(graph, "layers.0.self_attn.o_proj.stream"))
    return NeuralGraph((*graph.neurons, other), (*changed, onwards), graph.parameters)


def query_elsewhere(graph: NeuralGraph) -> NeuralGraph:
    """A key whose neurons are those of the value."""

    def change(block: Edges) -> Edges:
        if block.kind is not EdgeKind.KEY:
            return block
        return replace(block, src=group_of(graph, block.parameter.replace("k_proj.weight", "v_proj.value")))

    return with_blocks(graph, change)


def llama(**settings) -> tuple[nn.Module, dict]:
    return huggingface("Llama", "ForCausalLM", num_hidden_layers=1, **settings), text()


def bert() -> tuple[nn.Module, dict]:
    return huggingface("Bert", "ForMaskedLM", num_hidden_layers=1), text()


def t5() -> tuple[nn.Module, dict]:
    return Answers(huggingface("T5", "ForConditionalGeneration")), translation()


def mixtral() -> tuple[nn.Module, dict]:
    return huggingface("Mixtral", "ForCausalLM", num_hidden_layers=1), text()


def alike() -> tuple[nn.Module, dict]:
    """As many keys as queries."""
    return llama(num_key_value_heads=4)


FAULTS: dict[str, tuple[Callable[[], tuple[nn.Module, dict]], Callable[[NeuralGraph], NeuralGraph]]] = {
    "axes of a query": (bert, swapped_axes("query.weight")),
    "axes of a key": (bert, swapped_axes("key.weight")),
    "axes of an output projection": (alike, swapped_axes("o_proj.weight")),
    "key wired as value": (alike, key_and_value_exchanged),
    "key wired as value, grouped": (llama, key_and_value_exchanged),
    "key on the value's neurons": (alike, query_elsewhere),
    "residual of attention not tied": (llama, without_ties("embed_tokens.stream", "o_proj.stream")),
    "residual of a feed-forward layer not tied": (bert, without_ties("attention.output.dense.stream", "dense.stream")),
    "heads under one table not tied": (t5, without_ties("heads", "heads")),
    "queries without heads": (alike, without_heads("query")),
    "values without heads": (bert, without_heads("value")),
    "heads without the keys that they share": (llama, without_heads("heads")),
    "keys without heads, grouped": (llama, without_heads("key")),
    "values without heads, grouped": (llama, without_heads("value")),
    "rotated queries out of order": (alike, lambda graph: with_groups(graph, "query", rigid=1)),
    "grouped queries out of order": (
        llama,
        lambda graph: with_groups(with_groups(graph, "query", rigid=4), ".heads", rigid=1),
    ),
    "grouped keys out of order": (llama, lambda graph: with_groups(graph, "key", rigid=1)),
    "grouped projection reads query neurons": (llama, projection_reads_queries),
    "grouped projection confuses heads and values": (llama, projection_confuses_heads_and_values),
    "gate of other hidden neurons": (llama, gate_elsewhere),
    "experts not tied to the router": (mixtral, without_heads("expert_hidden")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(name):
    build, spoil = FAULTS[name]
    model, inputs = build()
    graph = encode(model)
    check_encoding(model, inputs, graph)
    with pytest.raises(EncodingError, match=r"^\w+: neurons that the graph calls interchangeable are not; "):
        check_encoding(model, inputs, spoil(graph))


@pytest.mark.parametrize(("family", "heads"), [("Bert", 2), ("Bert", 8), ("GPT2", 4)])
def test_heads_cut_wrongly(family, heads):
    model = huggingface(family, {"Bert": "ForMaskedLM", "GPT2": "LMHeadModel"}[family])
    model.config.num_attention_heads = heads  # the layers have been made with another number
    with pytest.raises(EncodingError, match=r"^\w+: neurons that the graph calls interchangeable are not; "):
        check_encoding(model, text(), encode(model))
