"""NiNo: a graph neural network on the neural graph.

`Nino.forward` is the function in DGL message passing, the form to read, to train and to test against: it follows the
paper's equations one by one and keeps a feature vector for every edge. `Nino.forecast` computes the same block by
block, see `ninokit.nowcasters.streaming`, and needs no DGL.

Shape legend: nodes, edges = of the DGL graph, self-loops included; H = hidden; taps, context = numbers an edge
carries, and past states of each; horizon = future states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ninokit._dgl import import_dgl
from ninokit.errors import ConfigError
from ninokit.graph.builder import MAX_TAPS
from ninokit.graph.edge_values import edges_to_parameters
from ninokit.graph.kinds import NUM_KINDS
from ninokit.graph.structure import POSITION_DIM, NeuralGraph
from ninokit.nowcasters.base import History, Nowcaster, check_forecast, forecast_dtype
from ninokit.nowcasters.precision import Precision, check_precision
from ninokit.nowcasters.scaling import Scale
from ninokit.nowcasters.streaming import stream_forecast

if TYPE_CHECKING:
    import dgl

__all__ = ["Nino"]


class Nino(nn.Module, Nowcaster):
    """The neural interaction and nowcasting network.

    Two rounds of message passing over the neural graph, with the edges' features modulating the messages and being
    updated in turn; then each edge's change is read off its own features, for all horizons at once.

    Source: Knyazev et al. 2025, section 4 and appendix; the layers are those of Kofinas et al. 2024.

    Args:
        hidden: width H of all features.
        context: number of past states.
        max_horizon: how far it can look ahead.
        layers: rounds of message passing.
        precision: of the products of a `forecast`: ``float32`` (more exactly, the weights' own dtype), ``tf32`` (on
            GPUs that have it), or ``bfloat16``, which rounds their factors and results and sums in float32; it misses
            the step by up to 1 %, and takes two thirds of the time on a processor with bfloat16 instructions; on one
            without them it is ``float32``. May be set at any time.

    Raises:
        ConfigError: if there is no such precision, or a number is below 1.

    Example:
        >>> import torch, ninokit
        >>> model = torch.nn.Linear(3, 2)
        >>> history = {name: torch.randn(5, *p.shape) for name, p in model.named_parameters()}
        >>> prediction = dict(Nino(hidden=16).forecast(ninokit.encode(model), history, horizon=40))
        >>> prediction["weight"].shape
        torch.Size([2, 3])
    """

    needs_weights = True

    def __init__(
        self,
        hidden: int = 128,
        context: int = 5,
        max_horizon: int = 40,
        layers: int = 2,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        check_precision(precision)
        for name, number in {
            "hidden": hidden,
            "context": context,
            "max_horizon": max_horizon,
            "layers": layers,
        }.items():
            if number < 1:
                raise ConfigError(f"{name}: expected at least 1, got {number}")
        self.precision: Precision = precision
        self.context = context
        self.max_horizon = max_horizon
        self.node_embedding = nn.Linear(POSITION_DIM, hidden)
        self.edge_embedding = nn.Linear(MAX_TAPS * context, hidden)
        self.kind_embedding = nn.Embedding(NUM_KINDS, hidden)
        self.convolutions = nn.ModuleList(ModulatedConvolution(hidden) for _ in range(layers))
        self.edge_updates = nn.ModuleList(EdgeUpdate(hidden) for _ in range(layers))
        self.readout = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, MAX_TAPS * max_horizon))

    def forward(self, graph: dgl.DGLGraph) -> Tensor:
        """Predict the changes on all edges at all horizons; differentiable.

        Args:
            graph: with ``ndata["position"]`` (nodes, 8), ``edata["kind"]`` (edges,) and ``edata["feature"]``
                (edges, taps, context), scaled; one graph or a batch. At most 9 taps.

        Returns:
            Scaled differences from the last state, shape (edges, taps, max_horizon).
        """
        features = graph.edata["feature"]
        taps = features.shape[1]
        # Narrower features are padded with zeros in the paper; the columns they meet are left out instead.
        weight = self.edge_embedding.weight[:, : taps * self.context]
        embedded = nn.functional.linear(features.flatten(1), weight, self.edge_embedding.bias)
        edges = embedded + self.kind_embedding(graph.edata["kind"])
        nodes = self.node_embedding(graph.ndata["position"])
        for convolution, edge_update in zip(self.convolutions, self.edge_updates, strict=True):
            nodes = nn.functional.silu(convolution(graph, nodes, edges))
            edges = edge_update(graph, nodes, edges)
        return self.readout(edges).unflatten(1, (MAX_TAPS, self.max_horizon))[:, :taps]

    def forecast(self, graph: NeuralGraph | None, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """See `Nowcaster.forecast`; runs where the nowcaster's weights are, in their dtype."""
        check_forecast(self, graph, history, horizon)
        assert graph is not None  # check_forecast has seen to it
        return stream_forecast(self, graph, history, horizon)

    def forecast_with_dgl(self, graph: NeuralGraph, history: History, horizon: int) -> Iterator[tuple[str, Tensor]]:
        """The forecast through `forward`: the slow twin of `forecast`, for comparisons.

        Args:
            graph: see `Nowcaster.forecast`.
            history: see `Nowcaster.forecast`.
            horizon: see `Nowcaster.forecast`.

        Yields:
            See `Nowcaster.forecast`; on the CPU, where DGL's graphs are.

        Raises:
            DependencyError: if DGL is not installed.
            ForecastError: see `Nowcaster.forecast`.
        """
        check_forecast(self, graph, history, horizon)
        dtype = self.edge_embedding.weight.dtype
        scales, scaled = {}, {}
        for name in graph.parameters:
            local = history[name].to("cpu", dtype)
            scales[name] = Scale.of(local, local)
            scaled[name] = scales[name].apply(local)
        with torch.no_grad():
            view = graph.to_dgl(scaled)
            view.ndata["position"] = view.ndata["position"].to(dtype)
            change = self(view)[..., horizon - 1]  # (edges, taps)
            future = view.edata["feature"][..., -1] + change
        for name, prediction in edges_to_parameters(graph, future):
            yield name, scales[name].undo(prediction).to(forecast_dtype(history[name]))


class ModulatedConvolution(nn.Module):
    """One round of message passing: messages between neurons, modulated by the edge between them.

    Args:
        hidden: width H.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(hidden, 2 * hidden)
        self.message = nn.Linear(2 * hidden, hidden)
        self.update = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, graph: dgl.DGLGraph, nodes: Tensor, edges: Tensor) -> Tensor:
        """New node features.

        Args:
            graph: the structure.
            nodes: shape (nodes, H).
            edges: shape (edges, H).

        Returns:
            Shape (nodes, H), before the activation.
        """
        function = import_dgl().function
        with graph.local_scope():
            graph.ndata["h"] = nodes
            graph.edata["scale"], graph.edata["shift"] = self.modulation(edges).chunk(2, dim=-1)
            graph.apply_edges(self._messages)
            graph.update_all(function.copy_e("m", "m"), function.mean("m", "mean"))
            return self.output(self.update(torch.cat([nodes, graph.ndata["mean"]], dim=-1)))

    def _messages(self, edges: dgl.udf.EdgeBatch) -> dict[str, Tensor]:
        pair = torch.cat([edges.dst["h"], edges.src["h"]], dim=-1)
        return {"m": edges.data["scale"] * self.message(pair) + edges.data["shift"]}


class EdgeUpdate(nn.Module):
    """New edge features from the edge and the neurons at its ends.

    Args:
        hidden: width H.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.edge = nn.Linear(hidden, hidden)
        self.source = nn.Linear(hidden, hidden)
        self.destination = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, graph: dgl.DGLGraph, nodes: Tensor, edges: Tensor) -> Tensor:
        """New edge features.

        Args:
            graph: the structure.
            nodes: shape (nodes, H).
            edges: shape (edges, H).

        Returns:
            Shape (edges, H).
        """
        function = import_dgl().function
        with graph.local_scope():
            graph.ndata["source"] = self.source(nodes)
            graph.ndata["destination"] = self.destination(nodes)
            graph.apply_edges(function.u_add_v("source", "destination", "ends"))
            return self.output(nn.functional.silu(self.edge(edges) + graph.edata["ends"]))
