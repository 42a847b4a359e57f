"""ninokit: train PyTorch networks in fewer steps by nowcasting their weights on the neural graph."""

from ninokit.encoding import Architecture, architectures, encode
from ninokit.errors import NinokitError
from ninokit.graph import NeuralGraph
from ninokit.hookspecs import hookimpl
from ninokit.training import NowcastEvent, Nowcasting, attach

__all__ = [
    "Architecture",
    "NeuralGraph",
    "NinokitError",
    "NowcastEvent",
    "Nowcasting",
    "architectures",
    "attach",
    "encode",
    "hookimpl",
]
