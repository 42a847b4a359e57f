"""Neural graphs: what they are, how they are built or traced, and their view as a DGL graph."""

from ninokit.graph.builder import GraphBuilder
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.positions import LaplacianPositions, laplacian_positions
from ninokit.graph.structure import Edges, NeuralGraph, Neurons
from ninokit.graph.tracing import trace

__all__ = [
    "EdgeKind",
    "Edges",
    "GraphBuilder",
    "LaplacianPositions",
    "NeuralGraph",
    "Neurons",
    "laplacian_positions",
    "trace",
]
