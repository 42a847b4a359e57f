"""What the graphs of transformers look like: which neurons, joined by which parameters."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from transformer_networks import huggingface, text, vision_transformer

from ninokit.graph import EdgeKind, Edges, NeuralGraph
from ninokit.testing import check_encoding
from ninokit_transformers.encoder import encode


def rows(graph: NeuralGraph, prefix: str) -> list[tuple]:
    """The blocks whose parameter, or source and destination, begin with a prefix, which is left out."""

    def short(name: str) -> str:
        return name.removeprefix(prefix)

    return [
        (short(str(b.parameter or "–")), b.kind.name, short(b.src.name), short(b.dst.name), *cut(b))
        for b in graph.edges
        if (b.parameter or b.dst.name).startswith(prefix)
    ]


def cut(block: Edges) -> tuple:
    """Slices and taps, where there are several."""
    return (block.groups, block.num_taps, block.shared) if block.groups > 1 else ()


def sizes(graph: NeuralGraph, prefix: str) -> dict[str, tuple[int, int]]:
    """Size and rigid runs of groups of several neurons."""
    named = {g.name.removeprefix(prefix): (g.size, g.rigid) for g in graph.neurons if g.name.startswith(prefix)}
    return {name: numbers for name, numbers in named.items() if numbers != (1, 1)}


def carrying(graph: NeuralGraph, parameter: str) -> Edges:
    (block,) = graph.blocks[parameter]
    return block


def test_gpt2_layer():
    graph = encode(huggingface("GPT2", "LMHeadModel"))
    layer, before = "transformer.h.1.", "transformer.h.0.mlp.c_proj.stream"
    assert sizes(graph, layer) == {
        "attn.c_attn.query": (8, 1),
        "attn.c_attn.heads": (2, 1),
        "attn.c_attn.value": (8, 1),
        "attn.c_proj.stream": (8, 1),
        "mlp.c_fc.hidden": (32, 1),
        "mlp.c_proj.stream": (8, 1),
    }
    assert rows(graph, layer) == [
        ("ln_1.weight", "NORM_SCALE", "ln_1.weight", before),
        ("ln_1.bias", "BIAS", "ln_1.bias", before),
        ("–", "ATTENTION_HEAD", "attn.c_attn.heads", "attn.c_attn.query", 2, 1, None),
        ("–", "ATTENTION_HEAD", "attn.c_attn.heads", "attn.c_attn.value", 2, 1, None),
        ("attn.c_attn.weight", "QUERY", before, "attn.c_attn.query"),
        ("attn.c_attn.weight", "KEY", "attn.c_attn.query", before),
        ("attn.c_attn.weight", "VALUE", before, "attn.c_attn.value"),
        ("attn.c_attn.bias", "BIAS", "attn.c_attn.bias[query]", "attn.c_attn.query"),
        ("attn.c_attn.bias", "BIAS", "attn.c_attn.bias[key]", "attn.c_attn.query"),
        ("attn.c_attn.bias", "BIAS", "attn.c_attn.bias[value]", "attn.c_attn.value"),
        ("–", "RESIDUAL", before, "attn.c_proj.stream", 8, 1, None),
        ("attn.c_proj.weight", "LINEAR", "attn.c_attn.value", "attn.c_proj.stream"),
        ("attn.c_proj.bias", "BIAS", "attn.c_proj.bias", "attn.c_proj.stream"),
        ("ln_2.weight", "NORM_SCALE", "ln_2.weight", "attn.c_proj.stream"),
        ("ln_2.bias", "BIAS", "ln_2.bias", "attn.c_proj.stream"),
        ("mlp.c_fc.weight", "LINEAR", "attn.c_proj.stream", "mlp.c_fc.hidden"),
        ("mlp.c_fc.bias", "BIAS", "mlp.c_fc.bias", "mlp.c_fc.hidden"),
        ("–", "RESIDUAL", "attn.c_proj.stream", "mlp.c_proj.stream", 8, 1, None),
        ("mlp.c_proj.weight", "LINEAR", "mlp.c_fc.hidden", "mlp.c_proj.stream"),
        ("mlp.c_proj.bias", "BIAS", "mlp.c_proj.bias", "mlp.c_proj.stream"),
    ]


def test_fused_projection_is_read_slice_by_slice():
    model = huggingface("GPT2", "LMHeadModel")
    weight = model.transformer.h[0].attn.c_attn.weight  # (in, out)
    blocks = encode(model).blocks["transformer.h.0.attn.c_attn.weight"]
    query, key, value = (block.view(weight)[0, :, :, 0] for block in blocks)
    assert torch.equal(query, weight[:, :8].T)
    assert torch.equal(key, weight[:, 8:16])  # from query neurons to the stream
    assert torch.equal(value, weight[:, 16:].T)


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_and_outputs(tied):
    graph = encode(huggingface("GPT2", "LMHeadModel", tie_word_embeddings=tied))
    tables = sizes(graph, "transformer.w")
    assert tables == {"te.tokens": (11, 11), "te.stream": (8, 1), "pe.positions": (16, 16)}
    outputs = [block for block in graph.edges if block.dst.name == "lm_head.outputs"]
    assert [(block.parameter, block.src.name) for block in outputs] == (
        [] if tied else [("lm_head.weight", "transformer.h.1.mlp.c_proj.stream")]
    )


def test_bert_layer_has_its_norms_after_the_sums():
    graph = encode(huggingface("Bert", "ForMaskedLM"))
    layer = "bert.encoder.layer.0."
    assert {name: dst for name, dst in norms(graph).items() if name.startswith(layer)} == {
        f"{layer}attention.output.LayerNorm.weight": f"{layer}attention.output.dense.stream",
        f"{layer}output.LayerNorm.weight": f"{layer}output.dense.stream",
    }


def norms(graph: NeuralGraph) -> dict[str, str]:
    """Scale → the neurons on which it acts."""
    return {str(b.parameter): b.dst.name for b in graph.edges if b.kind is EdgeKind.NORM_SCALE}


def test_norms_of_torch_stand_before_or_after_the_sums():
    layer = nn.TransformerDecoderLayer(8, 2, 12, norm_first=True)
    assert norms(encode(layer)) == {
        "norm1.weight": "norm1.stream",
        "norm2.weight": "self_attn.out_proj.stream",
        "norm3.weight": "multihead_attn.out_proj.stream",
    }
    layer = nn.TransformerDecoderLayer(8, 2, 12, norm_first=False)
    assert norms(encode(layer)) == {
        "norm1.weight": "self_attn.out_proj.stream",
        "norm2.weight": "multihead_attn.out_proj.stream",
        "norm3.weight": "linear2.stream",
    }
    for norm_first, ends in ((True, ("norm1", "self_attn.out_proj")), (False, ("self_attn.out_proj", "linear2"))):
        layer = nn.TransformerEncoderLayer(8, 2, 12, norm_first=norm_first)
        assert list(norms(encode(layer)).values()) == [f"{end}.stream" for end in ends]


def test_norms_of_what_is_added():
    graph = encode(huggingface("Gemma2", "ForCausalLM"))
    layer, before = "model.layers.0.", "model.embed_tokens.stream"
    found = {name.removeprefix(layer): dst for name, dst in norms(graph).items() if name.startswith(layer)}
    assert found == {
        "input_layernorm.weight": before,
        "post_attention_layernorm.weight": f"{layer}self_attn.o_proj.stream",
        "pre_feedforward_layernorm.weight": f"{layer}self_attn.o_proj.stream",
        "post_feedforward_layernorm.weight": f"{layer}mlp.down_proj.stream",
    }


def test_tied_masked_language_model():
    """The token table is read again by neurons that no residual joins to its columns, and the bias acts on tokens."""
    graph = encode(huggingface("Bert", "ForMaskedLM"))
    transformed = "cls.predictions.transform.dense.stream"
    (tie,) = [b for b in graph.edges if b.kind is EdgeKind.RESIDUAL and b.dst.name == transformed]
    assert (tie.src.name, tie.pattern) == ("bert.embeddings.word_embeddings.stream", "diagonal")
    assert carrying(graph, "cls.predictions.bias").dst.name == "bert.embeddings.word_embeddings.tokens"
    untied = encode(huggingface("Bert", "ForMaskedLM", tie_word_embeddings=False))
    assert not [b for b in untied.edges if b.kind is EdgeKind.RESIDUAL and b.dst.name == transformed]
    for name in ("bias", "decoder.bias"):
        assert carrying(untied, f"cls.predictions.{name}").dst.name == "cls.predictions.decoder.outputs"


def test_grouped_query_attention():
    """Four heads of 4 on two pairs of keys and values."""
    graph = encode(huggingface("Llama", "ForCausalLM"))
    attention, stream = "model.layers.0.self_attn.", "model.embed_tokens.stream"
    assert sizes(graph, attention) == {
        "q_proj.query": (16, 8),  # two heads of one key move as one
        "q_proj.heads": (4, 2),
        "k_proj.key": (8, 4),  # rotated
        "k_proj.kv_heads": (2, 1),
        "v_proj.value": (8, 1),
        "o_proj.stream": (16, 1),
    }
    assert rows(graph, attention) == [
        ("–", "ATTENTION_HEAD", "q_proj.heads", "q_proj.query", 4, 1, None),
        ("q_proj.weight", "QUERY", stream, "q_proj.query"),
        ("–", "ATTENTION_HEAD", "k_proj.kv_heads", "k_proj.key", 2, 1, None),
        ("–", "ATTENTION_HEAD", "k_proj.kv_heads", "q_proj.heads", 2, 1, None),
        ("k_proj.weight", "KEY", "k_proj.key", stream),
        ("–", "ATTENTION_HEAD", "k_proj.kv_heads", "v_proj.value", 2, 1, None),
        ("v_proj.weight", "VALUE", stream, "v_proj.value"),
        ("–", "RESIDUAL", stream, "o_proj.stream", 16, 1, None),
        ("o_proj.weight", "LINEAR", "v_proj.value", "o_proj.stream", 2, 2, "dst"),
    ]


def test_output_projection_of_grouped_queries_has_a_tap_a_head():
    model = huggingface("Llama", "ForCausalLM")
    weight = model.model.layers[0].self_attn.o_proj.weight
    read = carrying(encode(model), "model.layers.0.self_attn.o_proj.weight").view(weight)
    assert read.shape == (2, 16, 4, 2)
    for pair, out, neuron, head in torch.cartesian_prod(*map(torch.arange, read.shape)).tolist():
        assert read[pair, out, neuron, head] == weight[out, (pair * 2 + head) * 4 + neuron]


def test_as_many_keys_as_queries():
    graph = encode(huggingface("Llama", "ForCausalLM", num_key_value_heads=4))
    groups = sizes(graph, "model.layers.0.self_attn.")
    assert groups["q_proj.query"] == (16, 4)
    assert groups["q_proj.heads"] == (4, 1)
    assert not {"k_proj.key", "k_proj.kv_heads"} & groups.keys()
    key = carrying(graph, "model.layers.0.self_attn.k_proj.weight")
    assert key.src.name == "model.layers.0.self_attn.q_proj.query"
    assert carrying(graph, "model.layers.0.self_attn.o_proj.weight").groups == 1


def test_norms_of_heads_stand_on_neurons_of_their_own():
    """One number for each place in every head; rotation fixes these places."""
    graph = encode(huggingface("Qwen3", "ForCausalLM"))
    attention = "model.layers.0.self_attn."
    assert sizes(graph, attention)["q_norm.head_dims"] == (6, 6)
    assert [row for row in rows(graph, attention) if "norm" in row[0] or "dims" in row[3]] == [
        ("–", "ATTENTION_HEAD", "q_proj.heads", "q_norm.head_dims"),
        ("q_norm.weight", "NORM_SCALE", "q_norm.weight", "q_norm.head_dims"),
        ("k_norm.weight", "NORM_SCALE", "k_norm.weight", "q_norm.head_dims"),
    ]


@pytest.mark.parametrize(
    ("family", "parameters"),
    [("Llama", ["gate_proj.weight", "up_proj.weight"]), ("Phi3", ["gate_up_proj.weight"] * 2)],
)
def test_gate_and_what_it_gates_meet(family, parameters):
    graph = encode(huggingface(family, "ForCausalLM"))
    hidden = [b for b in graph.edges if b.dst.name.startswith("model.layers.0.mlp") and b.dst.name.endswith("hidden")]
    assert [block.parameter.removeprefix("model.layers.0.mlp.") for block in hidden] == parameters
    assert hidden[0].dst == hidden[1].dst
    assert {block.src.name for block in hidden} == {"model.layers.0.self_attn.o_proj.stream"}


def test_experts():
    graph = encode(huggingface("Mixtral", "ForCausalLM"))
    mlp, stream = "model.layers.0.mlp.", "model.layers.0.self_attn.o_proj.stream"
    hidden, after = "experts.expert_hidden", "experts.stream"
    assert sizes(graph, mlp) == {"gate.experts": (3, 1), hidden: (60, 1), after: (16, 1)}
    assert rows(graph, mlp) == [
        ("gate.weight", "LINEAR", stream, "gate.experts"),
        ("–", "ATTENTION_HEAD", "gate.experts", hidden, 3, 1, None),
        ("experts.gate_up_proj", "LINEAR", stream, hidden, 3, 1, "src"),
        ("experts.gate_up_proj", "LINEAR", stream, hidden, 3, 1, "src"),
        ("–", "RESIDUAL", stream, after, 16, 1, None),
        ("experts.down_proj", "LINEAR", hidden, after, 3, 1, "dst"),
    ]


def test_parallel_attention_and_feed_forward():
    graph = encode(huggingface("Phi", "ForCausalLM"))
    layer, before = "model.layers.0.", "model.embed_tokens.stream"
    for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.fc1"):
        assert carrying(graph, f"{layer}{name}.weight").src.name == before
    for name in ("self_attn.dense", "mlp.fc2"):
        assert carrying(graph, f"{layer}{name}.weight").dst.name == f"{layer}self_attn.dense.stream"
    assert [b.src.name for b in graph.edges if b.kind is EdgeKind.RESIDUAL] == [
        before,
        f"{layer}self_attn.dense.stream",
    ]


def test_encoder_and_decoder():
    graph = encode(huggingface("T5", "ForConditionalGeneration"))
    memory = "encoder.block.1.layer.1.DenseReluDense.wo.stream"
    cross = "decoder.block.0.layer.1.EncDecAttention."
    assert carrying(graph, f"{cross}k.weight").dst.name == memory
    assert carrying(graph, f"{cross}v.weight").src.name == memory
    assert carrying(graph, f"{cross}q.weight").src.name == "decoder.block.0.layer.0.SelfAttention.o.stream"
    ties = {(b.src.name, b.dst.name) for b in graph.edges if b.kind is EdgeKind.RESIDUAL}
    assert ("shared.stream", "decoder.stream") in ties
    for stack in ("encoder", "decoder"):
        first, second = (f"{stack}.block.{i}.layer.0.SelfAttention" for i in range(2))
        table = carrying(graph, f"{first}.relative_attention_bias.weight")
        assert (table.kind, table.src.size, table.src.rigid) == (EdgeKind.POSITION_EMBEDDING, 6, 6)
        assert (table.src.name, table.dst.name) == (f"{first}.relative_attention_bias.buckets", f"{first}.q.heads")
        assert (f"{first}.q.heads", f"{second}.q.heads") in ties
    assert not any("EncDec" in src and src.endswith("heads") for src, _ in ties)


def test_patches_are_taps():
    graph = encode(vision_transformer(patch_size=9))
    patches = graph.blocks["conv_proj.weight"]
    assert [block.num_taps for block in patches] == [9] * 9
    assert {(b.kind, b.src.name, b.src.size) for b in patches} == {(EdgeKind.CONVOLUTION, "conv_proj.channels", 3)}
    assert carrying(graph, "class_token").kind is EdgeKind.TOKEN_EMBEDDING
    assert carrying(graph, "encoder.pos_embedding").kind is EdgeKind.POSITION_EMBEDDING


def test_attention_of_other_vectors():
    graph = encode(nn.MultiheadAttention(8, 2, kdim=6, vdim=5, add_bias_kv=True))
    ends = {
        b.parameter + str(b.view.window[0] if "in_proj" in b.parameter else ""): (b.src.name, b.dst.name)
        for b in graph.edges
        if b.parameter
    }
    assert ends == {
        "q_proj_weight": ("stream", "query"),
        "k_proj_weight": ("query", "keys"),
        "v_proj_weight": ("values", "value"),
        "in_proj_bias(0, 8)": ("in_proj_bias[query]", "query"),
        "in_proj_bias(8, 16)": ("in_proj_bias[other_key]", "query"),
        "in_proj_bias(16, 24)": ("in_proj_bias[other_value]", "value"),
        "bias_k": ("bias_k", "query"),
        "bias_v": ("bias_v", "value"),
        "out_proj.weight": ("value", "out_proj.stream"),
        "out_proj.bias": ("out_proj.bias", "out_proj.stream"),
    }


def test_large_networks_need_no_edge_list():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(vocab_size=100_000, num_key_value_heads=8)  # 32 layers of 4096
    with torch.device("meta"):
        graph = encode(transformers.LlamaForCausalLM(config))
    assert graph.num_parameters > 6e9
    assert len(graph.edges) < 500
    positions = graph.positions.double()
    assert positions.shape == (graph.num_nodes, 8)
    assert torch.allclose(positions.T @ positions, torch.eye(8, dtype=torch.float64), atol=1e-5)


def test_encoding_neither_runs_nor_changes_the_model():
    model = huggingface("Llama", "ForCausalLM").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    encode(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_encoding_twice_gives_equal_graphs():
    model = huggingface("T5", "ForConditionalGeneration")
    assert encode(model) == encode(model)


def test_flag_named_bias_is_no_parameter():
    layer = nn.TransformerEncoderLayer(8, 2, 12, bias=False)
    expected = encode(layer)
    del layer.linear1.bias
    layer.linear1.bias = False
    assert encode(layer) == expected


def test_frozen_parameters_are_on_the_graph():
    model = huggingface("Llama", "ForCausalLM").requires_grad_(False)
    assert encode(model).num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_no_library_of_models_is_imported():
    code = (
        "import sys, torch, ninokit_transformers.encoder as e\n"
        "e.encode(torch.nn.TransformerEncoderLayer(4, 2, 8))\n"
        "assert not {'transformers', 'torchvision', 'peft'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Custom(nn.Module):
    """A user's wrapper, with no parameters of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.backbone(input_ids=input_ids).logits.softmax(-1)


def test_wrapped_model_keeps_its_names():
    model = huggingface("Llama", "ForCausalLM")
    graph, wrapped = encode(model), encode(Custom(model))
    assert list(wrapped.parameters) == [f"backbone.{name}" for name in graph.parameters]
    assert [group.name for group in wrapped.neurons] == [f"backbone.{group.name}" for group in graph.neurons]
    assert [block.groups for block in wrapped.edges] == [block.groups for block in graph.edges]
    check_encoding(Custom(model), text(), wrapped, min_share=0.98)


def test_compiled_layers_keep_their_names():
    model = huggingface("Llama", "ForCausalLM")
    for index, layer in enumerate(model.model.layers):
        model.model.layers[index] = torch.compile(layer)
    graph = encode(model)
    assert list(graph.parameters) == [name for name, _ in model.named_parameters()]
    assert "model.layers.0._orig_mod.self_attn.q_proj.weight" in graph.parameters


def test_subclass_is_of_its_parents_family():
    model = huggingface("Llama", "ForCausalLM")
    expected = encode(model)

    class Mine(type(model)):
        pass

    model.__class__ = Mine
    assert encode(model) == expected
