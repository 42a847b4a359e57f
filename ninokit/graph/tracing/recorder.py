"""Runs a network and lets the rule of each operator say what it does to neurons."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

from ninokit.graph.tracing.algebra import Algebra
from ninokit.graph.tracing.axes import Axes, code
from ninokit.graph.tracing.call import Call, Rule
from ninokit.graph.tracing.elements import Elements, on_cpu
from ninokit.graph.tracing.memory import Window, find_window

__all__ = ["Recorder"]

_log = logging.getLogger(__name__)


class Recorder(TorchDispatchMode):
    """While it is active, every operator that runs is looked at.

    Args:
        parameters: the network's, by name; they number the neurons.
        rules: name of an operator → its rule.
        device: where tensors that the network makes elsewhere are brought to; None leaves them where they are.
        alike: constants of the network all of whose numbers are equal.

    Attributes:
        elements: what has been found out.
        used: the parameters that an operator has read.
        unknown: names of operators without a rule, each with how often it ran.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        rules: Mapping[str, Rule],
        device: torch.device | None,
        alike: Iterable[Tensor] = (),
    ) -> None:
        super().__init__()
        self.elements = Elements()
        self.used: set[str] = set()
        self.unknown: dict[str, int] = {}
        self._algebra = Algebra(self.elements)
        self._rules = rules
        self._device = device
        self._without_inputs = False
        self._axes = WeakTensorKeyDictionary()
        self._untold = WeakTensorKeyDictionary()  # an output of which a rule has said nothing → what made it
        self._brought = WeakTensorKeyDictionary()  # a tensor elsewhere → the one on the device in its place
        self._memory: dict[int, list[Any]] = {}
        self._names = WeakIdKeyDictionary()
        for name, parameter in parameters.items():
            self._names[parameter] = name
        for tensor in alike:
            self.note(tensor, Axes.constant(tensor.shape, alike=True))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._device is not None:
            args, kwargs = tree_map_only(Tensor, self._bring, (args, kwargs))
        name = _packet(func)
        in_place = name.endswith("_") and not name.endswith("__")
        if self._rule(name, in_place=in_place) is None:
            with self:  # in inference mode operators that are made of others arrive whole
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        with torch.inference_mode(False):  # the frames outlast it
            before = [self.lookup(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        output = func(*args, **kwargs)
        self._algebra.now += 1
        arguments = _by_position(func, args, kwargs)
        with torch.inference_mode(False):
            self._follow(name, Call(func, arguments, output, self._algebra, self.lookup, self.note, in_place), before)
        return output

    def lookup(self, tensor: Tensor) -> Axes:
        """The axes of a tensor; one that no operator has made is a parameter, or positions."""
        known = self._axes.get(tensor)
        if known is None and tensor in self._untold:
            known = self._read_untold(tensor)
        if known is None:
            name = self._names.get(tensor)
            known = self._start(name, tensor) if name is not None else self._found(tensor)
            self.note(tensor, known)
            self._remember(tensor)
        return known

    def note(self, tensor: Tensor, axes: Axes) -> None:
        """Keep the axes of a tensor."""
        self._axes[tensor] = axes

    def enter(self, inputs: Sequence[Tensor]) -> None:
        """The network's inputs: positions, on whose values all else depends.

        Where there is no tensor among them, as for a network that makes its own grid, they are all the tensors that
        no operator has made.
        """
        self._without_inputs = not inputs
        for tensor in inputs:
            self.note(tensor, replace(Axes.constant(tensor.shape), data=True))
            self._remember(tensor)

    def finish(self, outputs: Iterable[Tensor]) -> None:
        """The network's outputs keep their order."""
        with on_cpu():
            for tensor in outputs:
                self._algebra.pin_all(self.lookup(tensor), "output")

    def _bring(self, tensor: Tensor) -> Tensor:
        """The same one each time, since it may be written into."""
        if tensor.device == self._device:
            return tensor
        found = self._brought.get(tensor)
        if found is None:
            found = self._brought[tensor] = tensor.to(self._device)
            self.note(found, self.lookup(tensor))
            self._remember(found)
        return found

    def _found(self, tensor: Tensor) -> Axes:
        """Positions of a tensor that the network brings along."""
        return replace(Axes.constant(tensor.shape), data=self._without_inputs)

    def _start(self, name: str, parameter: Tensor) -> Axes:
        """Every dimension of a parameter numbers neurons until an operator says otherwise."""
        self.used.add(name)
        frames = []
        for dim, size in enumerate(parameter.shape):
            if size > 1:
                base = self.elements.new(size, name, dim)
                shape = [size if d == dim else 1 for d in range(parameter.ndim)]
                frames.append(code(torch.arange(base.start, base.start + size)).reshape(shape))
        alike = tuple(size == 1 for size in parameter.shape)
        return Axes(tuple(parameter.shape), tuple(frames), alike, frozenset([name]))

    def _follow(self, name: str, call: Call, before: list[Axes]) -> None:
        outputs = [value for value in tree_leaves(call.output) if isinstance(value, Tensor)]
        found = self._apply(name, call, outputs) or self._give_up(name, before, outputs)
        for output, axes in zip_longest(outputs, found[: len(outputs)]):
            if axes is None:
                self._untold[output] = (name, before)
                continue
            result = axes.from_tensors(before)
            if self._without_inputs and not before:
                result = replace(result, data=True)
            if call.in_place:
                self._overwrite(call.args[0], result)
            self.note(output, result)
            self._remember(output)

    def _read_untold(self, tensor: Tensor) -> Axes:
        """An output of which a rule has said nothing is read: what it was made from keeps its order."""
        name, made_from = self._untold.pop(tensor)
        for axes in made_from:
            self._algebra.pin_all(axes, f"in another output of {name}")
        known = Axes.constant(tensor.shape).from_tensors(made_from)
        self.note(tensor, known)
        self._remember(tensor)
        return known

    def _rule(self, name: str, *, in_place: bool) -> Rule | None:
        return self._rules.get(name) or (self._rules.get(name[:-1]) if in_place else None)

    def _apply(self, name: str, call: Call, outputs: Sequence[Tensor]) -> list[Axes | None] | None:
        """What the rule of an operator says; None if there is no rule, or it fails."""
        rule = self._rule(name, in_place=call.in_place)
        if rule is None:
            return None
        try:
            axes = rule(call)
        except Exception as error:
            shapes = [tuple(tensor.shape) for tensor in call.tensors]
            _log.warning("the rule of %s failed on shapes %s: %s: %s", name, shapes, type(error).__name__, error)
            return None
        found = [axes] if isinstance(axes, Axes) else axes
        if not _fit(found, outputs):
            shapes = [tuple(output.shape) for output in outputs]
            got = [getattr(each, "shape", each) for each in found] if isinstance(found, (list, tuple)) else found
            _log.warning("the rule of %s is left out: expected Axes of the shapes %s; got %s", name, shapes, got)
            return None
        return list(found)

    def _give_up(self, name: str, before: Iterable[Axes], outputs: Iterable[Tensor]) -> list[Axes | None]:
        """Without a rule the order of all that goes in is fixed."""
        touched = [axes for axes in before if axes.frames]
        if touched:
            if name not in self.unknown:
                _log.info("%s has no rule: the order of what it reads is fixed from here", name)
            self.unknown[name] = self.unknown.get(name, 0) + 1
        for axes in touched:
            self._algebra.pin_all(axes, f"read by {name}")
        return [Axes.constant(output.shape) for output in outputs]

    def _remember(self, tensor: Tensor) -> None:
        if tensor.layout is torch.strided:  # a sparse tensor has no memory that another one could share
            self._memory.setdefault(tensor.untyped_storage()._cdata, []).append(weakref.ref(tensor))

    def _overwrite(self, target: Tensor, axes: Axes) -> None:
        """Other tensors of the same memory see what is written; they keep what is known of them if it stays true."""
        old = self.lookup(target)
        same = len(old.frames) == len(axes.frames) and all(map(torch.equal, old.frames, axes.frames))
        for other in [ref() for ref in self._memory.get(target.untyped_storage()._cdata, [])]:
            if other is None or other is target:
                continue
            if _region(other) == _region(target):
                self.note(other, axes)
                continue
            known = self.lookup(other)
            met = known if same else self._overwrite_part(known, axes, find_window(target, other))
            self.note(other, met.differ(range(other.ndim)).from_tensors([known, axes]))

    def _overwrite_part(self, known: Axes, axes: Axes, window: Window | None) -> Axes:
        """The axes of a tensor after something has been written into a part of it."""
        if window is not None:
            return self._algebra.beside([known, window.lift(axes)], window.parts, known.shape, usage="token")
        self._algebra.pin_all(axes, "written into a part of another tensor")
        self._algebra.pin_all(known, "written into in part")
        return known.with_frames([])


def _fit(found: Any, outputs: Sequence[Tensor]) -> bool:
    """Whether a rule has said something for the outputs, or the first of them."""
    return (
        isinstance(found, (list, tuple))
        and len(found) > 0
        and all(
            axes is None or (isinstance(axes, Axes) and tuple(axes.shape) == tuple(output.shape))
            for axes, output in zip(found, outputs, strict=False)
        )
    )


def _region(tensor: Tensor) -> tuple[Any, ...]:
    """Which numbers of its memory a tensor has, and how."""
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def _by_position(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """All arguments by position, as far as they are given; those of which only later ones are, by their defaults."""
    if not kwargs:
        return args
    values = list(args)
    for argument in func._schema.arguments[len(args) :]:
        if argument.name in kwargs:
            values.append(kwargs[argument.name])
        else:
            values.append(argument.default_value if argument.has_default_value() else None)
    return tuple(values)


def _packet(func: Callable[..., Any]) -> str:
    return str(func._overloadpacket)  # type: ignore[attr-defined]
