"""Random small networks, as programs: each step names an operation, the tensor that it reads, and a seed.

Sizes are small and often equal, since equal sizes hide confusions of one dimension with another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["OPERATIONS", "RandomNetwork", "Step"]

SIZES = (1, 2, 2, 3, 3, 4, 4, 5, 6)
LARGEST = 2000  # numbers of a tensor


class Step(NamedTuple):
    operation: str
    back: int  # how many tensors before the last one it reads
    seed: int


class UnsuitableError(Exception):
    """The operation does not apply to tensors of this shape."""


class RandomNetwork(nn.Module):
    """A program that has run once, to make its parameters; steps that do not apply are left out."""

    def __init__(self, steps: Sequence[Step], *inputs: Tensor) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.shapes: list[tuple[int, ...]] = []
        made = list(inputs)
        for step in steps:
            self.steps.append(step)
            known = set(self._parameters)
            try:
                with torch.no_grad():
                    output = self._run(len(self.steps) - 1, made)
                if output.numel() > LARGEST or not output.isfinite().all() or len(output) != len(made[0]):
                    raise UnsuitableError
            except (UnsuitableError, RuntimeError, IndexError):
                self.steps.pop()
                for name in set(self._parameters) - known:
                    delattr(self, name)
                continue
            made.append(output)
            self.shapes.append(tuple(output.shape))

    def forward(self, *inputs: Tensor) -> Tensor:
        made = list(inputs)
        for number in range(len(self.steps)):
            made.append(self._run(number, made))
        return made[-1]

    def _run(self, number: int, made: Sequence[Tensor]) -> Tensor:
        step = self.steps[number]
        x = made[-1 - min(step.back, len(made) - 1)]
        return OPERATIONS[step.operation](_Scope(self, number, step.seed), x, made)


class _Scope:
    """Random choices of a step, which are the same in each run, and its parameters."""

    def __init__(self, network: RandomNetwork, number: int, seed: int) -> None:
        self._network, self._number = network, number
        self._random = random.Random(seed)
        self.choice, self.flip = self._random.choice, lambda: self._random.random() < 0.5
        self._count = 0

    def size(self) -> int:
        return self.choice(SIZES)

    def dim(self, x: Tensor) -> int:
        """Any but that of the batch."""
        if x.ndim == 1:
            raise UnsuitableError
        return self.choice(range(1, x.ndim))

    def parameter(self, *shape: int) -> Tensor:
        name = f"p{self._number}_{self._count}"
        self._count += 1
        if name not in self._network._parameters:
            self._network.register_parameter(name, nn.Parameter(torch.randn(shape)))
        return getattr(self._network, name)


Operation = Callable[[_Scope, Tensor, Sequence[Tensor]], Tensor]


def along(x: Tensor, dim: int, values: Tensor) -> Tensor:
    return values.view([-1 if d == dim else 1 for d in range(x.ndim)])


def linear(s: _Scope, x: Tensor, _: object) -> Tensor:
    dim = s.choice([x.ndim - 1, s.dim(x)])
    made = x.transpose(dim, -1) @ s.parameter(x.shape[dim], s.size())
    return torch.tanh(made + s.parameter(made.shape[-1])).transpose(dim, -1)


def shared(s: _Scope, x: Tensor, _: object) -> Tensor:
    weight = s.parameter(s.size(), x.shape[-1])
    weight = s.choice([weight.abs, weight.tanh, lambda: weight - weight.mean(1, keepdim=True)])()
    return functional.linear(torch.tanh(functional.linear(x, weight)), weight.t())


def made_weight(s: _Scope, x: Tensor, _: object) -> Tensor:
    size, width = s.size(), x.shape[-1]
    weight = s.parameter(size, width)
    choices = [
        lambda: weight @ s.parameter(width, width),
        lambda: weight * torch.ones_like(weight).tril(),
        lambda: weight.flip(0) + s.parameter(size, 1),
        lambda: weight.softmax(1),
        lambda: (s.parameter(size * width, 2) @ s.parameter(2)).view(size, width) + weight,
    ]
    return functional.linear(x, s.choice(choices)())


def convolution(s: _Scope, x: Tensor, _: object) -> Tensor:
    if x.ndim not in {3, 4}:
        raise UnsuitableError
    channels, dims = x.shape[1], x.ndim - 2
    groups = s.choice([1, 1, *(n for n in range(2, channels + 1) if channels % n == 0)])
    out, kernel = groups * s.choice([1, 2, 3]), [s.choice([1, 2])] * dims
    if s.flip():
        run = (functional.conv1d, functional.conv2d)[dims - 1]
        return run(x, s.parameter(out, channels // groups, *kernel), padding=s.choice([0, 1]), groups=groups)
    turned = (functional.conv_transpose1d, functional.conv_transpose2d)[dims - 1]
    return turned(x, s.parameter(channels, out // groups, *kernel), stride=s.choice([1, 2]), groups=groups)


def norm(s: _Scope, x: Tensor, _: object) -> Tensor:
    width, channels = x.shape[-1:], x.shape[1]
    groups = s.choice([n for n in range(1, channels + 1) if channels % n == 0])
    choices = [
        lambda: functional.layer_norm(x, width, s.parameter(*width), s.parameter(*width)),
        lambda: functional.rms_norm(x, width, s.parameter(*width)),
        lambda: functional.group_norm(x, groups, s.parameter(channels)),
        lambda: x * along(x, 1, s.parameter(channels)) / (1 + x.square().mean(1, keepdim=True)),
    ]
    return s.choice(choices)()


def attention(s: _Scope, x: Tensor, _: object) -> Tensor:
    if x.ndim != 3:
        raise UnsuitableError
    batch, length, width = x.shape
    heads, size = s.choice([1, 2, 3]), s.choice([1, 2, 4])

    def project(number: int) -> Tensor:
        made = functional.linear(x, s.parameter(number * size, width))
        return made.view(batch, length, number, size).transpose(1, 2).expand(batch, heads, length, size)

    query, key, value = project(heads), project(s.choice([1, heads])), project(heads)
    if s.flip():
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=s.flip())
    else:
        scores = query @ key.transpose(-1, -2) + s.parameter(heads, 1, length)
        scores = torch.einsum("hg,bgij->bhij", s.parameter(heads, heads), scores) if s.flip() else scores
        mixed = scores.softmax(-1) @ value
    return x + functional.linear(mixed.transpose(1, 2).flatten(2), s.parameter(width, heads * size))


def reshaped(s: _Scope, x: Tensor, _: object) -> Tensor:
    numbers = x[0].numel()
    first = s.choice([n for n in range(1, numbers + 1) if numbers % n == 0])
    choices = [
        lambda: x.reshape(len(x), first, -1),
        lambda: x.flatten(s.dim(x)),
        lambda: x.transpose(s.dim(x), s.dim(x)),
        lambda: x.unsqueeze(s.dim(x)),
        lambda: x.unflatten(s.dim(x), (s.choice([2, 3]), -1)),
        lambda: functional.channel_shuffle(x, 2),
        lambda: functional.pixel_shuffle(x, 2),
        lambda: functional.unfold(x, 2, padding=1),
    ]
    return s.choice(choices)()


def in_parts(s: _Scope, x: Tensor, _: object) -> Tensor:
    dim = s.dim(x)
    first, second = x.chunk(2, dim) if x.shape[dim] % 2 == 0 else (x, x)
    choices = [
        lambda: torch.cat([second, first], dim),
        lambda: torch.cat([torch.relu(first), second], dim),
        lambda: torch.stack([first, second], dim).flatten(dim, dim + 1),
        lambda: first * torch.sigmoid(second),
        lambda: first + second.flip(dim),
        lambda: torch.cat([x, x.mean(dim, keepdim=True)], dim),
        lambda: sum(number * part for number, part in enumerate(x.unbind(dim), 1)),
        lambda: torch.stack(x.unbind(dim)[::-1], dim),
        lambda: sum(a * b for a, b in pairwise(x.unbind(dim))) + x.select(dim, 0),
    ]
    return s.choice(choices)()


def indexed(s: _Scope, x: Tensor, _: object) -> Tensor:
    dim = s.dim(x)
    size = x.shape[dim]
    index = torch.tensor([s.choice(range(size)) for _ in range(size)], device=x.device)
    choices = [
        lambda: x.index_select(dim, index),
        lambda: x.gather(dim, along(x, dim, index).expand(x.shape)),
        lambda: x.scatter_add(dim, along(x, dim, index).expand(x.shape), x.tanh()),
        lambda: x.scatter(dim, along(x, dim, index).long(), 0.5),
        lambda: x.index_add(dim, index, x.tanh()),
        lambda: x.index_put((index % x.shape[0],), x.select(0, 0) * 0.5),
        lambda: x * x.argmax(dim, keepdim=True),
        lambda: x.topk(max(1, size // 2), dim)[s.choice([0, 1])] + x.mean(dim, keepdim=True),
        lambda: x.narrow(dim, 1, size - 1),
        lambda: x.select(dim, size // 2),
        lambda: x + x.flip(dim),
        lambda: x * x.roll(1, dim),
        lambda: x.repeat_interleave(2, dim),
        lambda: x.masked_fill(along(x, dim, index) > 0, 0.5),
        lambda: functional.pad(x, [1, s.choice([0, 1, -1])]),
        lambda: x.cumsum(dim),
        lambda: x.sort(dim)[0],
        lambda: functional.embedding((x.sigmoid() * 2.99).long(), s.parameter(3, 2)) + x.mean(),
    ]
    return s.choice(choices)()


def reduced(s: _Scope, x: Tensor, _: object) -> Tensor:
    dim, keep = s.dim(x), s.flip()
    choices = [
        lambda: x.mean(dim, keepdim=keep),
        lambda: x.max(dim, keepdim=keep)[s.choice([0, 1])] * 1.0,
        lambda: x.softmax(dim),
        lambda: x - x.mean(dim, keepdim=True),
        lambda: torch.fft.fft(x, dim=dim).real,
    ]
    return s.choice(choices)()


def met(s: _Scope, x: Tensor, made: Sequence[Tensor]) -> Tensor:
    other = s.choice(made)
    choices = [
        lambda: x + other,
        lambda: x * other,
        lambda: torch.cat([x, other], s.dim(x)),
        lambda: x @ other,
        lambda: x + x.transpose(1, -1),
        lambda: x.flatten(2).mean(2)[:, :, None] * other.flatten(2).mean(2)[:, None],
        lambda: torch.where(x > 0, x, other),
    ]
    return s.choice(choices)()


def with_constants(s: _Scope, x: Tensor, _: object) -> Tensor:
    dim = s.dim(x)
    size = x.shape[dim]
    choices = [
        lambda: torch.arange(size, dtype=x.dtype, device=x.device),
        lambda: torch.full((size,), 2.0, dtype=x.dtype, device=x.device),
        lambda: s.parameter(size),
        lambda: s.parameter(size).softmax(0),
    ]
    values = along(x, dim, s.choice(choices)())
    return s.choice([lambda: x + values, lambda: x * values, lambda: torch.cat([x, values.expand(x.shape)], dim)])()


def weighted(s: _Scope, x: Tensor, _: object) -> Tensor:
    equation, *sizes = {
        2: s.choice([("bd,hde->bhe", 3, x.shape[-1], 2), ("bd,dhe->bhe", x.shape[-1], 2, 3)]),
        3: s.choice([("bnd,nde->be", *x.shape[1:], 2), ("bnd,hde->bhne", 2, x.shape[-1], 3)]),
        4: s.choice([("bhnd,hde->bne", x.shape[1], x.shape[3], 2), ("bhnd,nde->bhe", *x.shape[2:], 3)]),
    }.get(x.ndim, ("...d,de->...e", x.shape[-1], 2))
    return torch.einsum(equation, x, s.parameter(*sizes))


def in_place(s: _Scope, x: Tensor, _: object) -> Tensor:
    dim = s.dim(x)
    made, zeros = x.clone(), torch.zeros_like(x)
    turned = made.transpose(0, -1)
    first = (slice(None),) * dim + (slice(0, max(1, x.shape[dim] // 2)),)
    choices = [
        lambda: made[first].mul_(2),
        made[first].relu_,
        lambda: made.add_(x.flip(dim)),
        lambda: made.select(dim, 0).fill_(0.5),
        lambda: made.select(dim, -1).copy_(x.select(dim, 0)),
        lambda: made.select(dim, -1).add_(x.mean(dim)),
        lambda: turned[:1].copy_(x.transpose(0, -1)[-1:]),
        lambda: turned.diagonal(dim1=0, dim2=1).mul_(2),
        lambda: zeros[first].copy_(x[first]),
        lambda: made[first].add_(x.mean(dim, keepdim=True)),
    ]
    s.choice(choices)()
    return made + zeros


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        linear,
        shared,
        made_weight,
        convolution,
        norm,
        attention,
        reshaped,
        in_parts,
        indexed,
        reduced,
        met,
        with_constants,
        weighted,
        in_place,
    )
}
