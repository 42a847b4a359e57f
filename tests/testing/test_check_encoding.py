"""Right graphs pass, and the report says how much was shown; what can't be checked is refused."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections import namedtuple

import pytest
import torch
from hand_made import (
    ConvNet,
    ResidualMLP,
    Transformer,
    conv_graph,
    edited,
    layer,
    mlp,
    mlp_graph,
    residual_graph,
    rewired,
    rotate,
    some_tokens,
    transformer_graph,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import ninokit
from ninokit.errors import EncodingError
from ninokit.graph import EdgeKind, GraphBuilder, NeuralGraph, Neurons
from ninokit.testing import check_encoding


class Quantised(nn.Module):
    """A frozen weight of whole numbers between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(5, 2)
        self.whole = nn.Parameter(torch.randint(-9, 9, (5, 6), dtype=torch.int8), requires_grad=False)

    def forward(self, x):
        return self.last(torch.relu(torch.relu(self.first(x)) @ self.whole.to(x.dtype).T))


def test_weights_of_whole_numbers_are_moved():
    model, inputs = Quantised(), torch.randn(3, 4)
    graph = ninokit.encode(model, inputs)
    assert check_encoding(model, inputs, graph, min_share=0.9).share > 0.9


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_a_hook_computes():
    model, inputs = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2)), torch.randn(3, 4)
    model(inputs)
    assert check_encoding(model, inputs, ninokit.encode(model, inputs), min_share=0.9).share > 0.9


NOT_INTERCHANGEABLE = "neurons that the graph calls interchangeable are not; moving them changes the output by"


def refusal(message: str) -> pytest.RaisesExc:
    """The whole message, or its start where a fault found follows."""
    end = "" if message.endswith(NOT_INTERCHANGEABLE) else "$"
    return pytest.raises(EncodingError, match=f"^{re.escape(message)}{end}")


# Hand-made graphs, with shares counted by hand.


def test_mlp():
    model = mlp(5, 8, 6, 3)
    report = check_encoding(model, torch.randn(4, 5), mlp_graph(model))
    total = 5 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3
    assert (report.moved_parameters, report.parameters) == (total - 3, total)  # the last bias stays
    assert report.share == (total - 3) / total
    assert (report.moved_groups, report.groups) == (2, 4)
    assert (report.moved_neurons, report.neurons) == (8 + 6, 5 + 8 + 6 + 3)
    assert report.fixed == {"g0": "input", "g3": "output"}
    assert report.silent == ()
    assert report.rounds == 3 + 2
    assert 0 <= report.change < 1e-12


def test_residual_mlp():
    model = ResidualMLP(5, 6, [6, 8], 3)
    report = check_encoding(model, torch.randn(4, 5), residual_graph(model))
    total = sum(p.numel() for p in model.parameters())
    assert (report.moved_parameters, report.parameters) == (total - 3, total)
    assert (report.moved_groups, report.groups) == (5, 7)  # s0, s1, s2, h0, h1
    assert report.fixed == {"in": "input", "out": "output"}


def test_convolutions_of_all_patterns():
    model = ConvNet()
    report = check_encoding(model, torch.randn(4, 3, 6, 6).repeat(1, 1, 2, 2)[..., :8, :8], conv_graph(model))
    total = sum(p.numel() for p in model.parameters())
    assert (report.moved_parameters, report.parameters) == (total - 5, total)
    assert (report.moved_neurons, report.neurons) == (8 + 12 + 12, 3 + 8 + 12 + 12 + 5)


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6])
def test_transformer(heads):
    model = Transformer(heads)
    report = check_encoding(model, some_tokens(model), transformer_graph(model))
    assert report.share == 1.0  # every parameter meets the stream or a hidden group
    assert report.fixed == {"vocabulary": "input", "places": "input", "logits": "output"}
    assert report.moved_groups == 6 + (heads > 1)  # s0, s1, s2, query, value, hidden, heads


def test_tied_embedding():
    """The vocabulary is input and output, and stays; the stream moves, and the output layer reads it."""
    model = Transformer(tied=True)
    report = check_encoding(model, some_tokens(model), transformer_graph(model))
    assert report.share == 1.0
    assert report.fixed == {"vocabulary": "input", "places": "input"}
    assert (report.moved_neurons, report.neurons) == (3 * 12 + 12 + 12 + 10 + 3, 3 * 12 + 12 + 12 + 10 + 3 + 11 + 6)


class Transformed(nn.Module):
    """As masked language models do: a layer between the stream and the tied output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.transform = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.transform(self.embed(tokens))))


def test_neurons_that_a_tied_layer_reads_move_with_the_embedding():
    model = Transformed()
    builder = GraphBuilder(model)
    vocabulary, stream, last = builder.neurons("vocabulary", 7), builder.neurons("s", 4), builder.neurons("t", 4)
    builder.edges(EdgeKind.TOKEN_EMBEDDING, vocabulary, stream, parameter="embed.weight", axes="src dst")
    layer(builder, "transform", stream, last)
    builder.vector(EdgeKind.BIAS, vocabulary, parameter="head.bias")
    report = check_encoding(model, torch.tensor([[0, 5, 2], [3, 3, 1]]), builder.build())
    assert report.moved_groups == 2
    assert report.rounds == 3 + 1 + 6  # one class of few neurons: both groups move alike


def test_rotary_heads_move_as_wholes():
    model = Transformer(rotary=True)
    report = check_encoding(model, some_tokens(model), transformer_graph(model, rigid=4))
    assert report.share == 1.0
    with refusal(f"Transformer: {NOT_INTERCHANGEABLE}"):
        check_encoding(model, some_tokens(model), transformer_graph(model))


def test_declared_rigid():
    model = mlp(5, 8, 6, 3)
    graph = mlp_graph(model)
    groups = {group.name: group for group in graph.neurons}
    rigid = {groups["g1"]: Neurons("g1", 8, 8)}
    neurons = [rigid.get(group, group) for group in graph.neurons]
    graph = edited(
        graph,
        lambda b: dataclasses.replace(b, src=rigid.get(b.src, b.src), dst=rigid.get(b.dst, b.dst)),
        neurons,
    )
    report = check_encoding(model, torch.randn(4, 5), graph)
    assert report.fixed == {"g0": "input", "g1": "declared rigid", "g3": "output"}
    assert report.moved_parameters == 8 * 6 + 6 + 6 * 3


def test_encodes_by_itself_and_sees_through_wrappers():
    model, inputs = mlp(5, 8, 3), torch.randn(4, 5)
    report = check_encoding(model, inputs)
    assert report.moved_neurons == 8
    assert check_encoding(nn.DataParallel(model), inputs) == report


@settings(max_examples=15)
@given(
    st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 5), max_size=3), st.integers(1, 3), st.integers(0, 99)
)
def test_any_residual_mlp(inputs, width, hidden, outputs, seed):
    model = ResidualMLP(inputs, width, hidden, outputs)
    graph = residual_graph(model)
    report = check_encoding(model, torch.randn(4, inputs), graph, seed=seed)
    assert report.fixed.keys() <= {"in", "out"}
    alone = hidden.count(1)  # the bias of a single neuron beside the stream stays, as the outputs' do
    assert width == 1 or report.moved_parameters == report.parameters - outputs - alone


# The model, and what goes into it and comes out of it.


def test_model_stays_as_it_is():
    model = ConvNet().train()
    before = copy.deepcopy(model.state_dict())
    images = torch.randn(4, 3, 8, 8)
    same = images.clone()
    random = torch.get_rng_state()
    check_encoding(model, images, conv_graph(model))
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert torch.equal(images, same)
    assert torch.get_default_dtype() == torch.float32


Named = namedtuple("Named", "first second")


@dataclasses.dataclass
class Output:
    logits: Tensor
    count: int
    cache: object


class Returns(nn.Module):
    """Several arguments; whatever is to be returned of the right answer (and a wrong one that is not looked at)."""

    def __init__(self, answer, *, wrong: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)
        self.answer, self.wrong = answer, wrong

    def forward(self, x: Tensor, scale: Tensor | float = 1.0, *, shift: float = 0.0) -> object:
        hidden = torch.tanh(self.first(x)) * scale + shift
        return self.answer(self.second(hidden), hidden)


def returns_graph(model: Returns) -> NeuralGraph:
    builder = GraphBuilder(model)
    a, b, c = (builder.neurons(name, size) for name, size in zip("abc", (5, 6, 3), strict=True))
    layer(builder, "first", a, b)
    layer(builder, "second", b, c)
    return builder.build()


ANSWERS = {
    "tensor": lambda good, bad: good,
    "tuple": lambda good, bad: (good.argmax(-1), good),
    "list": lambda good, bad: [good, good.exp()],
    "named": lambda good, bad: Named(good, good),
    "mapping": lambda good, bad: {"a": good.sum(), "b": (good, None)},
    "dataclass": lambda good, bad: Output(good, 3, object()),
    "masked": lambda good, bad: good.where(good > good.min(), torch.tensor(-torch.inf)),
    "of varying size": lambda good, bad: good[good > 0],
    "objects are not looked into": lambda good, bad: (good, bad.tolist(), {1: bad.argmax(-1) > 100}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_outputs_of_all_forms(name):
    model = Returns(ANSWERS[name])
    assert check_encoding(model, torch.randn(4, 5), returns_graph(model)).share > 0.9


@pytest.mark.parametrize(
    "answer",
    [
        lambda good, bad: bad,
        lambda good, bad: (good, bad),
        lambda good, bad: {"a": good, "b": [bad]},
        lambda good, bad: Output(good, 3, (bad,)),
        Named,
        lambda good, bad: (good, torch.where(bad == bad.max(), torch.inf, 0.0)),
    ],
)
def test_wrong_numbers_anywhere_are_seen(answer):
    model = Returns(answer)
    with refusal(f"Returns: {NOT_INTERCHANGEABLE}"):
        check_encoding(model, torch.randn(4, 5), returns_graph(model))


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randn(4, 5),
        (torch.randn(4, 5), torch.tensor(2.0)),
        [torch.randn(4, 5), 2.0],
        {"x": torch.randn(4, 5), "shift": 1.0},
    ],
    ids=["tensor", "tuple", "list", "dictionary"],
)
def test_inputs_of_all_forms(inputs):
    model = Returns(ANSWERS["tensor"])
    assert check_encoding(model, inputs, returns_graph(model)).share > 0.9


class Short(nn.Module):
    """Layers that compute in single precision whatever their input's, as many language models' do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(torch.float32).mul_(2)
        x = torch.tanh(self.first(x)).float()
        x = (x @ torch.ones(6, 6) + torch.eye(6, dtype=torch.float32).sum()) * x
        return functional.softmax(self.second(x.to(dtype=self.second.weight.dtype)), -1, dtype=torch.float32).half()


def test_single_precision_inside_is_double():
    model = Short().bfloat16()
    assert check_encoding(model, torch.randn(4, 5), returns_graph(model)).change < 1e-12


def test_statistics_move_with_their_norm():
    """Wrong where they would not: their numbers are random."""
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    assert check_encoding(model, torch.randn(4, 5)).share > 0.9

    class Turned(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            return functional.batch_norm(x, self.running_mean.flip(0), self.running_var, self.weight, self.bias)

    turned = nn.Sequential(nn.Linear(5, 6), Turned(6), nn.ReLU(), nn.Linear(6, 3))
    with refusal(f"Sequential: {NOT_INTERCHANGEABLE}"):
        check_encoding(turned, torch.randn(4, 5), ninokit.encode(model))

    class Ordered(nn.Module):  # owns no buffer that moves with its weight
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)
            self.register_buffer("order", torch.arange(6.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu() * self.order)

    with refusal(f"Ordered: {NOT_INTERCHANGEABLE}"):
        check_encoding(Ordered(), torch.randn(4, 5), returns_graph(Ordered()))


def test_parameters_that_the_inputs_do_not_reach():
    model = Transformer()
    model.k = nn.Linear(12, 12)  # a bias of the keys adds the same to all scores of a query
    builder_graph = transformer_graph_with_key_bias(model)
    report = check_encoding(model, some_tokens(model), builder_graph)
    assert report.silent == ("k.bias",)
    assert str(report).endswith("\n\nwithout influence on the output: k.bias")


def transformer_graph_with_key_bias(model: Transformer) -> NeuralGraph:
    known = transformer_graph(Transformer())
    bias = Neurons("k.bias", 1)
    query = next(group for group in known.neurons if group.name == "query")
    view = next(block for block in known.edges if block.parameter == "q.bias").view
    block = ninokit.graph.Edges(EdgeKind.BIAS, bias, query, 1, "k.bias", view)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    return NeuralGraph((*known.neurons, bias), (*known.edges, block), shapes)


def test_outputs_without_a_gradient():
    class Quiet(nn.Sequential):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    model = Quiet(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    graph = ninokit.encode(nn.Sequential(*model))
    assert check_encoding(model, torch.randn(4, 5), graph).silent == ()


def test_outputs_that_are_parameters():
    class Tells(Returns):
        def forward(self, x: Tensor) -> object:
            return super().forward(x), self.first.weight

    model = Tells(ANSWERS["tensor"])
    with refusal(f"Tells: {NOT_INTERCHANGEABLE}"):
        check_encoding(model, torch.randn(4, 5), returns_graph(model))


# What is refused.


def test_too_small_a_share():
    model = nn.Linear(4, 3)
    graph = ninokit.encode(model)
    assert check_encoding(model, torch.randn(2, 4), graph).share == 0
    message = (
        "Linear: the permutations move 0 of 15 parameters, a share of 0.000, expected at least 0.5; "
        "fixed are '(input)' (input), '(output)' (output)"
    )
    with refusal(message):
        check_encoding(model, torch.randn(2, 4), graph, min_share=0.5)
    assert check_encoding(mlp(3, 4, 3), torch.randn(2, 3), min_share=0.9).share > 0.9


def test_outputs_that_are_rounding_alone():
    class Nothing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            hidden = super().forward(x)
            return (hidden - hidden.mean(1, keepdim=True)).mean(1)

    with pytest.raises(EncodingError, match=r"^Nothing: other inputs change the output by 0\.0e\+00 of its size"):
        check_encoding(Nothing(4, 3), torch.randn(2, 4), ninokit.encode(nn.Linear(4, 3)))


def test_inputs_of_which_not_all_others_are_legal():
    """Lengths have to fall; it is enough that the outputs depend on what stands beside them."""

    class Lengths(nn.Linear):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            assert (lengths.diff() <= 0).all()
            return super().forward(x) * lengths[:, None]

    inputs = (torch.randn(2, 4), torch.tensor([3, 1]))
    assert check_encoding(Lengths(4, 3), inputs, ninokit.encode(nn.Linear(4, 3))).model == "Lengths"


def test_a_network_that_differentiates_on_its_way():
    class Slope(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = x.requires_grad_()
            return torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)[0]

    layers = [nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)]
    with torch.no_grad():
        report = check_encoding(Slope(*layers), torch.randn(2, 4), ninokit.encode(nn.Sequential(*layers)))
    assert report.share > 0.9


def test_outputs_that_do_not_depend_on_the_inputs():
    class Constant(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(0 * x)

    message = (
        "Constant: other inputs change the output by 0.0e+00 of its size, expected at least 1e-06; "
        "give inputs that the output depends on, whose values differ from one another"
    )
    with refusal(message):
        check_encoding(Constant(4, 3), torch.randn(2, 4), ninokit.encode(nn.Linear(4, 3)))
    model = Transformer()
    with refusal(message.replace("Constant", "Transformer")):
        check_encoding(model, torch.zeros(2, 4, dtype=torch.int64), transformer_graph(model))


def test_outputs_that_differ_from_run_to_run():
    class Counting(nn.Linear):
        runs = 0

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            return super().forward(x) * self.runs

    message = (
        r"Counting: two runs on the same inputs differ by \S+ of the output's size; "
        r"a network whose runs differ in evaluation mode can't be checked"
    )
    with pytest.raises(EncodingError, match=f"^{message}$"):
        check_encoding(Counting(4, 3), torch.randn(2, 4), ninokit.encode(nn.Linear(4, 3)))


def test_random_numbers_in_evaluation_mode_are_the_same_in_every_run():
    class Sampling(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.randn(1)

    model = Sampling(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    graph = ninokit.encode(nn.Sequential(*model))
    assert check_encoding(model, torch.randn(2, 4), graph).share > 0.9


def test_outputs_that_are_no_numbers():
    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.nan

    with refusal("Broken: its output is NaN at random parameters in double precision"):
        check_encoding(Broken(4, 3), torch.randn(2, 4), ninokit.encode(nn.Linear(4, 3)))


def test_nothing_to_compare():
    model = Returns(lambda good, bad: [good.argmax(-1)])
    with refusal("Returns returns no floating-point tensor to compare, but list"):
        check_encoding(model, torch.randn(4, 5), returns_graph(model))


def test_graph_of_another_network():
    graph = ninokit.encode(mlp(3, 4, 2))
    with refusal("0.weight: shape (5, 3) in Sequential, (4, 3) in the graph; give a graph of this network"):
        check_encoding(mlp(3, 5, 2), torch.randn(2, 3), graph)
    with refusal("0.bias: shape none in Sequential, (4,) in the graph; give a graph of this network"):
        check_encoding(mlp(3, 4, 2, bias=False), torch.randn(2, 3), graph)


def test_draws():
    with refusal("draws: expected at least 1, got 0"):
        check_encoding(mlp(3, 4, 2), torch.randn(2, 3), draws=0)
    assert check_encoding(mlp(3, 4, 2), torch.randn(2, 3), draws=7).rounds == 7 + 1 + 14


def test_seed_and_tolerance():
    model = mlp(3, 4, 4, 2)
    wrong = rewired(mlp_graph(model), {"0.bias": ("dst", "g2")})
    changes = set()
    for seed in (0, 0, 1):
        with refusal(f"Sequential: {NOT_INTERCHANGEABLE}") as caught:
            check_encoding(model, torch.ones(2, 3), wrong, seed=seed)
        changes.add(str(caught.value))
    assert len(changes) == 2
    assert check_encoding(model, torch.ones(2, 3), wrong, tolerance=10).share > 0.9


# The report and the error.


def test_report_as_text():
    model = mlp(5, 8, 6, 3)
    text = str(check_encoding(model, torch.randn(4, 5), mlp_graph(model)))
    first, rest = text.split("\n\n", 1)
    assert re.fullmatch(
        r"encoding of Sequential: 5 permutations change the output by \de-1\d of its size", re.sub(r"\.\d", "", first)
    )
    assert rest == (
        "permuted    count   of  share\n"
        "----------  -----  ---  -----\n"
        "parameters    120  123  97.6%\n"
        "groups          2    4  50.0%\n"
        "neurons        14   22  63.6%\n"
        "\n"
        "fixed neurons  because\n"
        "-------------  -------\n"
        "g0             input\n"
        "g3             output"
    )


def test_report_of_single_neurons():
    model = mlp(1, 1)
    report = check_encoding(model, torch.randn(4, 1), mlp_graph(model))
    assert (report.share, report.groups, report.fixed) == (0.0, 0, {})
    assert "groups          0   0  –" in str(report)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.groups = 1


def test_errors_can_be_pickled():
    error = pickle.loads(pickle.dumps(EncodingError("wrong", ["weight"])))
    assert (str(error), error.culprits) == ("wrong", ("weight",))


def test_rotation_depends_on_position():
    """The test's own rotary layer is none that permutations inside a head could pass."""
    x = torch.randn(2, 4, dtype=torch.float64)
    assert torch.allclose(rotate(x).norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(rotate(x[:, [1, 0, 3, 2]]), rotate(x)[:, [1, 0, 3, 2]])


def test_a_network_that_does_not_run_in_double_precision():
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.mixing = torch.ones(2, 2)  # no buffer: it stays in single precision

        def forward(self, x):
            return self.layer(x) @ self.mixing

    model, inputs = Single(), torch.randn(2, 3)
    message = (
        "Single: a copy of it in double precision can't be made or run, and so not checked: RuntimeError: expected m1 "
        "and m2 to have the same dtype, but got: double != float"
    )
    with pytest.raises(EncodingError, match=f"^{re.escape(message)}$"):
        check_encoding(model, inputs)
