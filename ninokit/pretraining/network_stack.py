"""Many networks of one architecture as one matrix of parameters, with their losses and gradients at once.

Shapes: N networks, P parameters of each, B examples in a batch, T tokens a sequence.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ninokit.errors import ConfigError

__all__ = ["LOOPED", "STACKED", "NetworkStack", "faster_execution"]

STACKED, LOOPED = "stacked", "looped"

# (network, inputs, labels) → the training loss of a batch.
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
# (parameters, buffers, inputs, labels), of one network or with a leading axis N → losses.
_LossesOf = Callable[[Tensor, dict[str, Tensor], Tensor, Tensor], Tensor]
_NETWORK = "network."  # where the network is in `_WithLoss`
# Of a network's convolutions, on a CPU: stacks of 9 thousand are as fast as loops, those of 14 thousand slower.
_MOST_STACKED_WEIGHTS = 10_000
# What stands for norms and attention in a stack takes no operands of two types, as autocast makes them on GPUs.
_TWO_TYPES = ("BFloat16", "input and grad types")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def faster_execution(network: nn.Module, device: torch.device) -> str:
    """Whether networks of a kind are faster stacked or one after the other, as measured (docs/trajectories.md).

    On a CPU, stacked convolutions become grouped ones. Of small networks, whose time goes into the calls, the stack is
    faster all the same; of larger ones, one after the other is.

    Args:
        network: one of them.
        device: where they are trained.

    Returns:
        ``"stacked"`` or ``"looped"``.

    Example:
        >>> faster_execution(nn.Conv2d(64, 64, 3), torch.device("cpu"))
        'looped'
    """
    convolutions = [module for module in network.modules() if isinstance(module, _CONVOLUTIONS)]
    weights = sum(module.weight.numel() for module in convolutions)
    return LOOPED if weights > _MOST_STACKED_WEIGHTS and device.type == "cpu" else STACKED


class _WithLoss(nn.Module):
    """A network that is called for its loss, so that its tensors can be others' for that call."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return self._loss(self.network, inputs, labels)


class NetworkStack:
    """N networks of one architecture.

    Stacked, one call computes all of them (`torch.func.vmap`), each with a dropout of its own; looped, it is a call a
    network. Buffers, such as BatchNorm's running statistics, are a network's own and updated in place.

    Args:
        networks: at least one, of one architecture, on one device and in training mode. Tied parameters count once.
        loss: the training loss of a network on a batch.
        execution: ``"stacked"`` or ``"looped"``.
        autocast: compute in bfloat16 where torch's autocast holds that to be safe.

    Attributes:
        parameters: all numbers, of shape (N, P), in the order of ``named_parameters``.
        buffers: by name, each of shape (N, ...).
        shapes: a network's parameters by name.

    Raises:
        ConfigError: a parameter is frozen.
    """

    def __init__(self, networks: Sequence[nn.Module], loss: Loss, execution: str, *, autocast: bool = False) -> None:
        frozen = [name for name, parameter in networks[0].named_parameters() if not parameter.requires_grad]
        if frozen:
            raise ConfigError(f"collect: expected a network that is trained as a whole; {frozen[0]} is frozen")
        self._template = _WithLoss(copy.deepcopy(networks[0]), loss)
        self._execution = execution
        self._autocast = autocast
        self.shapes = {name: tuple(parameter.shape) for name, parameter in networks[0].named_parameters()}
        self.parameters = torch.stack([_flat(network) for network in networks])
        owned = [dict(network.named_buffers()) for network in networks]
        self.buffers = {name: torch.stack([buffers[name] for buffers in owned]) for name in owned[0]}

    def losses_and_gradients(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss of every network on its own batch, and its gradient; updates the buffers.

        Args:
            inputs: shape (N, B, ...).
            labels: shape (N, B) or (N, B, T).

        Returns:
            Losses of shape (N,) and gradients of shape (N, P).

        Raises:
            ConfigError: the network does something that cannot be stacked.
        """
        if self._execution == STACKED:
            with _stacking_explained(autocast=self._autocast):
                return self._differentiated(self._stacked_losses, self.parameters, self.buffers, inputs, labels)
        found = [
            self._differentiated(self._loss, parameters, self._row_buffers(row), x, y)
            for row, (parameters, x, y) in enumerate(zip(self.parameters, inputs, labels, strict=True))
        ]
        losses, gradients = zip(*found, strict=True)
        return torch.stack(losses), torch.stack(gradients)

    def network(self, row: int) -> nn.Module:
        """One of the networks, for evaluation; the next call changes it.

        Args:
            row: which.

        Returns:
            A network with that one's parameters and buffers.
        """
        tensors = self._shaped(self.parameters[row]) | self._row_buffers(row)
        # Not strict: a tied parameter has one of its names here, and some buffers are no part of a saved state.
        self._template.network.load_state_dict(tensors, strict=False)
        return self._template.network

    def _differentiated(
        self, losses_of: _LossesOf, parameters: Tensor, buffers: dict[str, Tensor], inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        leaf = parameters.detach().requires_grad_()
        with torch.autocast(leaf.device.type, torch.bfloat16, enabled=self._autocast):
            losses = losses_of(leaf, buffers, inputs, labels)
        # Networks have no influence on each other, so that the sum's gradient is each loss's own.
        (gradients,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradients

    def _stacked_losses(self, parameters: Tensor, buffers: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        # The other kernels of attention have no rule for stacking.
        with sdpa_kernel(SDPBackend.MATH):
            losses: Tensor = vmap(self._loss, randomness="different")(parameters, buffers, inputs, labels)
        return losses

    def _loss(self, parameters: Tensor, buffers: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        tensors = {_NETWORK + name: tensor for name, tensor in (self._shaped(parameters) | buffers).items()}
        loss: Tensor = functional_call(self._template, tensors, (inputs, labels))
        return loss

    def _row_buffers(self, row: int) -> dict[str, Tensor]:
        return {name: buffer[row] for name, buffer in self.buffers.items()}

    def _shaped(self, flat: Tensor) -> dict[str, Tensor]:
        """One network's parameters by name from their numbers of shape (P,)."""
        pieces = flat.split([math.prod(shape) for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


def _flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@contextmanager
def _stacking_explained(*, autocast: bool) -> Iterator[None]:
    """Say what to do where a network cannot be stacked; its own faults stay as they are."""
    try:
        yield
    except RuntimeError as error:
        if "vmap" in str(error):
            raise ConfigError(f"collect: this network cannot be stacked: {error}. Set execution=looped") from error
        if autocast and any(words in str(error) for words in _TWO_TYPES):
            raise ConfigError(
                f"collect: this network cannot be stacked in bfloat16: {error}. Set autocast=false, or execution=looped"
            ) from error
        raise
