import hashlib

import pytest
import torch
from torch import nn

import ninokit
from ninokit.errors import CheckpointError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph
from ninokit.nowcasters import Nino, Wnn, load
from ninokit.nowcasters.published import published_wiring, read_published, to_published

# Of /checkpoints in the publisher's repository.
PUBLISHED_SHA256 = {
    "nino_no_posw.pt": "2e2186e4a0e50193080eb9074648786ef25cd5ac3149a7df790127fe41101620",
    "nino_mlp.pt": "34d9ff3703274fa07615e27937dac8ea07f375ed95b5bde6d39abd8c41c06f52",
    "nino_mlp_h32.pt": "389e4d51e79a72bb9d780812504c98146073cc2a96da38be3b72d8abe0b6fd7d",
}


def write(folder, content, name="model.pt") -> dict[str, str]:
    path = folder / name
    torch.save(content, path)
    return {"path": path, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("nowcaster", [Nino(16), Wnn(16), Nino(8, 4, 12, layers=3), Wnn(8, 3, 7)])
def test_written_and_read_it_is_the_same(tmp_path, nowcaster):
    again = read_published(**write(tmp_path, to_published(nowcaster)))
    assert isinstance(again, type(nowcaster))
    assert (again.context, again.max_horizon) == (nowcaster.context, nowcaster.max_horizon)
    assert again.state_dict().keys() == nowcaster.state_dict().keys()
    for name, tensor in nowcaster.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_read_under_other_defaults_it_is_the_same(tmp_path):
    nowcaster = Wnn(8, 3, 7)
    file, before = write(tmp_path, to_published(nowcaster)), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        again = read_published(**file)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in nowcaster.state_dict().items())


@pytest.mark.parametrize("name", sorted(PUBLISHED_SHA256))
def test_published_files_round_trip(shared_folder, name):
    path = shared_folder / "weights" / name
    theirs = torch.load(path, weights_only=True)
    ours = to_published(load(path))["state_dict"]
    assert ours.keys() == theirs["state_dict"].keys()
    for key, tensor in theirs["state_dict"].items():
        if key.startswith("gnn.convs.2."):  # nothing reads the last convolution
            assert not ours[key].any()
        else:
            assert torch.equal(ours[key], tensor)


def test_another_hash_is_refused_before_the_file_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, to_published(Wnn(8)))["path"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was read"))
    with pytest.raises(CheckpointError) as caught:
        load(path, sha256="0" * 64)
    assert str(caught.value) == (
        f"{path}: expected sha256 {'0' * 64}, got {found}; the file is damaged, altered, or another one: fetch it again"
    )


def test_a_published_name_needs_the_published_file(tmp_path):
    path = write(tmp_path, to_published(Wnn(8)), "nino_mlp.pt")["path"]
    with pytest.raises(CheckpointError, match=f"expected sha256 {PUBLISHED_SHA256['nino_mlp.pt']}, got "):
        load(path)


def test_an_unknown_name_needs_a_hash(tmp_path):
    path = write(tmp_path, to_published(Wnn(8)))["path"]
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}: no published checkpoint has this file name (they are ['nino_mlp.pt', 'nino_mlp_h32.pt', "
        f"'nino_no_posw.pt']); if you trust the file, load it with ninokit.nowcasters.load(path, sha256=…), or "
        f"nowcaster_sha256=… on the command line"
    )


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "nino_mlp.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'nino_mlp.pt'}: can't be read (No such file or directory); give the path of a checkpoint"
    )


def altered(change) -> dict:
    content = to_published(Nino(8))
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            altered(lambda c: c["state_dict"].update({"gnn.convs.1.lin.bias": torch.zeros(9)})),
            "gnn.convs.1.lin.bias: expected shape (8,), got (9,)",
        ),
        (altered(lambda c: c["state_dict"].pop("edge_out.fc.0.bias")), "the tensor 'edge_out.fc.0.bias' is missing"),
        (
            altered(lambda c: c["state_dict"].pop("layer_embed.weight")),
            "the tensor 'layer_embed.weight' is missing or has too few axes",
        ),
        (
            altered(lambda c: c["state_dict"].update({"towers.weight": torch.zeros(9)})),
            "nothing reads the tensor 'towers.weight'; this is a model of another form",
        ),
        (
            altered(lambda c: c["model_args"].pop("wte_pos_enc")),
            "was trained with GPT-2's word positions, which other networks lack; use nino_no_posw.pt",
        ),
        ({"weights": 1}, "expected a dictionary with 'state_dict' and 'model_args', got ['weights']"),
        ([1], "expected a dictionary, got list"),
        ({"state_dict": {"a": 1}, "model_args": {}}, "'state_dict' holds other things than tensors by name"),
        (
            altered(lambda c: c.update(model_args=None)),
            "expected a dictionary with 'state_dict' and 'model_args', got ['model_args', 'state_dict']",
        ),
        (
            altered(lambda c: c["state_dict"].update({"gnn.convs.7.lin.bias": torch.zeros(8)})),
            "nothing reads the tensor 'gnn.convs.7.lin.bias'; this is a model of another form",
        ),
    ],
)
def test_a_model_of_another_form_is_refused(tmp_path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(CheckpointError) as caught:
        read_published(**file)
    assert str(caught.value) == f"{file['path']}: {message}"


def test_a_file_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="is no PyTorch checkpoint of plain tensors"):
        read_published(path, sha256=hashlib.sha256(b"not a checkpoint").hexdigest())


class TestPublishedWiring:
    def graph(self, keys_bias_onto: str) -> NeuralGraph:
        """Of queries and keys of three neurons on a stream of three, with their biases beside them."""
        names = ("query", "query_bias", "key", "key_bias")
        model = nn.ParameterDict({name: torch.zeros(3, 3) if "_" not in name else torch.zeros(3) for name in names})
        builder = GraphBuilder(model)
        neurons = {name: builder.neurons(name, 3) for name in ("stream", "queries")}
        builder.edges(EdgeKind.QUERY, *neurons.values(), parameter="query", axes="dst src")
        builder.vector(EdgeKind.BIAS, neurons["queries"], parameter="query_bias")
        builder.edges(EdgeKind.KEY, neurons["queries"], neurons["stream"], parameter="key", axes="src dst")
        builder.vector(EdgeKind.BIAS, neurons[keys_bias_onto], parameter="key_bias")
        return builder.build()

    def test_the_bias_of_a_key_acts_on_what_the_key_reads(self):
        assert published_wiring(self.graph("queries")) == self.graph("stream")

    @pytest.mark.parametrize("bias_onto", ["queries", "stream"])
    def test_a_fused_weight_and_its_bias(self, bias_onto):
        """Queries, keys and values are thirds of one weight, and of the bias after it."""

        def graph(bias_onto):
            builder = GraphBuilder(nn.Linear(3, 9))
            neurons = {name: builder.neurons(name, 3) for name in ("stream", "queries", "values")}
            ends = {"QUERY": "stream queries", "KEY": "queries stream", "VALUE": "stream values"}
            for third, (kind, (src, dst)) in enumerate((kind, names.split()) for kind, names in ends.items()):
                axes = "src dst" if kind == "KEY" else "dst src"
                window = {0: (3 * third, 3 * third + 3)}
                builder.edges(EdgeKind[kind], neurons[src], neurons[dst], parameter="weight", axes=axes, window=window)
            for third, name in enumerate(("queries", bias_onto, "values")):
                window = {0: (3 * third, 3 * third + 3)}
                node = builder.neurons(f"bias {third}", 1)
                builder.edges(EdgeKind.BIAS, node, neurons[name], parameter="bias", axes="dst", window=window)
            return builder.build()

        assert published_wiring(graph(bias_onto)) == graph("stream")

    def test_a_key_without_bias_leaves_that_of_the_values_alone(self):
        model = nn.ParameterDict({"key": torch.zeros(3, 3), "value": torch.zeros(3, 3), "value_bias": torch.zeros(3)})
        builder = GraphBuilder(model)
        stream, queries, values = (builder.neurons(name, 3) for name in ("stream", "queries", "values"))
        builder.edges(EdgeKind.KEY, queries, stream, parameter="key", axes="src dst")
        builder.edges(EdgeKind.VALUE, stream, values, parameter="value", axes="dst src")
        builder.vector(EdgeKind.BIAS, values, parameter="value_bias")
        graph = builder.build()
        assert published_wiring(graph) is graph

    def test_another_graph_stays_itself(self, cnn):
        graph = ninokit.encode(cnn)
        assert published_wiring(graph) is graph

    def test_positions_given_are_kept_and_others_are_of_the_new_wires(self):
        given = torch.randn(8, 8)
        assert torch.equal(published_wiring(self.graph("queries").with_positions(given)).positions, given)
        assert torch.equal(published_wiring(self.graph("queries")).positions, self.graph("stream").positions)

    @pytest.mark.parametrize("form", ["forecast", "forecast_with_dgl"])
    def test_a_published_nowcaster_wires_it_so(self, tmp_path, form, request):
        if form == "forecast_with_dgl":
            request.getfixturevalue("dgl_installed")
        nowcaster = read_published(**write(tmp_path, to_published(Nino(hidden=8))))
        plain = Nino(hidden=8)
        plain.load_state_dict(nowcaster.state_dict())
        ours, theirs = self.graph("queries"), self.graph("stream")
        history = {name: torch.randn(5, *shape) for name, shape in ours.parameters.items()}
        found = dict(getattr(nowcaster, form)(ours, history, 5))
        expected = dict(getattr(plain, form)(theirs, history, 5))
        assert all(torch.equal(found[name], expected[name]) for name in expected)
