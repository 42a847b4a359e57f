"""One line between making the optimizer and the training loop."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ninokit import nowcasters
from ninokit.encoding import encode, unwrap
from ninokit.errors import ConfigError
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.tables import listed
from ninokit.nowcasters.base import Nowcaster
from ninokit.plugins import registry
from ninokit.training.batchnorm import Recalibration
from ninokit.training.history import StateHistory
from ninokit.training.horizons import published_horizons
from ninokit.training.lookahead import run_step_hooks
from ninokit.training.nowcasting import Nowcasting, attached_to, optimized_ids
from ninokit.training.plan import NowcastPlan
from ninokit.training.replicas import Replicas

__all__ = ["attach"]

_log = logging.getLogger(__name__)


def attach(
    optimizer: Optimizer | list[Optimizer] | tuple[Optimizer, ...],
    model: nn.Module,
    nowcaster: Nowcaster | str | Path | None = "linefit",
    *,
    total_steps: int | None = None,
    period: int = 1000,
    horizons: Sequence[int] | None = None,
    graph: NeuralGraph | None = None,
    example_inputs: Any = None,
    architecture: str | None = None,
    nowcast_in_last_period: bool = False,
    history_dtype: torch.dtype | None = None,
    history_device: torch.device | str | None = None,
    recalibrate_batchnorm: int = 0,
    average: int = 0,
    recovery: int | None = None,
) -> Nowcasting:
    """Nowcast a model's weights while an optimizer trains it, and average them.

    The optimizer stays what it is, and the training loop too. After every `period` real optimizer steps (a step that
    a GradScaler skips, or that gradient accumulation only prepares, does not count) the weights jump to where the
    nowcaster predicts them. A prediction that is not finite is refused and logged, and the weights stay. Frozen
    parameters, and those the optimizer does not have, give context to nowcasters that read the graph and are never
    written, nor are weights that have not moved in the period (as far as a narrow ``history_dtype`` tells), such as
    those of a group whose learning rate is 0 or an embedding's padding; those that the graph leaves out, since the
    network does not use them, do neither, and a warning names them. Weights that are set in the middle of a period, as
    by ``model.load_state_dict``, look like training; detach then, and attach again.

    In data-parallel training give the model in its DistributedDataParallel: then all processes jump, or none, and to
    the same weights. Attached to an optimizer that counts its steps, as Adam's does, and has done some, nowcasting goes
    on from that count; for one that does not count them, as SGD, set `Nowcasting.steps`.

    With ``average=200``, a mean of the weights over the last 200 steps is kept beside them, in float32 and the memory
    of one copy. It scores better than the weights themselves, which jitter at a constant learning rate. It starts anew
    at a jump, after the recovery. `Nowcasting.averaged` evaluates there, `Nowcasting.averaged_state_dict` is what to
    ship. With ``nowcaster=None`` nothing jumps, and the average is all that is kept.

    The history, and the average, travel inside ``optimizer.state_dict()``: attach first, then load, and a training that
    was stopped anywhere goes on as if it had not been. What saves the optimizer's ``state`` and ``param_groups`` alone,
    as `torch.distributed.checkpoint` does, or copies the optimizer, loses both; the next nowcast then comes after a
    whole new period.

    The history takes the memory of as many copies of the parameters (but those of a frozen backbone, if the nowcaster
    reads no graph) as the nowcaster has context, where they are and in their dtype. With ``history_device="cpu"`` a
    network on a GPU leaves them in pinned memory of the host; each state is copied there beside the training, and takes
    the memory of one state on the GPU meanwhile. A ``history_dtype`` narrower than a parameter rounds its states, and
    the predicted weights start from the rounded ones; weights that a refused nowcast has overwritten still get their
    own bits back, from a copy beside the history for as long as the nowcast runs. bfloat16 keeps 8 bits of significand,
    so that movements below some 0.2 % of a weight, as late in a training, are lost: where the weights moved by 4 to 9 %
    from state to state, it changed the steps that the published NiNo predicts by 3 to 9 % at horizon 1 and by 1 to 3 %
    at 17 and at 40, and with a tenth of that movement by 17 to 39 % and by 5 to 12 %. float16 overflows beyond 65504;
    such a nowcast is refused.

    Args:
        optimizer: of any class; a wrapper that holds the real one as ``optimizer`` is seen through. Or a list of those
            that train the model together, such as Muon and AdamW, in the order in which they step: what is said here of
            the optimizer then goes for the last of them, which counts the steps and has the history in its state.
        model: the network, or a compiled or data-parallel wrapper of it.
        nowcaster: a nowcaster, or what `ninokit.nowcasters.load` takes: the name of a family without weights or of the
            zoo, another source, or the path of a published checkpoint. None makes no jumps.
        total_steps: optimizer steps that the training will have, those before attaching included; the horizons shrink
            towards its end. Without a nowcaster it is not needed.
        period: steps between nowcasts, at least the nowcaster's context.
        horizons: of the nowcasts in order, each from 1 to the nowcaster's longest; left out, the published schedule.
        graph: the neural graph, if it is at hand; left out, `encode` finds it.
        example_inputs: for `encode`.
        architecture: for `encode`.
        nowcast_in_last_period: nowcast even when less than a period is left to recover from a jump.
        history_dtype: of the past states of floating-point parameters: float32, bfloat16, float16 or float64; left
            out, each parameter's own. A history saved in another one is cast when it is loaded.
        history_device: where the past states are; left out, where each parameter is.
        recalibrate_batchnorm: optimizer steps after each jump over whose batches every BatchNorm in training mode
            takes its running statistics anew, as their mean; 0 keeps the statistics from before the jump, which then
            fade at the pace of the norm's momentum. Only evaluation sees the difference.
        average: steps that the average of the weights spans; 0 keeps none.
        recovery: steps after a jump that the average leaves out, and in which the weights are not to be judged
            (`Nowcasting.settled`); left out, a quarter of the period.

    Returns:
        A handle with the events so far and `Nowcasting.detach`.

    Raises:
        ConfigError: if a setting is out of its range, if optimizer and model share no parameter, if a parameter is of a
            kind that can't be nowcast, or if the optimizer has a nowcasting attached already.
        ArchitectureError: if no architecture encodes the model and the nowcaster needs its graph.
        CheckpointError: if the nowcaster can't be loaded.

    Example:
        >>> import torch, ninokit
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> nowcasting = ninokit.attach(optimizer, model, "linefit", period=10, total_steps=40)
        >>> for _ in range(40):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(8, 3)).square().mean().backward()
        ...     _ = optimizer.step()
        >>> [(event.step, event.horizon) for event in nowcasting.events]
        [(10, 2), (20, 2), (30, 1)]
    """
    optimizers = [_innermost(each) for each in (optimizer if isinstance(optimizer, list | tuple) else [optimizer])]
    _check_types(optimizers, model, nowcaster, graph)
    registry()  # plugins are loaded now, not in the middle of the training
    if isinstance(nowcaster, (str, Path)):
        nowcaster = nowcasters.load(nowcaster)
    _check_nowcaster(nowcaster)
    recalibrated = _steps("recalibrate_batchnorm", recalibrate_batchnorm)
    window = _steps("average", average)
    if nowcaster is None and not window:
        raise ConfigError("nowcaster: got None, and average=0, so that nothing is left to do; give one of the two")
    plan = _plan(nowcaster, period, total_steps, horizons, nowcast_in_last_period)
    recovery = plan.period // 4 if recovery is None else _steps("recovery", recovery)
    replicas = Replicas(model)
    model = unwrap(model)
    needs_graph = nowcaster is not None and nowcaster.needs_graph
    if graph is None and needs_graph:
        graph = encode(model, example_inputs, architecture=architecture)
    parameters = _parameters(optimizers, model, graph, alone=not needs_graph)
    _check_kinds(parameters, nowcaster)
    _check_memory(parameters)
    history = StateHistory(parameters, plan.context, history_dtype, history_device)
    run_step_hooks(optimizers[-1])
    recalibration = Recalibration(model, recalibrated)
    return Nowcasting(
        optimizers, model, parameters, history, nowcaster, graph, plan, recalibration, replicas, recovery, window
    )


def _plan(
    nowcaster: Nowcaster | None,
    period: int,
    total_steps: int | None,
    horizons: Sequence[int] | None,
    in_last_period: bool,
) -> NowcastPlan:
    if nowcaster is None:
        return NowcastPlan.without_nowcasts()
    if total_steps is None:
        raise ConfigError("total_steps: the horizons shrink towards the end of the training; give its optimizer steps")
    period, total_steps = _whole("period", period), _whole("total_steps", total_steps)
    if horizons is None:
        horizons = published_horizons(nowcaster.max_horizon, max(1, total_steps // max(1, period)))
    elif not isinstance(horizons, Iterable):
        raise ConfigError(f"horizons: expected a list of numbers from 1 up, one a nowcast, got {horizons!r}")
    horizons = [_whole("horizons", horizon) for horizon in horizons]
    if max(horizons, default=1) > nowcaster.max_horizon:
        raise ConfigError(f"horizons: expected at most {nowcaster.max_horizon}, the nowcaster's, got {max(horizons)}")
    plan = NowcastPlan(period, nowcaster.context, total_steps, horizons, in_last_period)
    if not plan.nowcasts:
        _log.warning("a period of %d steps leaves no nowcast in %d steps; shorten it", period, total_steps)
    return plan


def _whole(name: str, number: int) -> int:
    """A whole number, NumPy's too, as Python's own, which a saved state can hold."""
    if not isinstance(number, Integral):
        raise ConfigError(f"{name}: expected whole numbers, got {number!r}")
    return int(number)


def _steps(name: str, number: int) -> int:
    if not isinstance(number, Integral) or number < 0:
        raise ConfigError(f"{name}: expected a whole number of steps from 0 up, got {number!r}")
    return int(number)


def _check_nowcaster(nowcaster: Nowcaster | None) -> None:
    for name in ("context", "max_horizon") if nowcaster is not None else ():
        number = getattr(nowcaster, name, None)
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f"nowcaster: expected {name} of {type(nowcaster).__name__} from 1 up, got {number!r}")


def _check_memory(parameters: Mapping[str, Tensor]) -> None:
    """Two parameters of the same memory would jump twice, and a refused jump could not be undone."""
    owners: dict[int, str] = {}
    for name, parameter in parameters.items():
        memory = parameter.data_ptr()  # 0 of an empty one, and on the meta device
        other = owners.setdefault(memory, name) if memory else name
        if other != name:
            raise ConfigError(
                f"model: {other} and {name} are two parameters of the same memory; tie them by making them one, as "
                "module.weight = other.weight does"
            )


def _check_kinds(parameters: Mapping[str, Tensor], nowcaster: Nowcaster | None) -> None:
    """Check, before the training, that the parameters are of a kind of which a jump can be made."""
    for name, parameter in parameters.items():
        if parameter.is_complex() and nowcaster is not None and nowcaster.needs_weights:
            raise ConfigError(
                f"model: {name} is complex, and {type(nowcaster).__name__} predicts real numbers; use 'linefit', or a "
                "model whose real and imaginary parts are parameters of their own"
            )
        if parameter.is_floating_point() and parameter.dtype.itemsize < 2:
            raise ConfigError(
                f"model: {name}: expected a dtype of 16 bits or more, got {parameter.dtype}; attach before quantizing"
            )
        if hasattr(parameter, "placements"):  # a DTensor; its class takes a second to import
            raise ConfigError(
                f"model: {name} is sharded over several processes, as fully_shard does it; nowcasting needs whole "
                "parameters, as DistributedDataParallel has them"
            )


def _innermost(optimizer: Optimizer) -> Optimizer:
    """The real optimizer inside wrappers, such as Accelerate's, that are no whole optimizers themselves."""
    while not hasattr(optimizer, "_optimizer_step_post_hooks"):
        inner = getattr(optimizer, "optimizer", None)
        if not isinstance(inner, Optimizer):
            break
        optimizer = inner
    return optimizer


def _check_types(
    optimizers: Sequence[Optimizer],
    model: nn.Module,
    nowcaster: Nowcaster | str | Path | None,
    graph: NeuralGraph | None,
) -> None:
    if not optimizers:
        raise ConfigError("optimizer: expected a torch.optim.Optimizer, or several, got none")
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(f"optimizer: expected a torch.optim.Optimizer, got {optimizer!r}")
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: expected a torch.nn.Module, got {model!r}")
    if not isinstance(nowcaster, (Nowcaster, str, Path, NoneType)):
        raise ConfigError(f"nowcaster: expected a Nowcaster, a name, a path or None, got {nowcaster!r}")
    if not isinstance(graph, (NeuralGraph, NoneType)):
        raise ConfigError(f"graph: expected a NeuralGraph, as encode returns it, or None, got {graph!r}")
    if any(attached_to(optimizer) is not None for optimizer in optimizers):
        raise ConfigError("optimizer: a nowcasting is attached to it already; call its detach() first")


def _parameters(
    optimizers: Sequence[Optimizer], model: nn.Module, graph: NeuralGraph | None, *, alone: bool
) -> dict[str, Tensor]:
    """The parameters to look at by name, after a check that they are the graph's and the optimizer's.

    Where each is forecast `alone`, those of a frozen backbone, which the optimizer does not have either, say nothing.
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    optimized = optimized_ids(optimizers)
    shared = [name for name, parameter in parameters.items() if id(parameter) in optimized]
    if graph is not None:
        parameters = _without_left_out(parameters, graph)
    if not shared:
        raise ConfigError(
            "optimizer: none of its parameters is the model's; make it from this model's parameters, after moving "
            "the model to its device"
        )
    others = len(optimized) - len(shared)
    if others:
        _log.info("the optimizer has %d parameters that are not the model's; they are left alone", others)
    return {name: p for name, p in parameters.items() if not alone or p.requires_grad or id(p) in optimized}


def _without_left_out(parameters: Mapping[str, Tensor], graph: NeuralGraph) -> dict[str, Tensor]:
    """The model's parameters that are on the graph's edges."""
    left_out = set(graph.left_out)
    carried = {name: parameter for name, parameter in parameters.items() if name not in left_out}
    described = {name: tuple(shape) for name, shape in graph.parameters.items()}
    if not left_out <= parameters.keys() or {name: tuple(p.shape) for name, p in carried.items()} != described:
        raise ConfigError("graph: its parameters are not the model's; pass the graph of this very model")
    if left_out:
        _log.warning("not nowcast, as the network does not use them: %s", listed(graph.left_out))
    return carried
