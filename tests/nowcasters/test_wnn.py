import pytest
import torch
from torch import nn

import ninokit
from ninokit.graph import EdgeKind, GraphBuilder
from ninokit.nowcasters import Wnn
from ninokit.nowcasters import wnn as module
from ninokit.nowcasters.scaling import Scale


def slow_wnn(nowcaster: Wnn, states: torch.Tensor, kind: int, horizon: int) -> torch.Tensor:
    """One weight at a time."""
    scale = Scale.of(states, states)
    out = []
    for weight in scale.apply(states).flatten(1).T:
        out.append(weight[-1] + nowcaster(weight[None], torch.tensor([kind]))[0, horizon - 1])
    return scale.undo(torch.stack(out)).view(states.shape[1:])


def test_every_weight_alone_with_the_kind_of_its_edges(cnn, history_of):
    nowcaster, history = Wnn(hidden=8), history_of(cnn)
    prediction = dict(nowcaster.forecast(ninokit.encode(cnn), history, 7))
    kinds = {"0.weight": EdgeKind.CONVOLUTION, "1.weight": EdgeKind.NORM_SCALE, "6.bias": EdgeKind.BIAS}
    with torch.no_grad():
        for name, kind in kinds.items():
            torch.testing.assert_close(prediction[name], slow_wnn(nowcaster, history[name], kind, 7))
    assert list(prediction) == [name for name, _ in cnn.named_parameters()]


def test_slices_of_one_parameter_have_their_own_kinds():
    model = nn.Module()
    model.fused = nn.Parameter(torch.randn(6, 2))
    builder = GraphBuilder(model)
    stream, query, value = builder.neurons("stream", 2), builder.neurons("query", 3), builder.neurons("value", 3)
    for kind, group, rows in ((EdgeKind.QUERY, query, (0, 3)), (EdgeKind.VALUE, value, (3, 6))):
        builder.edges(kind, stream, group, parameter="fused", axes="dst src", window={0: rows})
    nowcaster, states = Wnn(hidden=8), torch.randn(5, 6, 2)
    prediction = dict(nowcaster.forecast(builder.build(), {"fused": states}, 3))["fused"]
    with torch.no_grad():
        as_query = slow_wnn(nowcaster, states, EdgeKind.QUERY, 3)
        as_value = slow_wnn(nowcaster, states, EdgeKind.VALUE, 3)
    torch.testing.assert_close(prediction, torch.cat([as_query[:3], as_value[3:]]))


def test_tiles_change_nothing(monkeypatch, cnn, history_of):
    nowcaster, history, graph = Wnn(hidden=8), history_of(cnn), ninokit.encode(cnn)
    whole = dict(nowcaster.forecast(graph, history, 3))
    monkeypatch.setattr(module, "_TILE_EDGES", 7)
    tiled = dict(nowcaster.forecast(graph, history, 3))
    torch.testing.assert_close(whole, tiled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_states_are_predicted_as_in_float32(cnn, history_of, dtype):
    nowcaster, graph = Wnn(hidden=8), ninokit.encode(cnn)
    narrow = {name: states.to(dtype) for name, states in history_of(cnn).items()}
    found = dict(nowcaster.forecast(graph, narrow, 7))
    expected = dict(nowcaster.forecast(graph, {name: states.float() for name, states in narrow.items()}, 7))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
