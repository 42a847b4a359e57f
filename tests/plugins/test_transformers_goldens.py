"""The published models' graphs and predictions of GPT-2, BERT and a vision transformer, through our own graphs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ninokit
from ninokit.graph import EdgeKind, Edges
from ninokit.graph.edge_values import edge_endpoints, edge_kinds
from ninokit.nowcasters.published import published_wiring
from ninokit_transformers.encoder import encode

CASES = ["gpt2", "bert", "vit"]

# Where linear weights are stored (out, in), the publisher takes tables for such as well, and lays their transpose on
# edges that run row by row.
TRANSPOSED = {
    "gpt2": [],
    "bert": [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")],
    "vit": ["encoder.pos_embedding"],
}


def published_network(case: str, config: dict) -> nn.Module:
    if case == "vit":
        vision_transformer = pytest.importorskip("torchvision.models.vision_transformer")
        return vision_transformer.VisionTransformer(**config)
    transformers = pytest.importorskip("transformers")
    if case == "gpt2":
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**config, **ends))
    return transformers.BertModel(transformers.BertConfig(**config))


def _slice(block: Edges) -> tuple[str, int]:
    """What of a module a block is: its name and the first of the outputs, alike for a weight and its bias."""
    assert block.view is not None
    axis = {"weight": 0, "bias": 0}.get("" if "c_attn.weight" in str(block.parameter) else "weight", 1)
    return re.sub("weight|bias", "", str(block.parameter)), block.view.window[axis][0]


class Golden:
    """A published graph; `node_of` holds its number of each of our nodes."""

    def __init__(self, folder: Path, case: str) -> None:
        self.facts = json.loads((folder / f"{case}.json").read_text())
        self.arrays = np.load(folder / f"{case}.npz")
        self.transposed = TRANSPOSED[case]
        self.ranges = {name: (first, last) for name, first, last in self.facts["edges"]}
        own = encode(published_network(case, self.facts["config"]))
        self.wired = published_wiring(own)
        self.node_of = np.full(own.num_nodes, -1)
        self._map_parameters()
        self._map_heads()
        self.graph = own.with_positions(torch.from_numpy(self.arrays["pos"][self.node_of]))

    def history(self) -> dict[str, Tensor]:
        states = torch.from_numpy(self.arrays["states"])
        parameters = self.facts["parameters"]
        parts = states.split([int(np.prod(shape)) for _, shape in parameters])
        found = {name: part.T.reshape(5, *shape) for (name, shape), part in zip(parameters, parts, strict=True)}
        return {name: self._as_laid_on_edges(name, state) for name, state in found.items()}

    def prediction(self, nowcaster, forecast, horizon: int) -> np.ndarray:
        found = dict(forecast(nowcaster)(self.graph, self.history(), horizon))
        parts = [self._as_stored(name, found[name]).flatten() for name, _ in self.facts["parameters"]]
        return torch.cat(parts).numpy()

    def _as_laid_on_edges(self, name: str, state: Tensor) -> Tensor:
        return state.transpose(-1, -2).reshape(state.shape) if name in self.transposed else state

    def _as_stored(self, name: str, state: Tensor) -> Tensor:
        if name not in self.transposed:
            return state
        *lead, rows, width = state.shape
        return state.reshape(*lead, width, rows).transpose(-1, -2)

    def _map_parameters(self) -> None:
        """Their edges run source-major, those of keys destination-major."""
        ours = torch.stack(edge_endpoints(self.wired)).numpy()
        start = 0
        for block in self.wired.edges:
            found = ours[:, start : (start := start + block.num_edges)]
            if block.parameter is None:
                continue
            first, last = self.ranges[self._name(block)]
            theirs = self.arrays["edge_index"][:, first:last]
            if block.kind is not EdgeKind.KEY:
                theirs = theirs.reshape(2, block.src.size, block.dst.size).transpose(0, 2, 1).reshape(2, -1)
            assert ((self.node_of[found] == -1) | (self.node_of[found] == theirs)).all(), block.label
            self.node_of[found] = theirs

    def _map_heads(self) -> None:
        """A head has structural edges alone: the source of those that enter its query neurons."""
        src, dst = self.arrays["edge_index"]
        is_head = self.arrays["edge_type"] == EdgeKind.ATTENTION_HEAD
        for block in self.wired.edges:
            if block.kind is EdgeKind.ATTENTION_HEAD:
                for head in range(block.src.size):
                    neuron = self.wired.offsets[block.dst.name] + head * block.dst.size // block.src.size
                    (source,) = src[is_head & (dst == self.node_of[neuron])]
                    ours = self.wired.offsets[block.src.name] + head
                    assert self.node_of[ours] in {-1, source}
                    self.node_of[ours] = source

    def _name(self, block: Edges) -> str:
        """Their names of the parts of a fused parameter, and of parameters that no module holds as its weight."""
        name = str(block.parameter)
        _, start = _slice(block)
        part = "qkv"[start // 12]
        name = name.replace("c_attn.", f"c_attn.{part}.").replace("in_proj_", f"in_proj_{part}.")
        return name if name in self.ranges else f"{name}.weight"


@pytest.fixture(scope="module", params=CASES)
def golden(shared_folder, request):
    return request.param, Golden(shared_folder / "goldens", request.param)


def test_graph_is_the_published_one(golden):
    _, case = golden
    assert [[name, list(shape)] for name, shape in case.graph.parameters.items()] == case.facts["parameters"]
    assert sorted(case.node_of) == list(range(case.facts["num_nodes"]))
    src, dst = (case.node_of[ends.numpy()] for ends in edge_endpoints(case.wired))
    ours = sorted(zip(src, dst, edge_kinds(case.wired).tolist(), strict=True))
    assert ours == sorted(zip(*case.arrays["edge_index"], case.arrays["edge_type"].tolist(), strict=True))


def test_key_bias_is_the_only_difference(golden):
    _, case = golden
    differing = [
        (ours, theirs)
        for ours, theirs in zip(case.graph.edges, case.wired.edges, strict=True)
        if ours.dst != theirs.dst
    ]
    assert len(differing) == 2  # one a layer
    for ours, theirs in differing:
        assert ours == replace(theirs, dst=ours.dst)
        assert ours.kind is EdgeKind.BIAS
        assert ours.dst.name.endswith("query")
        assert theirs.dst.name.endswith("stream")


@pytest.mark.parametrize("horizon", [1, 17, 40])
@pytest.mark.parametrize(
    ("family", "checkpoint", "forecast"),
    [
        pytest.param("nino", "nino_no_posw.pt", lambda nino: nino.forecast_with_dgl, id="nino in message passing"),
        pytest.param("nino", "nino_no_posw.pt", lambda nino: nino.forecast, id="nino streamed"),
        pytest.param("wnn", "nino_mlp.pt", lambda wnn: wnn.forecast, id="wnn"),
    ],
)
def test_published_predictions_are_met(golden, shared_folder, family, checkpoint, forecast, horizon, request):
    if "message passing" in request.node.name:
        request.getfixturevalue("dgl_installed")
    _, case = golden
    nowcaster = ninokit.nowcasters.load(shared_folder / "weights" / checkpoint)
    ours = case.prediction(nowcaster, forecast, horizon)
    expected, last = case.arrays[f"{family}_k{horizon}"], case.arrays["states"][:, -1]
    assert np.linalg.norm(ours - expected) <= 1e-4 * np.linalg.norm(expected - last)
