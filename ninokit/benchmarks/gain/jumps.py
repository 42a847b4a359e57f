"""A jump from a checkpoint, by a nowcaster that looks at states or at means.

Shape legend: context = past states, oldest first; shape… = a parameter's own shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ninokit import encode
from ninokit.benchmarks.gain.training import Training, cuda_devices
from ninokit.graph.structure import NeuralGraph
from ninokit.nowcasters import LineFit, Nowcaster
from ninokit.nowcasters.workers import plain_mode
from ninokit.training.jump import jump
from ninokit.training.nowcasting import optimized_ids
from ninokit.training.optimizer_memory import follow_jump
from ninokit.training.replicas import Replicas

__all__ = ["Jumper", "looking_ahead"]


class Jumper:
    """Jumps of one training's model; its neural graph is found once, when a nowcaster first needs it.

    Args:
        training: whose model and optimizer jump.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._found: NeuralGraph | None = None

    def jump(
        self, nowcaster: Nowcaster, horizon: int, states: Mapping[str, Tensor], seen: Mapping[str, Tensor]
    ) -> None:
        """Write a forecast into the weights, or nothing.

        Args:
            nowcaster: what predicts.
            horizon: how many states ahead.
            states: name → past states of the trained parameters, shape (context, shape…), the last as they are now.
            seen: what the nowcaster is shown in their place: the same, or means, of the same shapes.

        Raises:
            ForecastError: as from `ninokit.training.jump.jump`.
            Exception: what the nowcaster raises.
        """
        model, optimizer = self._training.model, self._training.optimizer
        optimized = optimized_ids([optimizer])
        graph = self._graph() if nowcaster.needs_graph else None
        parameters = dict(model.named_parameters())
        names = [name for name in parameters if name in (states if graph is None else graph.parameters)]
        trained = {name for name in names if name in states and id(parameters[name]) in optimized}
        # Frozen parameters give context to nowcasters that read the graph.
        history = {n: seen[n] if n in seen else _standing(parameters[n], nowcaster.context) for n in names}
        device = next(model.parameters()).device
        # What follows shall not depend on whether the forecast draws random numbers.
        with plain_mode(device), torch.random.fork_rng(devices=cuda_devices(model)):
            forecast = nowcaster.forecast(graph, history, horizon)
            # Which weights move, the true states tell, also where the prediction is made from means.
            jump(forecast, {name: parameters[name] for name in names}, states, trained, Replicas(model))
        follow_jump(optimizer, {parameters[name]: states[name][-1] for name in trained})

    def _graph(self) -> NeuralGraph:
        if self._found is None:
            model = self._training.model
            with torch.random.fork_rng(devices=cuda_devices(model)):
                self._found = encode(model, self._training.example_inputs)
        return self._found


def _standing(parameter: Tensor, context: int) -> Tensor:
    return parameter.detach().expand(context, *parameter.shape)


def looking_ahead(nowcaster: Nowcaster, horizon: int) -> Nowcaster:
    """A nowcaster that may look as far ahead as is asked, if it is one that has no limit of its own.

    Args:
        nowcaster: any.
        horizon: in states.

    Returns:
        A longer `LineFit` for one that is too short; any other as it is.
    """
    if type(nowcaster) is LineFit and nowcaster.max_horizon < horizon:
        return LineFit(nowcaster.context, horizon)
    return nowcaster
