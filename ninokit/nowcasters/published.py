"""The published PyTorch checkpoints of NiNo, read and written; no other file knows their names.

Source: github.com/SamsungSAILMontreal/nino, folder ``checkpoints`` (MIT).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ninokit.errors import CheckpointError
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import Edges, NeuralGraph
from ninokit.nowcasters.base import History
from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.weights import about_to_fill, fill, read_verified
from ninokit.nowcasters.wnn import Wnn

__all__ = ["PublishedNino", "published_wiring", "read_published", "to_published"]

# Their module names → ours.
_NINO_NAMES = {
    "layer_embed": "kind_embedding",
    "node_proj.fc.0": "node_embedding",
    "edge_proj.fc.0": "edge_embedding",
    "edge_out.fc": "readout",
    r"gnn.convs.#.edge_encoder": "convolutions.#.modulation",
    r"gnn.convs.#.pre_nns.0.0": "convolutions.#.message",
    r"gnn.convs.#.post_nns.0.0": "convolutions.#.update",
    r"gnn.convs.#.lin": "convolutions.#.output",
    r"gnn.edge_update.#.lin_e": "edge_updates.#.edge",
    r"gnn.edge_update.#.lin_s": "edge_updates.#.source",
    r"gnn.edge_update.#.lin_t": "edge_updates.#.destination",
    r"gnn.edge_update.#.lin1": "edge_updates.#.output",
}
_WNN_NAMES = {"layer_embed": "kind_embedding", "edge_proj.fc.0": "weight_embedding", "edge_mlp.fc": "readout"}


class PublishedNino(Nino):
    """A published NiNo, which was trained on graphs in which the bias of a key acts on what the key reads.

    It takes ninokit's own graphs, and wires them as it has learnt them. Arguments as `Nino`.
    """

    _wired: tuple[NeuralGraph, NeuralGraph] | None = None  # the last graph, and the same as published

    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `Nowcaster.forecast`."""
        return super().forecast(graph and self._published(graph), history, horizon)

    def forecast_with_dgl(self, graph: NeuralGraph, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `Nino.forecast_with_dgl`."""
        return super().forecast_with_dgl(self._published(graph), history, horizon)

    def _published(self, graph: NeuralGraph) -> NeuralGraph:
        wired = self._wired
        if wired is None or wired[0] is not graph:
            wired = self._wired = graph, published_wiring(graph)
        return wired[1]


def published_wiring(graph: NeuralGraph) -> NeuralGraph:
    """A graph as the publisher's code builds it: the bias of a key acts on the neurons that the key reads.

    Args:
        graph: in which a weight's bias comes next after it, cut into the same slices if the weight is fused.

    Returns:
        The graph itself if its keys have no biases, else a new one. Positions given to the graph are kept.
    """
    edges = list(graph.edges)
    for place, key in enumerate(graph.edges):
        bias = _bias_of(key, graph, place) if key.kind is EdgeKind.KEY else None
        if bias is not None:
            edges[graph.edges.index(bias)] = replace(bias, dst=key.dst)
    return graph if edges == list(graph.edges) else replace(graph, edges=tuple(edges))


def _bias_of(key: Edges, graph: NeuralGraph, place: int) -> Edges | None:
    """The bias of a key, whose weight stands at some place among the edges; None if there is none."""
    following = next((block for block in graph.edges[place:] if block.kind is EdgeKind.BIAS), None)
    if following is None or following.parameter is None or key.parameter is None:
        return None
    slices, biases = graph.blocks[key.parameter], graph.blocks[following.parameter]
    bias = biases[slices.index(key)] if len(slices) == len(biases) else None
    return bias if bias is not None and bias.dst == key.src else None


def read_published(path: str | Path, *, sha256: str) -> Nino | Wnn:
    """Read a published checkpoint.

    The file's hash is checked before anything in it is read, and then tensors and plain values alone are read.

    Args:
        path: a ``.pt`` file.
        sha256: what its hash must be, 64 hexadecimal digits.

    Returns:
        The nowcaster, in evaluation mode.

    Raises:
        CheckpointError: if the file is missing, has another hash, or does not hold a model of the published form.
    """
    path = Path(path)
    content = _read(path, sha256)
    state = content.get("state_dict")
    arguments = content.get("model_args")
    if not isinstance(state, Mapping) or not isinstance(arguments, Mapping):
        raise CheckpointError(
            f"{path}: expected a dictionary with 'state_dict' and 'model_args', got {sorted(map(str, content))}"
        )
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()):
        raise CheckpointError(f"{path}: 'state_dict' holds other things than tensors by name")
    _check_arguments(path, arguments)
    return _load(path, state)


def to_published(nowcaster: Nino | Wnn) -> dict[str, Any]:
    """A nowcaster as a checkpoint that the publisher's code reads; the inverse of `read_published`.

    Args:
        nowcaster: with any weights.

    Returns:
        What to pass to `torch.save`. Their model has one more convolution, whose output nothing reads; it is zero.
    """
    names = _names(nowcaster)
    state = {}
    for name, tensor in nowcaster.state_dict().items():
        state[_rename(name, {ours: theirs for theirs, ours in names.items()})] = tensor.clone()
    if isinstance(nowcaster, Wnn):
        return {"state_dict": state, "model_args": {"gnn": False, **_sizes(nowcaster)}}
    count = len(nowcaster.convolutions)
    for name in [name for name in state if name.startswith("gnn.convs.0.")]:
        state[name.replace(".0.", f".{count}.", 1)] = torch.zeros_like(state[name])
    return {
        "state_dict": state,
        "model_args": {"wte_pos_enc": False, "layers": count + 1, **_sizes(nowcaster)},
    }


def _read(path: Path, sha256: str) -> Mapping[str, Any]:
    data = read_verified(path, sha256)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: is no PyTorch checkpoint of plain tensors ({type(error).__name__})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dictionary, got {type(content).__name__}")
    return content


def _check_arguments(path: Path, arguments: Mapping[str, Any]) -> None:
    if arguments.get("wte_pos_enc", "gnn" not in arguments or arguments["gnn"]):
        raise CheckpointError(
            f"{path}: was trained with GPT-2's word positions, which other networks lack; use nino_no_posw.pt"
        )


def _load(path: Path, state: Mapping[str, Tensor]) -> Nino | Wnn:
    """Build the model that the tensors' shapes tell, and fill it."""
    try:
        with about_to_fill():
            nowcaster = _empty(state)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{path}: the tensor {error.args[0]!r} is missing or has too few axes") from error
    names = _names(nowcaster)
    backwards = {ours: theirs for theirs, ours in names.items()}
    known = {_rename(name, names): tensor for name, tensor in state.items()}
    # Their model has one more convolution, whose output nothing reads.
    last = f"convolutions.{len(nowcaster.convolutions)}." if isinstance(nowcaster, Nino) else None
    read = {name: tensor for name, tensor in known.items() if not (last and name.startswith(last))}
    fill(nowcaster, read, str(path), lambda name: _rename(name, backwards))
    return nowcaster


def _empty(state: Mapping[str, Tensor]) -> Nino | Wnn:
    hidden = state["layer_embed.weight"].shape[1]
    if "edge_mlp.fc.0.weight" in state:
        context = state["edge_proj.fc.0.weight"].shape[1]
        return Wnn(hidden, context, max_horizon=state["edge_mlp.fc.6.weight"].shape[0])
    taps = 9
    context = state["edge_proj.fc.0.weight"].shape[1] // taps
    layers = sum(bool(re.fullmatch(r"gnn\.edge_update\.\d+\.lin1\.weight", name)) for name in state)
    return PublishedNino(hidden, context, max_horizon=state["edge_out.fc.2.weight"].shape[0] // taps, layers=layers)


def _names(nowcaster: Nino | Wnn) -> Mapping[str, str]:
    return _NINO_NAMES if isinstance(nowcaster, Nino) else _WNN_NAMES


def _sizes(nowcaster: Nino | Wnn) -> dict[str, int]:
    hidden = nowcaster.kind_embedding.embedding_dim
    return {"hid": hidden, "ctx": nowcaster.context, "seq_len": nowcaster.max_horizon}


def _rename(name: str, names: Mapping[str, str]) -> str:
    """Translate the longest known beginning of a name; ``#`` stands for a layer's number."""
    for old, new in names.items():
        match = re.match(re.escape(old).replace(r"\#", r"(\d+)") + r"(?=\.)", name)
        if match:
            number = match.group(1) if match.groups() else ""
            return new.replace("#", number) + name[match.end() :]
    return name
