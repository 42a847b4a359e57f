"""ninokit: train PyTorch networks in fewer steps by nowcasting their weights on the neural graph."""

import lazy_loader

# The names are those of __init__.pyi, imported at first use: what only looks at the installation, such as
# `ninokit plugins list`, imports no PyTorch.
__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

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
