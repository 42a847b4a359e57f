"""The jump: a forecast written into the weights, all of it or nothing.

Shape legend: context = past states, oldest first; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor

from ninokit.errors import ForecastError
from ninokit.nowcasters.base import all_finite
from ninokit.training.history import holds_all_bits
from ninokit.training.replicas import Replicas
from ninokit.training.rollback import Rollback

__all__ = ["jump"]


@torch.no_grad()
def jump(
    predictions: Iterable[tuple[str, Tensor]],
    parameters: Mapping[str, Tensor],
    states: Mapping[str, Tensor],
    trained: Set[str],
    replicas: Replicas,
) -> None:
    """Write predictions as they come; if one is bad or missing, put back what was written.

    A weight whose states are all the same, as far as their dtype tells, stays: nothing trains it now, such as the row
    of an embedding's padding or what a learning rate of 0 holds, and nothing would correct a jump of it. A single state
    tells nothing of this.

    Args:
        predictions: name → prediction, shape (shape…), of every trained parameter; of others they are checked alone.
        parameters: name → parameter.
        states: name → its past states, shape (context, shape…), the last of them as it is now.
        trained: the names of those to write.
        replicas: the processes that have to jump together.

    Raises:
        ForecastError: naming the parameter, what was expected and what came; or if all weights stand still.
        Exception: what the predictions raise, after the weights are back.
    """
    with Rollback(parameters, states) as rollback:
        with replicas.all_or_none():
            still = True
            for name, prediction in map(_pair, predictions):
                checked = _checked(name, parameters.get(name), prediction)
                if name in trained:
                    moves = _moves(states[name])
                    still = still and not moves.any()
                    parameters[name].copy_(_moved(checked, rollback.keep(name), states[name][-1], moves))
            if missing := sorted(trained - rollback.names):
                raise ForecastError(f"prediction of {missing[0]}: missing ({len(missing)} in all)")
            if still:
                raise ForecastError("no trained weight has moved in the period, as far as its states tell")
        replicas.equalize(parameters[name] for name in sorted(trained))


def _pair(predicted: object) -> tuple[str, Tensor]:
    """What a forecast yields, which a nowcaster may get wrong."""
    if not isinstance(predicted, tuple) or len(predicted) != 2 or not isinstance(predicted[1], Tensor):
        raise ForecastError(f"predictions: expected pairs of a name and a tensor, got {predicted!r:.60}")
    return predicted


def _checked(name: str, parameter: Tensor | None, prediction: Tensor) -> Tensor:
    """A prediction in the parameter's dtype, in which it must be finite."""
    if parameter is None:
        raise ForecastError(f"prediction of {name}: the model has no such parameter")
    if prediction.shape != parameter.shape:
        raise ForecastError(
            f"prediction of {name}: expected shape {tuple(parameter.shape)}, got {tuple(prediction.shape)}"
        )
    cast = prediction.to(parameter.dtype)
    if not all_finite(cast):
        raise ForecastError(f"prediction of {name}: not finite (NaN or infinity)")
    return cast


def _moved(prediction: Tensor, weights: Tensor, last: Tensor, moves: Tensor) -> Tensor:
    """Where weights jump to: the prediction, taken from the weights on, but for those that do not move."""
    weights = weights.to(prediction.device)
    if not holds_all_bits(last, weights):  # the step goes on from the weights, not from their rounded state
        prediction = weights + (prediction - last.to(prediction.device))
    if moves.all():
        return prediction
    return torch.where(moves.to(prediction.device), prediction, weights.to(prediction.dtype))


def _moves(states: Tensor) -> Tensor:
    """Which weights have not the same value in all states, shape (shape…)."""
    if len(states) == 1:
        return torch.ones_like(states[0], dtype=torch.bool)
    moves = states[0] != states[-1]
    for state in states[1:-1]:
        moves |= state != states[0]
    return moves
