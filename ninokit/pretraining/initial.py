"""The weights that a nowcaster starts meta-training from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ninokit.nowcasters.nino import Nino
from ninokit.nowcasters.wnn import Wnn

__all__ = ["initialise"]

# Scaled states have deviation 1 over a parameter; what changes from state to state is far smaller than what differs
# from weight to weight.
_GAIN = 10.0


@torch.no_grad()
def initialise(nowcaster: Nino | Wnn) -> None:
    """Make a new nowcaster predict that nothing changes, and see what changes in its context.

    The last layer becomes zero, so that the error starts at that of "no change". What enters are states, which differ
    little from one to the next; the first layer's response to their differences is amplified, their mean left alone.

    Args:
        nowcaster: with the weights of its constructor; changed in place.
    """
    for parameter in nowcaster.readout[-1].parameters():
        nn.init.zeros_(parameter)
    embedding = nowcaster.edge_embedding if isinstance(nowcaster, Nino) else nowcaster.weight_embedding
    embedding.weight.copy_(_with_gain(embedding.weight, nowcaster.context))


def _with_gain(weight: Tensor, context: int) -> Tensor:
    """Multiply what a weight, of shape (hidden, taps·context), does to deviations from the mean of a tap's states."""
    by_state = weight.unflatten(1, (-1, context))
    mean = by_state.mean(-1, keepdim=True)
    return (mean + _GAIN * (by_state - mean)).flatten(1)
