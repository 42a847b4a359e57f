"""Linear layers and norms of a chain as blocks of a neural graph, for the encoders of chain networks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ninokit.errors import UnsupportedModelError
from ninokit.graph.builder import GraphBuilder
from ninokit.graph.chains import ChainStep, is_elementwise, is_flatten, is_reshape
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.structure import NeuralGraph, Neurons

__all__ = ["NORMS", "ChainBuilder"]

NORMS: tuple[type[nn.Module], ...] = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.RMSNorm)

# A norm of channels tells that positions stand beside them, also where no convolution came before.
_NORM_DIMS: dict[type, int] = {
    nn.BatchNorm2d: 2,
    nn.BatchNorm3d: 3,
    nn.InstanceNorm1d: 1,
    nn.InstanceNorm2d: 2,
    nn.InstanceNorm3d: 3,
}


class ChainBuilder:
    """A neural graph grown layer by layer along a chain.

    Without example inputs nobody can tell whether a tensor has dimensions besides batch and neurons. A
    `torch.nn.BatchNorm1d` after a linear layer is taken to see (batch, neurons), as it nearly always does.

    Args:
        model: the network.

    Attributes:
        spatial_dims: dimensions of the current feature map after its channels; 0 where the neurons are the last
            dimension, None before the first layer.
    """

    def __init__(self, model: nn.Module) -> None:
        self.spatial_dims: int | None = None
        self._flattened: str | None = None
        self._builder = GraphBuilder(model)
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._unused = set(self._names.values())
        self._current: Neurons | None = None

    def sources(self, size: int) -> Neurons:
        """The neurons that the next layer reads.

        Args:
            size: how many it expects, if it is the first.

        Returns:
            The current layer's, or a new input group.
        """
        if self._current is None:
            self._current = self._builder.neurons("(input)", size)
        return self._current

    @property
    def started(self) -> bool:
        """Whether a layer or norm has been added."""
        return self._current is not None

    def add(self, step: ChainStep) -> bool:
        """Add a step that every chain may have: a linear layer, a norm, a flatten, or something elementwise.

        Args:
            step: of the chain, in order.

        Returns:
            Whether it was such a step; another is left to the caller.

        Raises:
            UnsupportedModelError: if it is, but does not fit what came before.
        """
        if isinstance(step.module, nn.Linear):
            self.linear(step.name, step.module)
        elif isinstance(step.module, NORMS):
            self.norm(step.name, step.module)
        elif is_reshape(step) and not self.started:
            pass  # whatever the inputs' order, they are the input neurons
        elif is_flatten(step):
            self.flatten()
        else:
            return is_elementwise(step)
        return True

    def flatten(self) -> None:
        """Merge the neurons and the positions beside them, in the order in which they lie in memory."""
        # Flattening again changes nothing; where no layer came before, the order is not known.
        if self._flattened is None and self.spatial_dims is not None:
            self._flattened = "(neuron tap)" if self.spatial_dims else "(tap neuron)"
        self.spatial_dims = 0

    def linear(self, name: str, layer: nn.Linear) -> None:
        """Add a linear layer; what it reads may be a flattened feature map, whose positions become taps.

        Args:
            name: the layer's name in the model.
            layer: the layer.

        Raises:
            UnsupportedModelError: if it does not read the current layer neuron by neuron.
        """
        if self.spatial_dims:
            raise UnsupportedModelError(
                f"{name}: a linear layer on a feature map that was neither pooled nor flattened"
            )
        sources = self.sources(layer.in_features)
        axes = f"dst {self._axis(name, layer.in_features, sources, 'src')}"
        self.layer(name, layer, EdgeKind.LINEAR, sources, layer.out_features, axes)

    def layer(
        self,
        name: str,
        layer: nn.Module,
        kind: EdgeKind,
        sources: Neurons,
        size: int,
        axes: str,
        groups: int = 1,
    ) -> None:
        """Add a layer with a weight and perhaps a bias; its outputs become the current layer.

        Args:
            name: the layer's name in the model.
            layer: the layer.
            kind: what its weight's edges are.
            sources: the neurons that it reads.
            size: number of its outputs.
            axes: labels of its weight's axes, see `ninokit.graph.views.make_view`.
            groups: slices of sources and outputs.
        """
        self._current, self._flattened = self._builder.neurons(name or "(output)", size), None
        self.spatial_dims = self.spatial_dims or 0
        weight = self._take(name, layer, "weight")
        if weight is not None:
            self._builder.edges(kind, sources, self._current, parameter=weight, axes=axes, groups=groups)
        self._vector(name, layer, "bias", EdgeKind.BIAS, "dst")

    def norm(self, name: str, norm: nn.Module) -> None:
        """Add the scale and shift of a norm that acts on each neuron of the current layer.

        Args:
            name: the norm's name in the model.
            norm: a module of `NORMS`.

        Raises:
            UnsupportedModelError: if its scale is not one number a neuron (and position).
        """
        dims = _NORM_DIMS.get(type(norm), self.spatial_dims)
        if self.spatial_dims not in {None, dims}:
            raise UnsupportedModelError(f"{name}: {type(norm).__name__} where {self.spatial_dims} dimensions follow")
        self.spatial_dims = dims
        weight = norm.weight
        if not isinstance(weight, Tensor):  # a norm without parameters
            return
        if weight.ndim != 1 or (self.spatial_dims and isinstance(norm, (nn.LayerNorm, nn.RMSNorm))):
            raise UnsupportedModelError(f"{name}: {type(norm).__name__} over more than the neurons")
        axes = self._axis(name, len(weight), self.sources(len(weight)), "dst")
        self._vector(name, norm, "weight", EdgeKind.NORM_SCALE, axes)
        self._vector(name, norm, "bias", EdgeKind.BIAS, axes)

    def build(self) -> NeuralGraph:
        """The finished graph.

        Raises:
            UnsupportedModelError: if the chain leaves out a parameter.
        """
        if self._unused:
            raise UnsupportedModelError(f"no layer of the chain uses the parameter {min(self._unused)!r}")
        return self._builder.build()

    def _vector(self, name: str, module: nn.Module, attribute: str, kind: EdgeKind, axes: str) -> None:
        parameter = self._take(name, module, attribute)
        if parameter is not None and self._current is not None:
            self._builder.vector(kind, self._current, parameter=parameter, axes=axes)

    def _take(self, module_name: str, module: nn.Module, attribute: str) -> str | None:
        """The parameter's name; None if there is none."""
        parameter = getattr(module, attribute, None)
        if parameter is None:
            return None
        name = self._names.get(id(parameter))
        if name is None:
            raise UnsupportedModelError(f"{module_name}.{attribute} is computed from other parameters")
        if name not in self._unused:  # so the neurons at both uses have one order, which the tracer works out
            raise UnsupportedModelError(f"{module_name}.{attribute} is {name} again, and each may be used once")
        self._unused.remove(name)
        return name

    def _axis(self, name: str, size: int, group: Neurons, label: str) -> str:
        """How an axis of a size runs over a group's neurons, and the positions beside them if it was flattened."""
        if size == group.size:
            return label
        if self._flattened is None or size % group.size:
            raise UnsupportedModelError(f"{name} acts on {size} numbers, the layer before it has {group.size} neurons")
        return self._flattened.replace("neuron", label)
