"""The rule of every operator, on a network of two layers around it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ninokit
from ninokit.errors import PluginError
from ninokit.graph import EdgeKind, NeuralGraph, trace
from ninokit.graph.tracing.rules import RULES
from ninokit.plugins import Registry
from ninokit.testing import check_encoding

aten: Any = torch.ops.aten
Function = Callable[..., Tensor]


class Around(nn.Module):
    """A layer, an operator on its output, and a layer that reads what comes out.

    The operator's function gets the outputs h and k of two layers, of shape (4, 6) or (2, 8, 4, 4), a vector v with a
    number for each of their 6 or 8 neurons, and a matrix m with seven.
    """

    def __init__(self, function: Function, *, image: bool = False, inference: bool = False) -> None:
        super().__init__()
        width = 8 if image else 6
        layer = (lambda: nn.Conv2d(3, width, 1)) if image else (lambda: nn.Linear(5, width))
        self.first, self.other = layer(), layer()
        self.vector = nn.Parameter(torch.rand(width))
        self.matrix = nn.Parameter(torch.rand(width, 7))
        self.example = torch.randn(2, 3, 4, 4) if image else torch.randn(4, 5)
        self.function, self.inference = function, inference
        with torch.no_grad():
            self.last = nn.Linear(self.between(self.example).flatten(1).shape[1], 3)

    def between(self, x: Tensor) -> Tensor:
        return self.function(self.first(x), self.other(x), self.vector, self.matrix)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode(self.inference):
            return self.last(self.between(x).flatten(1))


class Case(NamedTuple):
    """An example for a rule.

    Attributes:
        function: see `Around`.
        expected: what the graph says of the first layer's neurons: they are ``free``, ``fixed``, ``tied`` with those of
            the other layer, its neurons are added to them (``sum``), or they are in ``heads``.
        image: whether the layers are convolutions.
        composed: whether the operator is made of others, and arrives whole in inference mode alone.
    """

    function: Function
    expected: str = "free"
    image: bool = False
    composed: bool = False


CASES: dict[str, Case] = {}


def add(expected: str, /, *, image: bool = False, composed: bool = False, **functions: Function) -> None:
    CASES.update({f"aten.{name}": Case(f, expected, image, composed) for name, f in functions.items()})


def _each(names: str, expected: str, make: Callable[[Any], Function], **settings: bool) -> None:
    add(expected, **settings, **{name: make(getattr(aten, name)) for name in names.split()})  # type: ignore[arg-type]


# One by one: what the operator makes of numbers between 0 and 1 is added to them.
_each(
    "abs acos alias asin asinh atan atanh digamma erfinv frac i0 lgamma sinc "
    "ceil celu clone cos cosh detach elu erf erfc exp exp2 expm1 floor gelu hardshrink hardsigmoid hardswish "
    "hardtanh leaky_relu log log10 log1p log2 logit mish nan_to_num neg reciprocal relu round rsqrt sgn sigmoid sign "
    "silu sin sinh softplus softshrink sqrt tan tanh trunc lift_fresh",
    "free",
    lambda operator: lambda h, k, v, m: h + operator(h.sigmoid()),
)
_each(
    "contiguous isfinite log_sigmoid positive relu6 selu square",
    "free",
    lambda operator: lambda h, k, v, m: h + operator(h.sigmoid()),
    composed=True,
)
_each("isinf isnan logical_not", "free", lambda operator: lambda h, k, v, m: h + operator(h))
add(
    "free",
    acosh=lambda h, k, v, m: h + aten.acosh(h.exp() + 1),
    bernoulli=lambda h, k, v, m: h * aten.bernoulli(h, 1.0),
    bitwise_not=lambda h, k, v, m: h * aten.bitwise_not(h > 0),
    log_sigmoid_forward=lambda h, k, v, m: aten.log_sigmoid_forward(h)[0],
    native_dropout=lambda h, k, v, m: aten.native_dropout(h, 0.5, False)[0],
    threshold=lambda h, k, v, m: aten.threshold(h, 0.1, 0.0),
    _to_copy=lambda h, k, v, m: aten._to_copy(h, dtype=torch.float64).to(h.dtype),
)
add("free", composed=True, to=lambda h, k, v, m: aten.to(h, torch.float64).to(h.dtype))

# Two by two: numbers at the same index.
_each(
    "atan2 clamp_max clamp_min copysign div floor_divide fmod hypot maximum minimum mul pow remainder "
    "xlogy fmax fmin heaviside logaddexp logaddexp2 eq ge gt le lt ne logical_and logical_or logical_xor",
    "tied",
    lambda operator: lambda h, k, v, m: h + operator(h.sigmoid(), k.sigmoid()),
)
_each(
    "sigmoid_backward silu_backward tanh_backward gelu_backward",
    "tied",
    lambda operator: lambda h, k, v, m: operator(k, h),
)
_each("mish_backward", "tied", lambda operator: lambda h, k, v, m: operator(k, h), composed=True)
_each("true_divide", "tied", lambda operator: lambda h, k, v, m: operator(h, k.exp()), composed=True)
_each(
    "bitwise_and bitwise_or bitwise_xor",
    "tied",
    lambda operator: lambda h, k, v, m: h + operator(h > 0, k > 0),
)
add(
    "tied",
    clamp=lambda h, k, v, m: h + aten.clamp(h, k),
    masked_fill=lambda h, k, v, m: aten.masked_fill(h, k > 0, 0.5),
    complex=lambda h, k, v, m: aten.complex(h, k).abs(),
    where=lambda h, k, v, m: aten.where(h > k, h, k),
    elu_backward=lambda h, k, v, m: aten.elu_backward(k, 1.0, 1.0, 1.0, False, h),
    hardtanh_backward=lambda h, k, v, m: aten.hardtanh_backward(k, h, -0.5, 0.5),
    leaky_relu_backward=lambda h, k, v, m: aten.leaky_relu_backward(k, h, 0.1, False),
    softplus_backward=lambda h, k, v, m: aten.softplus_backward(k, h, 1.0, 20.0),
    threshold_backward=lambda h, k, v, m: aten.threshold_backward(k, h, 0.0),
)
add(
    "tied",
    composed=True,
    max=lambda h, k, v, m: aten.max(h, k),
    min=lambda h, k, v, m: aten.min(h, k),
)
add(
    "sum",
    add=lambda h, k, v, m: aten.add(h, k),
    sub=lambda h, k, v, m: aten.sub(h, k),
    rsub=lambda h, k, v, m: aten.rsub(h, k),
    addcmul=lambda h, k, v, m: aten.addcmul(h, k, v),
    addcdiv=lambda h, k, v, m: aten.addcdiv(h, k, v.exp()),
    lerp=lambda h, k, v, m: aten.lerp(h, k, 0.3),
    copy=lambda h, k, v, m: h + aten.copy(h, k),
)
add("free", _prelu_kernel=lambda h, k, v, m: aten._prelu_kernel(h, v))
add("free", composed=True, prelu=lambda h, k, v, m: aten.prelu(h, v))

# Numbers that do not come from the network: equal ones, and positions.
add(
    "free",
    full=lambda h, k, v, m: h * aten.full([4, 6], 2.0),
    full_like=lambda h, k, v, m: h * aten.full_like(h, 2.0),
    new_full=lambda h, k, v, m: h * aten.new_full(h, [4, 6], 2.0),
    new_ones=lambda h, k, v, m: h * aten.new_ones(h, [4, 6]),
    new_zeros=lambda h, k, v, m: h + aten.new_zeros(h, [4, 6]),
    ones=lambda h, k, v, m: h * aten.ones([4, 6]),
    ones_like=lambda h, k, v, m: h * aten.ones_like(h),
    scalar_tensor=lambda h, k, v, m: h * aten.scalar_tensor(2.0),
    zeros=lambda h, k, v, m: h + aten.zeros([4, 6]),
    zeros_like=lambda h, k, v, m: h + aten.zeros_like(h),
    fill=lambda h, k, v, m: h * aten.fill(h, 2.0),
    zero=lambda h, k, v, m: h + aten.zero(h),
    empty=lambda h, k, v, m: h * aten.empty([4, 6]).fill_(2.0),
    empty_like=lambda h, k, v, m: h * aten.empty_like(h).fill_(2.0),
    empty_strided=lambda h, k, v, m: h * aten.empty_strided([4, 6], [6, 1]).fill_(2.0),
    new_empty=lambda h, k, v, m: h * aten.new_empty(h, [4, 6]).fill_(2.0),
    new_empty_strided=lambda h, k, v, m: h * aten.new_empty_strided(h, [4, 6], [6, 1]).fill_(2.0),
)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


add(
    "fixed",
    arange=lambda h, k, v, m: h * torch.arange(6.0),
    eye=lambda h, k, v, m: h * aten.eye(6)[2],
    linspace=lambda h, k, v, m: h * aten.linspace(0, 1, 6),
    rand=lambda h, k, v, m: h * torch.rand(6, generator=seeded()),
    randn=lambda h, k, v, m: h * torch.randn(6, generator=seeded()),
    rand_like=lambda h, k, v, m: h * aten.rand_like(h),
    randn_like=lambda h, k, v, m: h * aten.randn_like(h),
    randint=lambda h, k, v, m: h * torch.randint(1, 9, (6,), generator=seeded()),
    randperm=lambda h, k, v, m: h * torch.randperm(6, generator=seeded()),
)

# Numbers that move.
add(
    "free",
    view=lambda h, k, v, m: aten.view(h, [4, 2, 3]),
    _unsafe_view=lambda h, k, v, m: aten._unsafe_view(h, [4, 3, 2]),
    _reshape_alias=lambda h, k, v, m: aten._reshape_alias(h, [4, 2, 3], [6, 3, 1]),
    unsqueeze=lambda h, k, v, m: aten.unsqueeze(h, 1),
    squeeze=lambda h, k, v, m: aten.squeeze(h.unsqueeze(1), 1),
    expand=lambda h, k, v, m: aten.expand(h.unsqueeze(1), [4, 3, 6]),
    permute=lambda h, k, v, m: aten.permute(h.view(4, 2, 3), [0, 2, 1]),
    transpose=lambda h, k, v, m: aten.transpose(h.view(4, 2, 3), 1, -1),
    t=lambda h, k, v, m: aten.t(aten.t(h).relu()),
    select=lambda h, k, v, m: aten.select(h.view(4, 2, 3), 1, 1),
    unbind=lambda h, k, v, m: aten.unbind(h.view(4, 2, 3), 1)[1],
    slice=lambda h, k, v, m: aten.slice(h, 1, 1, 5, 2),
    narrow=lambda h, k, v, m: aten.narrow(h, 1, 1, 4),
    split=lambda h, k, v, m: aten.split(h, 4, 1)[1].exp() * aten.split(h, 2, -1)[0],
    split_with_sizes=lambda h, k, v, m: aten.split_with_sizes(h, [2, 1, 3], 1)[2],
    unsafe_split=lambda h, k, v, m: aten.unsafe_split(h, 4, 1)[0],
    unsafe_split_with_sizes=lambda h, k, v, m: aten.unsafe_split_with_sizes(h, [2, 4], 1)[1],
    cat=lambda h, k, v, m: aten.cat([h, k, h], 1),
    stack=lambda h, k, v, m: aten.stack([h, k], 1),
    repeat=lambda h, k, v, m: aten.repeat(h, [1, 2]),
    flip=lambda h, k, v, m: aten.flip(h, [1]),
    roll=lambda h, k, v, m: aten.roll(h, [2], [1]),
    constant_pad_nd=lambda h, k, v, m: aten.constant_pad_nd(h, [1, 2]),
    as_strided=lambda h, k, v, m: aten.as_strided(h, [4, 6], [6, 1]),
)
CASES["aten.narrow"] = CASES["aten.narrow"]._replace(composed=True)
add(
    "free",
    composed=True,
    reshape=lambda h, k, v, m: aten.reshape(h, [4, 2, 3]),
    flatten=lambda h, k, v, m: aten.flatten(h.view(4, 2, 3), 1),
    unflatten=lambda h, k, v, m: aten.unflatten(h, 1, [3, 2]),
    chunk=lambda h, k, v, m: aten.chunk(h, 3, 1)[1],
    unsafe_chunk=lambda h, k, v, m: aten.unsafe_chunk(h, 2, 1)[0],
)
add(
    "free",
    image=True,
    pixel_shuffle=lambda h, k, v, m: aten.pixel_shuffle(h, 2),
    pixel_unshuffle=lambda h, k, v, m: aten.pixel_unshuffle(h, 2),
    channel_shuffle=lambda h, k, v, m: aten.channel_shuffle(h, 4),
)
add("free", glu=lambda h, k, v, m: aten.glu(h, 1))
add("free", image=True, composed=True, native_channel_shuffle=lambda h, k, v, m: aten.native_channel_shuffle(h, 2))


def some(indices: list[int]) -> Tensor:
    return torch.tensor(indices, device=torch.empty(0).device)


# Numbers that are looked up, and written where an index says.
add(
    "free",
    embedding=lambda h, k, v, m: aten.embedding(h, torch.tensor([2, 0, 1, 1], device=h.device)),
    index=lambda h, k, v, m: aten.index(h, [torch.tensor([2, 0, 1, 1], device=h.device)]),
    cumsum=lambda h, k, v, m: aten.cumsum(h, 0),
)
add(
    "free",
    _embedding_bag=lambda h, k, v, m: aten._embedding_bag(h, some([2, 0, 1, 1, 3, 0]), some([0, 1, 3, 4]))[0],
    _embedding_bag_forward_only=lambda h, k, v, m: functional.embedding_bag(
        some([2, 0, 1, 1, 3, 0]), h.detach(), some([0, 1, 3, 4])
    ),
    gather=lambda h, k, v, m: aten.gather(h, 0, some([2, 0, 1, 1])[:, None].expand(4, 6)),
    index_fill=lambda h, k, v, m: aten.index_fill(h, 0, some([1]), 0.5),
    _pack_padded_sequence=lambda h, k, v, m: aten._pack_padded_sequence(h[:, None], torch.tensor([4]), False)[0],
    _fft_r2c=lambda h, k, v, m: aten.view_as_real(aten._fft_r2c(h, [0], 0, True)),
    _fft_c2r=lambda h, k, v, m: aten._fft_c2r(aten.complex(h, h.cos()), [0], 0, 6),
    _fft_c2c=lambda h, k, v, m: aten.view_as_real(aten._fft_c2c(aten.complex(h, h.cos()), [0], 0, True)),
    view_as_real=lambda h, k, v, m: aten.view_as_real(aten.complex(h, h.cos())),
    view_as_complex=lambda h, k, v, m: aten.view_as_complex(torch.stack([h, h.cos()], -1)).abs(),
    _conj=lambda h, k, v, m: aten.view_as_real(aten._conj(aten.complex(h, h.cos())).sin()),
    _sparse_addmm=lambda h, k, v, m: aten._sparse_addmm(h, torch.eye(4, device=h.device).roll(1, 0).to_sparse(), h),
    select_backward=lambda h, k, v, m: aten.select_backward(h[0], [4, 6], 0, 2) + h,
    slice_backward=lambda h, k, v, m: aten.slice_backward(h[1:3], [4, 6], 0, 1, 3, 1) + h,
)
add(
    "free",
    composed=True,
    _pad_packed_sequence=lambda h, k, v, m: aten._pad_packed_sequence(h, torch.tensor([1] * 4), True, 0.0, 4)[0],
)
add(
    "tied",
    index_put=lambda h, k, v, m: aten.index_put(h, [some([2, 0])], k[:2]),
    index_copy=lambda h, k, v, m: aten.index_copy(h, 0, some([2, 0]), k[:2]),
    scatter=lambda h, k, v, m: aten.scatter(h, 0, some([2, 0, 1, 1])[:, None].expand(4, 6), k),
)
add(
    "sum",
    index_add=lambda h, k, v, m: aten.index_add(h, 0, some([2, 0, 2]), k[:3]),
    index_reduce=lambda h, k, v, m: aten.index_reduce(h, 0, some([2, 0, 2]), k[:3], "amax"),
    scatter_add=lambda h, k, v, m: aten.scatter_add(h, 0, some([2, 0, 1, 1])[:, None].expand(4, 6), k),
    scatter_reduce=lambda h, k, v, m: aten.scatter_reduce(h, 0, some([2, 0, 1, 1])[:, None].expand(4, 6), k, "mean"),
)
add(
    "free",
    argmax=lambda h, k, v, m: h * aten.argmax(h, 0),
    argmin=lambda h, k, v, m: h * aten.argmin(h, 0, True),
    sort=lambda h, k, v, m: aten.sort(h, 0)[0],
    topk=lambda h, k, v, m: aten.topk(h, 2, 0)[0],
)
add(
    "tied",
    image=True,
    max_unpool2d=lambda h, k, v, m: aten.max_unpool2d(
        k[..., :2, :2], functional.max_pool2d(h, 2, return_indices=True)[1], [4, 4]
    ),
    max_unpool3d=lambda h, k, v, m: aten.max_unpool3d(
        k.view(2, 8, 4, 2, 2)[:, :, :2, :1, :1],
        functional.max_pool3d(h.view(2, 8, 4, 2, 2), 2, return_indices=True)[1],
        [4, 2, 2],
        [2, 2, 2],
        [0, 0, 0],
    ),
)
add(
    "fixed",
    index_select=lambda h, k, v, m: aten.index_select(h, 1, torch.tensor([2, 0], device=h.device)),
    cumprod=lambda h, k, v, m: aten.cumprod(h, 1),
    logcumsumexp=lambda h, k, v, m: aten.logcumsumexp(h, -1),
    tril=lambda h, k, v, m: aten.tril(h),
    triu=lambda h, k, v, m: aten.triu(h),
)

# Numbers that are reduced, and act on each other.
_each(
    "mean sum amax amin nansum var std", "free", lambda operator: lambda h, k, v, m: h * operator(h, [1], keepdim=True)
)
add(
    "free",
    logsumexp=lambda h, k, v, m: h * aten.logsumexp(h, [1], True),
    prod=lambda h, k, v, m: h * aten.prod(h, 1, True),
    any=lambda h, k, v, m: h + aten.any(h > 0.5, 1, True),
    all=lambda h, k, v, m: h + aten.all(h > 0.5, 1, True),
    linalg_vector_norm=lambda h, k, v, m: h * aten.linalg_vector_norm(h, 2, [1], True),
    norm=lambda h, k, v, m: h * aten.norm(h, 2, [1], True),
    var_mean=lambda h, k, v, m: h * aten.var_mean(h, [1], correction=0, keepdim=True)[0],
    std_mean=lambda h, k, v, m: h * aten.std_mean(h, [1], correction=0, keepdim=True)[0],
    _log_softmax=lambda h, k, v, m: aten._log_softmax(h, -1, False),
    _safe_softmax=lambda h, k, v, m: aten._safe_softmax(h, 1),
    native_layer_norm=lambda h, k, v, m: aten.native_layer_norm(h, [6], v, v.exp(), 1e-5)[0],
)
add("free", composed=True, _fused_rms_norm=lambda h, k, v, m: aten._fused_rms_norm(h, [6], v, 1e-5)[0])
_each("softmax log_softmax", "free", lambda operator: lambda h, k, v, m: operator(h, 1), composed=True)
add("heads", _softmax=lambda h, k, v, m: aten._softmax(h.view(4, 2, 3), 2, False))
add("heads", native_group_norm=lambda h, k, v, m: aten.native_group_norm(h, v, None, 4, 6, 1, 2, 1e-5)[0])


def moments() -> tuple[Tensor, Tensor]:
    return torch.zeros(6), torch.ones(6)


def on(h: Tensor) -> list[Tensor]:
    return [moment.to(h) for moment in moments()]


add(
    "free",
    native_batch_norm=lambda h, k, v, m: aten.native_batch_norm(h, v, v, *on(h), False, 0.1, 1e-5)[0],
    _native_batch_norm_legit=lambda h, k, v, m: aten._native_batch_norm_legit(h, v, v, *on(h), False, 0.1, 1e-5)[0],
    _native_batch_norm_legit_no_training=lambda h, k, v, m: aten._native_batch_norm_legit_no_training(
        h, v, v, *on(h), 0.1, 1e-5
    )[0],
    _batch_norm_no_update=lambda h, k, v, m: aten._batch_norm_no_update(h, v, v, *on(h), 0.1, 1e-5)[0],
    _batch_norm_with_update=lambda h, k, v, m: aten._batch_norm_with_update(h, v, v, *on(h), 0.1, 1e-5)[0],
)

# Positions that are pooled and resized: 16 in a row, 4 × 4, and 4 × 2 × 2.
for dims, size in ((1, [16]), (2, [4, 4]), (3, [4, 2, 2])):
    two = [2] * dims

    def make(operator: Any, *arguments: Any, size: list[int] = size) -> Function:
        def function(h: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
            output = operator(h.reshape(2, 8, *size), *arguments)
            return output[0] if isinstance(output, tuple) else output

        return function

    for name, arguments, composed in (
        ("avg_pool{}d", (two,), dims == 1),
        ("max_pool{}d", (two,), True),
        ("max_pool{}d_with_indices", (two,), dims == 1),
        ("adaptive_avg_pool{}d", (two,), True),
        ("_adaptive_avg_pool{}d", (two,), False),
        ("adaptive_max_pool{}d", (two,), dims == 1),
        ("upsample_nearest{}d", ([2 * n for n in size],), False),
        ("_upsample_nearest_exact{}d", ([2 * n for n in size],), False),
        ("reflection_pad{}d", ([1, 1] * dims,), False),
        ("replication_pad{}d", ([1, 1] * dims,), False),
        (
            {1: "upsample_linear1d", 2: "upsample_bilinear2d", 3: "upsample_trilinear3d"}[dims],
            ([2 * n for n in size], False),
            False,
        ),
        ("upsample_bicubic{}d", ([8, 8], False), False),
        ("_upsample_bilinear{}d_aa", ([8, 8], False), False),
        ("_upsample_bicubic{}d_aa", ([8, 8], False), False),
    ):
        found = getattr(aten, name.format(dims), None)
        if found is not None and f"aten.{name.format(dims)}" in RULES:
            _each(
                name.format(dims),
                "free",
                lambda op, a=arguments, make=make: make(op, *a),
                image=True,
                composed=composed,
            )
add(
    "free",
    image=True,
    unfold=lambda h, k, v, m: aten.unfold(h, 2, 2, 1).mean(-1),
    im2col=lambda h, k, v, m: aten.im2col(h, [2, 2], [1, 1], [0, 0], [1, 1]),
    col2im=lambda h, k, v, m: aten.col2im(
        aten.im2col(h, [2, 2], [1, 1], [0, 0], [1, 1]), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]
    ),
    convolution=lambda h, k, v, m: aten.convolution(
        h, m.t()[..., None, None], None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    ),
)

# Contractions.
add(
    "free",
    mm=lambda h, k, v, m: aten.mm(h, m),
    bmm=lambda h, k, v, m: aten.bmm(h.unsqueeze(1), m.expand(4, 6, 7)),
    mv=lambda h, k, v, m: h * aten.mv(h, v)[:, None],
    dot=lambda h, k, v, m: h * aten.dot(h[0], v),
    addmm=lambda h, k, v, m: aten.addmm(m[0], h, m),
    baddbmm=lambda h, k, v, m: aten.baddbmm(m[:1].expand(4, 1, 7), h.unsqueeze(1), m.expand(4, 6, 7)),
    addmv=lambda h, k, v, m: h * aten.addmv(h[:, 0] * 0, h, v)[:, None],
    addbmm=lambda h, k, v, m: h @ m + aten.addbmm(m[:1], h.unsqueeze(1), m.expand(4, 6, 7)),
)
add("free", composed=True, matmul=lambda h, k, v, m: aten.matmul(h.unsqueeze(1), m))

add("free", _weight_norm_interface=lambda h, k, v, m: h @ aten._weight_norm_interface(m, v[:, None], 0)[0])

# Runs on a GPU alone; its rule is that of the other batch norms.
NO_EXAMPLE = {"aten.cudnn_batch_norm"}


def groups_written(graph: NeuralGraph, parameter: str) -> list[str]:
    return [block.dst.name for block in graph.blocks[parameter]]


def in_first(graph: NeuralGraph) -> dict[str, int]:
    """The groups of the first layer's neurons, each with how many keep their order."""
    return {block.dst.name: block.dst.rigid for block in graph.blocks["first.weight"]}


@pytest.fixture(autouse=True)
def built_in_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninokit.plugins.registry", Registry)


@pytest.mark.parametrize("name", CASES)
def test_rule(name, caplog):
    caplog.set_level(logging.INFO, logger="ninokit")
    case = CASES[name]
    calls = []

    def spied(call: Any) -> Any:
        calls.append(name)
        return RULES[name](call)

    model = Around(case.function, image=case.image, inference=case.composed)
    graph = trace(model, model.example, rules={**RULES, name: spied})
    assert calls, f"{name} is not among the operators of its example"
    assert not [message for message in caplog.messages if "rule" in message]
    model.inference = False
    check_encoding(model, model.example, graph, draws=2)
    first = in_first(graph)
    if case.expected == "fixed":
        assert all(rigid == graph_group(graph, group).size for group, rigid in first.items())
        return
    assert set(first.values()) == {1}
    other = groups_written(graph, "other.weight") if "other.weight" in graph.blocks else []
    residual = {frozenset([b.src.name, b.dst.name]) for b in graph.edges if b.kind is EdgeKind.RESIDUAL}
    heads = [b for b in graph.edges if b.kind is EdgeKind.ATTENTION_HEAD]
    assert (list(first) == other) is (case.expected == "tied")
    assert (residual == {frozenset([*first, *other])}) is (case.expected == "sum")
    assert bool(heads) is (case.expected == "heads")


SECOND_OUTPUTS = {
    "max": lambda h, k: k * (1 + h.max(0)[1]),
    "topk": lambda h, k: k * (1 + h.topk(4, 0)[1]),
    "max_pool": lambda h, k: k * (1 + functional.max_pool1d(h.t()[None], 2, return_indices=True)[1][0].t()[:1]),
    "layer_norm": lambda h, k: k * aten.native_layer_norm(h.t(), [4], None, None, 1e-5)[1].t(),
}


@pytest.mark.parametrize("function", SECOND_OUTPUTS.values(), ids=SECOND_OUTPUTS)
def test_second_outputs_know_their_neurons(function):
    """The other layer's were fixed instead, which left free what the indices and moments are of."""
    model = Around(lambda h, k, v, m: function(h, k))
    check_encoding(model, model.example, trace(model, model.example))


@pytest.mark.parametrize("extreme", [torch.max, torch.min])
def test_index_of_an_extreme_tells_the_order(extreme):
    model = Around(lambda h, k, v, m: h * extreme(h, 1, keepdim=True)[1])
    graph = trace(model, model.example)
    assert in_first(graph) == {"first": 6}
    free = Around(lambda h, k, v, m: h * extreme(h, 0, keepdim=True)[0])
    assert in_first(trace(free, free.example)) == {"first": 1}


def graph_group(graph: NeuralGraph, name: str) -> Any:
    return next(group for group in graph.neurons if group.name == name)


def test_every_rule_has_an_example():
    assert set(CASES) | NO_EXAMPLE == set(RULES)
    assert not set(CASES) & NO_EXAMPLE


def test_rules_are_of_operators():
    for name in RULES:
        namespace, _, operator = name.partition(".")
        assert str(getattr(getattr(torch.ops, namespace), operator)) == name
        assert callable(RULES[name])


# Operators without a rule, and rules that fail.


def without_rule(name: str) -> dict[str, Any]:
    return {operator: rule for operator, rule in RULES.items() if operator != name}


def test_an_operator_without_a_rule_fixes_what_it_reads(caplog):
    caplog.set_level(logging.INFO, logger="ninokit")
    model = nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 4), nn.Softplus(), nn.Linear(4, 4), nn.ReLU())
    model.append(nn.Linear(4, 2))
    x = torch.randn(6, 3)
    graph = trace(model, x, rules=without_rule("aten.softplus"))
    # Once, though it runs twice.
    assert caplog.messages == ["aten.softplus has no rule: the order of what it reads is fixed from here"]
    assert caplog.records[0].levelno == logging.INFO
    assert caplog.records[0].name == "ninokit.graph.tracing.recorder"
    report = check_encoding(model, x, graph)
    rigid = {block.parameter: block.dst.rigid for block in graph.edges if block.parameter.endswith("weight")}
    assert rigid == {"0.weight": 5, "2.weight": 4, "4.weight": 1, "6.weight": 2}
    assert report.moved_parameters == 4 * 4 + 4 + 2 * 4  # of the third layer, and what the last one reads of it
    free = trace(model, x)
    assert sum(block.dst.rigid for block in free.edges) < sum(block.dst.rigid for block in graph.edges)


def test_an_operator_that_reads_no_neurons_needs_no_rule(caplog):
    caplog.set_level(logging.INFO, logger="ninokit")

    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.special.bessel_j0(x))

    check_encoding(Wave(), torch.randn(4, 3), trace(Wave(), torch.randn(4, 3)))
    assert caplog.messages == []


def test_a_rule_that_fails_is_warned_of(caplog):
    caplog.set_level(logging.INFO, logger="ninokit")

    def fails(call: Any) -> Any:
        raise ZeroDivisionError("no luck")

    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 3)
    graph = trace(model, x, rules={**RULES, "aten.tanh": fails})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the rule of aten.tanh failed on shapes [(6, 5)]: ZeroDivisionError: no luck"),
        ("INFO", "aten.tanh has no rule: the order of what it reads is fixed from here"),
    ]
    check_encoding(model, x, graph)
    assert in_group(graph, "0.weight").rigid == 5
    assert in_group(graph, "2.weight").rigid == 2


def in_group(graph: NeuralGraph, parameter: str) -> Any:
    (block,) = graph.blocks[parameter]
    return block.dst


def test_operators_in_place_have_the_rule_of_those_that_are_not():
    model = nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.ReLU(inplace=True), nn.Linear(5, 2))
    seen = []

    def spied(call: Any) -> Any:
        seen.append((call.in_place, tuple(call.shape)))
        return RULES["aten.relu"](call)

    graph = trace(model, torch.randn(6, 3), rules={**RULES, "aten.relu": spied})
    assert seen == [(True, (6, 5))]
    assert in_group(graph, "0.weight").rigid == 1


# Rules of plugins.


class Plugin:
    """A plugin that offers rules."""

    def __init__(self, rules: Any) -> None:
        self.rules = rules

    @ninokit.hookimpl
    def ninokit_tracer_rules(self) -> Any:
        return self.rules


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    def use(*rules: Any, strict: bool = False) -> Registry:
        registry = Registry(strict=strict)
        for number, offer in enumerate(rules):
            registry.register(Plugin(offer), f"plugin{number}")
        monkeypatch.setattr("ninokit.plugins.registry", lambda: registry)
        return registry

    return use


def test_a_rule_of_a_plugin_comes_before_the_built_in_one(offered):
    """It says of tanh that it leaves no neurons: a constant, which the next layer reads as its inputs."""
    from ninokit.graph.tracing.axes import Axes

    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 3)
    assert [block.src.name for block in trace(model, x).blocks["2.weight"]] == ["0"]
    offered({"aten.tanh": lambda call: Axes.constant(call.shape)})
    assert [block.src.name for block in trace(model, x).blocks["2.weight"]] == ["(input of 2)"]
    assert [block.src.name for block in trace(model, x, rules=RULES).blocks["2.weight"]] == ["0"]


@torch.library.custom_op("ninokit_tests::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    return 2 * x


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Doubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(doubled(self.first(x)))


def test_a_rule_for_an_operator_of_a_library(offered, caplog):
    caplog.set_level(logging.INFO, logger="ninokit")
    model, x = Doubles(), torch.randn(6, 3)
    graph = trace(model, x)
    assert caplog.messages == ["ninokit_tests.doubled has no rule: the order of what it reads is fixed from here"]
    assert in_group(graph, "first.weight").rigid == 5
    check_encoding(model, x, graph)
    caplog.clear()
    offered({"ninokit_tests.doubled": lambda call: call.axes(0)})
    graph = trace(model, x)
    assert caplog.messages == []
    assert in_group(graph, "first.weight").rigid == 1
    check_encoding(model, x, graph, min_share=0.9)


WRONG = [
    ({"aten.tanh": "elementwise"}, "'aten.tanh': 'elementwise'"),
    ({"tanh": len}, "'tanh': <built-in function len>"),
    ({5: len}, "5: <built-in function len>"),
]


@pytest.mark.parametrize(("rules", "shown"), WRONG, ids=["no function", "no namespace", "no name"])
def test_wrong_rules_are_refused(offered, caplog, rules, shown):
    message = (
        f"ninokit_tracer_rules of plugin 'plugin0', registered by hand: expected functions by names of operators, such "
        f"as 'aten.relu', got {shown}"
    )
    assert offered(rules).tracer_rules() == {}
    assert caplog.messages == [f"left out: {message}"]
    with pytest.raises(PluginError) as caught:
        offered(rules, strict=True).tracer_rules()
    assert str(caught.value) == message


def test_two_rules_for_one_operator(offered, caplog):
    found = offered({"aten.tanh": len, "own.first": len}, {"aten.tanh": min}).tracer_rules()
    assert found == {"aten.tanh": min, "own.first": len}
    assert caplog.messages == [
        "left out: ninokit_tracer_rules of plugin 'plugin0', registered by hand: 'aten.tanh' is offered already by "
        "plugin 'plugin1', registered by hand, which is kept"
    ]
