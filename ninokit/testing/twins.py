"""A twin of a network on which permutations are tried: in double precision, with numbers of which no two are equal."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from ninokit.calls import call, tensors_in
from ninokit.errors import EncodingError
from ninokit.graph.kinds import EdgeKind
from ninokit.graph.permutations import permute_parameter
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.tracing.network import full_copy

__all__ = ["Twin"]

_log = logging.getLogger(__name__)

_GAINS = (math.sqrt(2), 1.0, 0.5)  # for layers that rectify, for those that don't, for many that add up
_HEARD = 1e-6  # of the output's size that other inputs must change
_NOISE = 1e-12  # relative; what rounding may make of nothing
# Of indices: in another order, which a sum over them does not hear; all the same; as they are, beside other inputs.
_CHANGES: Sequence[Callable[[Tensor], Tensor]] = (
    lambda indices: indices.flip(-1) if indices.ndim else indices,
    lambda indices: indices.flatten()[:1].expand(indices.shape),
    lambda indices: indices,
)
_LONG = {torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64}
_LONG |= {torch.complex32: torch.complex128, torch.complex64: torch.complex128}
_LENGTHENING = {Tensor.float: Tensor.double, Tensor.half: Tensor.double, Tensor.bfloat16: Tensor.double}
_LENGTHENING |= {Tensor.cfloat: Tensor.cdouble, Tensor.chalf: Tensor.cdouble}  # type: ignore[attr-defined]
_TABLES = frozenset({EdgeKind.TOKEN_EMBEDDING, EdgeKind.POSITION_EMBEDDING})


class Twin:
    """A copy of a network in evaluation mode and double precision, with random parameters and running statistics.

    Weights are scaled so that the outputs stay near 1; a BatchNorm's variances stay positive, and where it has no
    parameters that would tell to which neurons its statistics belong, these are alike for all.

    Args:
        model: any module; it is left as it is.
        inputs: what it is called with: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
        graph: its neural graph.
        seed: of the random numbers.

    Attributes:
        name: the class of the model.
        silent: parameters without influence on the outputs for these inputs, in the network's order; nothing is
            known of these. Empty if the outputs are not differentiable.

    Raises:
        EncodingError: if its outputs can't be compared, or do not depend on its inputs.
    """

    def __init__(self, model: nn.Module, inputs: Any, graph: NeuralGraph, seed: int) -> None:
        self.name = type(model).__name__
        self._model = full_copy(model).double()._apply(_doubled).eval()  # which leaves complex numbers to the second
        self._parameters = dict(self._model.named_parameters())
        for parameter in self._parameters.values():  # whole numbers, as of a quantised weight, move but have no slope
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        self._inputs = _map_tensors(inputs, _doubled)
        self._randomise(graph, seed)
        # What permutations move, statistics as their norm's parameter; and what stands there before.
        statistics = _statistics(self._model, self._parameters)
        self._moving = {name: [p, *statistics.get(name, [])] for name, p in self._parameters.items()}
        self._before = {name: [t.detach().clone() for t in tensors] for name, tensors in self._moving.items()}
        self._expected = [output.clone() for output in self._outputs()]  # it may be a parameter itself
        again = _distance(self._outputs(), self._expected)
        if again > _NOISE:
            raise EncodingError(
                f"{self.name}: two runs on the same inputs differ by {again:.1e} of the output's size; a network whose "
                f"runs differ in evaluation mode can't be checked"
            )
        self.silent = tuple(name for name in self._find_silent() if name in graph.parameters)

    def change(self, graph: NeuralGraph, orders: Mapping[str, Tensor]) -> float:
        """What a permutation of neurons does to the outputs.

        Args:
            graph: says which parameters move, and how.
            orders: group name → old neuron at each new place; the other groups stay.

        Returns:
            The largest change of an output number, relative to the largest output; 0 is none.
        """
        touched = {
            name: blocks
            for name, blocks in graph.blocks.items()
            if any(block.src.name in orders or block.dst.name in orders for block in blocks)
        }
        try:
            for name, blocks in touched.items():
                self._put(name, partial(permute_parameter, blocks, orders=orders))
            return _distance(self._outputs(), self._expected)
        finally:
            for name in touched:
                self._put(name, lambda before: before)

    def hears(self, names: Collection[str]) -> bool:
        """Whether the outputs depend on some parameters, which get other numbers for a moment.

        Args:
            names: of parameters of the network.

        Returns:
            Whether the outputs change.
        """
        try:
            for name in names:
                self._put(name, lambda before: 1 - before)
            return _distance(self._outputs(), self._expected) > _NOISE
        finally:
            for name in names:
                self._put(name, lambda before: before)

    @torch.no_grad()
    def _put(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        for tensor, before in zip(self._moving[name], self._before[name], strict=True):
            tensor.copy_(function(before))

    def _randomise(self, graph: NeuralGraph, seed: int) -> None:
        """Draw numbers at the gain under which the outputs are nearest to 1, among those that listen to the inputs."""
        others = [_map_tensors(self._inputs, partial(_other, change)) for change in _CHANGES]
        tried = []  # (change by other inputs, distance from 1, gain)
        for gain in _GAINS:
            self._draw(graph, seed, gain)
            outputs = self._outputs()
            if not any(output.isnan().any() for output in outputs):
                tried.append((self._heard(others, outputs), abs(math.log(_size(outputs))), gain))
        if not tried:
            raise EncodingError(f"{self.name}: its output is NaN at random parameters in double precision")
        if max(tried)[0] < _HEARD:
            raise EncodingError(
                f"{self.name}: other inputs change the output by {max(tried)[0]:.1e} of its size, expected at least "
                f"{_HEARD}; give inputs that the output depends on, whose values differ from one another"
            )
        self._draw(graph, seed, min((size, gain) for heard, size, gain in tried if heard >= _HEARD)[1])

    def _heard(self, others: Sequence[Any], outputs: list[Tensor]) -> float:
        """How much the outputs change by the first other inputs that are enough, or by the best that there are."""
        most = 0.0
        if _size(outputs) < _NOISE:  # a difference of what is the same: any change of it is rounding
            return most
        for inputs in others:
            if most < _HEARD:
                try:
                    most = max(most, _distance(self._outputs(inputs), outputs))
                except Exception as error:  # only the network knows what is legal, as lengths in descending order
                    _log.info("%s takes no other inputs: %s: %s", self.name, type(error).__name__, error)
        return most

    @torch.no_grad()
    def _draw(self, graph: NeuralGraph, seed: int, gain: float) -> None:
        generator = torch.Generator().manual_seed(seed)

        def noise(like: Tensor) -> Tensor:
            dtype = torch.complex128 if like.is_complex() else torch.float64
            return torch.randn(like.shape, generator=generator, dtype=dtype).to(like.device)

        for name, parameter in self._parameters.items():
            if not parameter.requires_grad:
                continue
            middle, spread = _distribution(graph, name, gain)
            parameter.copy_(middle + spread * noise(parameter))
        for norm in self._model.modules():
            if isinstance(norm, _NormBase) and norm.running_mean is not None and norm.running_var is not None:
                differ = float(norm.weight is not None)
                norm.running_mean.copy_(differ * noise(norm.running_mean))
                norm.running_var.copy_(0.5 + differ * noise(norm.running_var).abs())

    def _outputs(self, inputs: Any = None) -> list[Tensor]:
        """The floating tensors that the network returns, wherever they lie in what it returns."""
        return [output.detach() for output in self._run(self._inputs if inputs is None else inputs)]

    def _run(self, inputs: Any) -> list[Tensor]:
        self._model.train().eval()  # some modules keep what they have computed from parameters until they are trained
        devices = {p.device for p in self._parameters.values() if p.is_cuda}
        # Every run starts from the same state of the generators, should the network draw random numbers.
        # It may differentiate on its way.
        with torch.random.fork_rng([device.index for device in devices]), _double_precision(), torch.enable_grad():
            result = call(self._model, _map_tensors(inputs, Tensor.clone))  # a layer may work in place
        outputs = [torch.view_as_real(out) if out.is_complex() else out for out in tensors_in(result)]
        outputs = [output for output in outputs if output.is_floating_point()]
        if not outputs:
            raise EncodingError(f"{self.name} returns no floating-point tensor to compare, but {type(result).__name__}")
        return outputs

    def _find_silent(self) -> tuple[str, ...]:
        outputs = [out[out.isfinite()] for out in self._run(self._inputs) if out.requires_grad]
        if not outputs:
            return ()
        generator = torch.Generator().manual_seed(0)
        weighted = [(out * torch.rand(out.shape, generator=generator).to(out)).sum() for out in outputs]
        drawn = {name: parameter for name, parameter in self._parameters.items() if parameter.requires_grad}
        names, parameters = zip(*drawn.items(), strict=True)
        try:
            found = torch.autograd.grad(torch.stack(weighted).sum(), parameters, allow_unused=True)
        except RuntimeError as error:  # such as an activation in place, after one whose derivative needs its result
            _log.info("%s has no gradient, so that parameters without influence stay unknown: %s", self.name, error)
            return ()
        slopes = [slope.abs().max().item() if slope is not None and slope.numel() else 0.0 for slope in found]
        return tuple(name for name, slope in zip(names, slopes, strict=True) if slope <= _NOISE * max(slopes))


def _statistics(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """Parameter name → buffers of its module that have one number a neuron too, such as running means."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    found: dict[str, list[Tensor]] = {}
    for module in model.modules():
        vectors = [p for p in module.parameters(recurse=False) if p.ndim == 1 and p.numel() > 1]
        buffers = [b for b in module.buffers(recurse=False) if b.is_floating_point()]
        for buffer in buffers:
            owner = next((vector for vector in vectors if vector.shape == buffer.shape), None)
            if owner is not None:
                found.setdefault(names[id(owner)], []).append(buffer)
    return found


def _distribution(graph: NeuralGraph, name: str, gain: float) -> tuple[float, float]:
    """Mean and standard deviation of a parameter's numbers, from what its edges are."""
    if name in graph.left_out:
        return 0.0, 1.0
    blocks = graph.blocks[name]
    kinds = {block.kind for block in blocks}
    if EdgeKind.NORM_SCALE in kinds:
        return 1.0, 0.3
    if EdgeKind.BIAS in kinds:
        return 0.0, 0.3
    if kinds & _TABLES:  # one row is read at a time
        return 0.0, 1.0
    neurons = sum({block.dst.name: block.dst.size for block in blocks}.values())
    return 0.0, gain * math.sqrt(neurons / graph.parameters[name].numel())


# Calls, and what goes in and comes out.


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    return type(value)(_map_tensors(item, function) for item in value) if isinstance(value, (tuple, list)) else value


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.to(_LONG.get(tensor.dtype, tensor.dtype))


def _other(change: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """Other values of an input that are as legal: shaken numbers, changed indices."""
    if tensor.is_floating_point() or tensor.is_complex():
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0), dtype=tensor.dtype)
        return tensor + noise.to(tensor.device)
    return tensor if tensor.dtype is torch.bool or not tensor.numel() else change(tensor)


# Outputs compared.


def _size(outputs: list[Tensor]) -> float:
    """The largest absolute value that is finite; tiny if there is none but 0."""
    largest = [out[out.isfinite()].abs().max().item() for out in outputs if out.isfinite().any()]
    return max(largest, default=0.0) or torch.finfo(torch.float64).tiny


def _distance(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, relative to the size of what is expected; infinities must be the same."""
    if [out.shape for out in found] != [out.shape for out in expected]:
        return math.inf
    differences = [0.0]
    for new, old in zip(found, expected, strict=True):
        same = new == old  # infinities have no difference
        if not same.all():
            differences.append((new - old)[~same].abs().nan_to_num(math.inf).max().item())
    return max(differences) / _size(expected)


# Double precision throughout.


class _Doubled(TorchFunctionMode):
    """Layers that compute in single precision, whatever their input's, compute in double."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        func = _LENGTHENING.get(func, func)
        kwargs = {key: _lengthen(value) for key, value in (kwargs or {}).items()}
        return func(*map(_lengthen, args), **kwargs)


def _lengthen(value: Any) -> Any:
    return _LONG.get(value, value) if isinstance(value, torch.dtype) else value


@contextlib.contextmanager
def _double_precision() -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubled():
            yield
    finally:
        torch.set_default_dtype(default)
