"""The handle that `ninokit.attach` returns: it counts steps, keeps the history, and jumps."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ninokit.errors import ConfigError, ForecastError
from ninokit.graph.structure import NeuralGraph
from ninokit.graph.tables import listed
from ninokit.nowcasters.base import Nowcaster
from ninokit.nowcasters.workers import plain_mode
from ninokit.plugins import registry
from ninokit.training.average import RunningAverage
from ninokit.training.batchnorm import Recalibration
from ninokit.training.events import NowcastEvent
from ninokit.training.history import StateHistory
from ninokit.training.jump import jump
from ninokit.training.lookahead import state_owner
from ninokit.training.optimizer_memory import follow_jump
from ninokit.training.plan import NowcastPlan
from ninokit.training.replicas import Replicas
from ninokit.training.step_calls import StepCalls, never_compiled

__all__ = ["STATE_KEY", "Nowcasting", "attached_to", "optimized_ids"]

_log = logging.getLogger(__name__)

STATE_KEY = "ninokit"  # in the optimizer's state dict


class Nowcasting:
    """Nowcasting at work on an optimizer, or on several; made by `ninokit.attach`.

    Attributes:
        steps: real optimizer steps so far; those before attaching too, if the optimizer counts its own. Where it does
            not, as SGD, and has done some, set this to their number before the next.
        events: what happened at each nowcast, in order.
        graph: the network's neural graph, None if the nowcaster needs none.
        nowcaster: what predicts; None where nothing jumps and the average alone is kept.
        recovery: steps after a jump in which the weights are neither averaged nor to be judged.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        model: nn.Module,
        parameters: Mapping[str, Tensor],
        history: StateHistory,
        nowcaster: Nowcaster | None,
        graph: NeuralGraph | None,
        plan: NowcastPlan,
        recalibration: Recalibration,
        replicas: Replicas,
        recovery: int,
        window: int,
    ) -> None:
        self.events: list[NowcastEvent] = []
        self.graph = graph
        self.nowcaster = nowcaster
        # Its hooks hold the handle: were it to hold the optimizer, neither would go before the garbage collector comes.
        self._optimizer_refs = [weakref.ref(optimizer) for optimizer in optimizers]
        self._model = model
        self._parameters = dict(parameters)
        self._plan = plan
        self._history = history
        self._recalibration = recalibration
        self._replicas = replicas
        self.recovery = recovery
        self._average = RunningAverage(window, recovery) if window else None
        self._fault = ""  # why a state of this period could not be taken
        self._calls = StepCalls()
        self._warned = False  # of parameters that came later
        self._saved: Any = None  # taken from a state that the optimizer is loading
        *others, last = optimizers  # after the last one's step all weights are those of the next batch
        owner = state_owner(last)
        self.steps = _steps_taken(owner, 0)
        if _steps_taken(owner, -1) < 0 and _has_memory(owner):
            _log.warning(
                "%s has done steps, and does not count them; if they are among total_steps, set the handle's steps to "
                "their number",
                type(owner).__name__,
            )
        if (
            self.steps
            and nowcaster is not None
            and not plan.allows_nowcast(self.steps - self.steps % plan.period + plan.period)
        ):
            self._warn_of_the_end()
        self._hooks = [
            *(other.register_step_post_hook(self._after_other_step) for other in others),
            last.register_step_pre_hook(self._before_step),
            last.register_step_post_hook(self._after_step),
            owner.register_state_dict_post_hook(self._save),
            owner.register_load_state_dict_pre_hook(self._take_saved),
            owner.register_load_state_dict_post_hook(self._load),
        ]

    @property
    def accepted(self) -> int:
        """Number of nowcasts whose weights were kept."""
        return sum(event.accepted for event in self.events)

    @property
    def refused(self) -> int:
        """Number of nowcasts that were refused."""
        return len(self.events) - self.accepted

    @property
    def steps_since_jump(self) -> int:
        """Optimizer steps since the last accepted nowcast; before the first, all of them."""
        return self.steps - (self._last_jump or 0)

    @property
    def settled(self) -> bool:
        """Whether the weights may be judged: they have recovered from the last jump.

        Where an average is kept, it also covers as many steps as the recovery took, or its whole window. Before the
        first jump it is always true.
        """
        averaged = min(self._average.window, self.recovery) if self._average is not None else 0
        return self._last_jump is None or self.steps_since_jump >= self.recovery + averaged

    @property
    def _last_jump(self) -> int | None:
        return next((event.step for event in reversed(self.events) if event.accepted), None)

    @contextmanager
    def averaged(self, batches: Iterable[Any] | None = None) -> Iterator[None]:
        """A context in which the model has the averaged weights, to evaluate it there.

        Afterwards its weights and buffers have their own bits again, also after an error. Until the weights have
        recovered from a jump, the average is the one from before it; before the first step it is the weights
        themselves. The context takes another copy of the weights, and no optimizer may step in it.

        Args:
            batches: of inputs, each as the model is called with (a tensor, a tuple of arguments, or a dictionary): the
                running statistics of every BatchNorm are their mean over these, in training mode. Left out, the
                statistics are those of the weights that are trained.

        Raises:
            ConfigError: if no average is kept, or the context is entered twice.

        Example:
            >>> import ninokit
            >>> model = nn.Linear(1, 1, bias=False)
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            >>> nowcasting = ninokit.attach(optimizer, model, None, average=3)
            >>> for _ in range(2):
            ...     optimizer.zero_grad()
            ...     model(torch.ones(1, 1)).backward()  # moves the weight by -1
            ...     _ = optimizer.step()
            >>> before = model.weight.item()
            >>> with nowcasting.averaged():
            ...     print(round(model.weight.item() - before, 6))
            0.5
        """
        if self._average is None:
            raise ConfigError("averaged: no average is kept; give attach(average=…) a number of steps")
        with self._average.swapped_in(self._model, batches):
            yield

    def averaged_state_dict(self, batches: Iterable[Any] | None = None) -> dict[str, Any]:
        """The model's state with the averaged weights: what to ship.

        Args:
            batches: see `averaged`.

        Returns:
            A copy of the state of the model itself, without any wrapper's names.

        Raises:
            ConfigError: if no average is kept.
        """
        with self.averaged(batches):
            return deepcopy(self._model.state_dict())

    def detach(self) -> None:
        """Stop: the optimizer is as if nothing had been attached. Calling it again does nothing.

        The average stays what it is.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._history.release()
        self._recalibration.stop()

    @property
    def _optimizers(self) -> list[Optimizer]:
        return [optimizer for ref in self._optimizer_refs if (optimizer := ref()) is not None]

    @never_compiled
    def _before_step(self, optimizer: Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if self._average is not None and self._average.is_swapped_in:
            raise ConfigError(
                "optimizer.step() inside averaged(): the weights are the averaged ones there, and what the step does "
                "would be undone; leave the context first"
            )
        self._calls.enter()

    def _after_other_step(self, optimizer: Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Nothing is done before the last optimizer's step; the hook marks that this one is attached to."""

    @never_compiled
    def _after_step(self, optimizer: Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if self._calls.leave() and not _was_skipped(optimizer):
            self._count_step()

    def _count_step(self) -> None:
        self.steps += 1
        self._recalibration.count_step()
        if self._average is not None:
            self._average.update({name: self._parameters[name] for name in self._trained()})
        if not self._plan.is_snapshot(self.steps):
            return
        self._take_state()
        if self._plan.is_period_end(self.steps):
            try:
                if self._replicas.all_are(self._history.full or bool(self._fault)):
                    self._nowcast()
            finally:  # also when the user interrupts a nowcast and trains on
                self._end_period()

    def _take_state(self) -> None:
        try:
            self._history.snapshot()
        except Exception as error:  # no memory, or a parameter that has changed its shape: the training goes on
            self._fault = f"the state of step {self.steps} could not be taken: {type(error).__name__}: {error}"
            self._history.release()

    def _end_period(self) -> None:
        self._fault = ""
        self._history.clear()
        if not self._plan.allows_nowcast(self.steps + self._plan.period):
            self._history.release()

    def _nowcast(self) -> None:
        horizon = self._plan.horizon(self.steps)
        start = time.perf_counter()
        try:
            with self._plain_modes():
                states, trained = self._history.states, self._trained()
                jump(self._predictions(horizon), self._parameters, states, trained, self._replicas)
            reason = ""
        except Exception as error:  # whatever a nowcaster does, the training goes on
            reason = str(error) if isinstance(error, ForecastError) else f"{type(error).__name__}: {error}"
            _log.debug("the nowcast failed", exc_info=True)
        event = NowcastEvent(self.steps, horizon, not reason, reason, time.perf_counter() - start)
        self.events.append(event)
        if reason:
            _log.warning("step %d: nowcast refused, the weights stay: %s", self.steps, reason)
        else:
            _log.info("step %d: nowcast of horizon %d in %.3f s", self.steps, horizon, event.seconds)
            before = {self._parameters[name]: states[name][-1] for name in trained}
            for optimizer in self._optimizers:
                follow_jump(optimizer, before)
            self._recalibration.start()
            if self._average is not None:
                self._average.restart()
        registry().notify(event)

    def _plain_modes(self) -> ExitStack:
        """What makes any nowcaster compute as it is written, though the step is taken under autocast."""
        modes = ExitStack()
        for kind in sorted({"cpu"} | {parameter.device.type for parameter in self._parameters.values()}):
            modes.enter_context(plain_mode(torch.device(kind)))
        return modes

    def _predictions(self, horizon: int) -> Iterator[tuple[str, Tensor]]:
        if self._fault:
            raise ForecastError(self._fault)
        if self._replicas.may_end_apart:
            raise ForecastError(
                "inside DistributedDataParallel's join the processes can't agree on a jump; give all as many batches"
            )
        present = {id(parameter) for parameter in self._model.parameters()}
        if gone := [name for name, parameter in self._parameters.items() if id(parameter) not in present]:
            raise ForecastError(f"{listed(gone)}: no longer the model's own since attaching; detach, and attach again")
        self._warn_of_newcomers()
        if not self._trained():
            raise ForecastError("the optimizer has none of the model's trainable parameters (any more); attach again")
        assert self.nowcaster is not None  # without one the plan has no nowcasts
        yield from self.nowcaster.forecast(self.graph, self._history.states, horizon)

    def _warn_of_newcomers(self) -> None:
        known = {id(parameter) for parameter in self._parameters.values()}
        aside = set(self.graph.left_out) if self.graph is not None else set()
        optimized = optimized_ids(self._optimizers)
        new = [
            name
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad and id(parameter) in optimized - known and name not in aside
        ]
        if new and not self._warned:
            _log.warning("not nowcast, as they are new to training since attaching: %s; attach again", listed(new))
            self._warned = True

    def _trained(self) -> set[str]:
        """The parameters that may be written: not frozen, and the optimizer's."""
        optimized = optimized_ids(self._optimizers)
        return {n for n, p in self._parameters.items() if p.requires_grad and id(p) in optimized}

    def _save(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        state[STATE_KEY] = {
            "steps": self.steps,
            "events": [asdict(event) for event in self.events],
            "period": self._plan.period,
            "history": self._history.state_dict(),
            "fault": self._fault,
            "batchnorm": self._recalibration.state_dict(),
        }
        if self._average is not None:
            state[STATE_KEY]["average"] = self._average.state_dict()

    def _take_saved(self, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """Keep our part aside until the optimizer has accepted its own; torch hands a shallow copy."""
        self._saved = state.pop(STATE_KEY, None)
        return state

    def _load(self, optimizer: Optimizer) -> None:
        saved, self._saved = self._saved, None
        self._fault = ""
        self._history.clear()
        self._recalibration.stop()
        self._load_average(saved)
        if saved is None:
            self._go_on_from(_steps_taken(optimizer, self.steps))
            _log.info("the loaded state has no history; after step %d a whole new period comes first", self.steps)
            return
        try:
            mismatch = self._history.mismatch(saved["history"])
            steps, events = int(saved["steps"]), [NowcastEvent(**event) for event in saved["events"]]
            expected, fault = self._plan.states_taken(steps), str(saved.get("fault", ""))
            if saved["period"] != self._plan.period:
                mismatch = f"its period is {saved['period']}, here {self._plan.period}"
            elif saved["history"]["count"] != expected and expected and not fault:
                mismatch = f"it has {saved['history']['count']} states where step {steps} has {expected}"
            if "batchnorm" in saved:  # neither this nor a fault is in states of older versions
                self._recalibration.load_state_dict(saved["batchnorm"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.warning("the loaded history is left out: it is damaged (%s: %s)", type(error).__name__, error)
            self._go_on_from(_steps_taken(optimizer, self.steps))
            return
        self.events = events
        self._go_on_from(steps)
        if mismatch and self.nowcaster is not None:
            _log.warning("the loaded history is left out: %s", mismatch)
        elif fault:
            self._fault = fault
        elif expected:
            self._history.load_state_dict(saved["history"])

    def _load_average(self, saved: Any) -> None:
        if self._average is None:
            return
        self._average.forget()
        if not isinstance(saved, Mapping) or "average" not in saved:
            _log.info("the loaded state has no average; it starts anew")
            return
        try:
            self._average.load_state_dict(saved["average"], self._parameters)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.warning("the loaded average is left out, and starts anew: %s: %s", type(error).__name__, error)

    def _go_on_from(self, steps: int) -> None:
        self.steps = steps
        if steps >= self._plan.total_steps and self.nowcaster is not None:
            self._warn_of_the_end()

    def _warn_of_the_end(self) -> None:
        _log.warning(
            "no nowcast is left: the optimizer has done %d steps, and total_steps, which counts these too, is %d",
            self.steps,
            self._plan.total_steps,
        )


def optimized_ids(optimizers: Iterable[Optimizer]) -> set[int]:
    """The identities of the parameters that optimizers have now.

    Args:
        optimizers: any optimizers.

    Returns:
        Their `id`s.
    """
    return {id(parameter) for each in optimizers for group in each.param_groups for parameter in group["params"]}


def attached_to(optimizer: Optimizer) -> Nowcasting | None:
    """The handle at work on an optimizer.

    Args:
        optimizer: any optimizer.

    Returns:
        The handle, or None.
    """
    hooks = getattr(optimizer, "_optimizer_step_post_hooks", {}).values()
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    return next((owner for owner in owners if isinstance(owner, Nowcasting)), None)


def _was_skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer, called by a GradScaler, found infinities and left the weights alone.

    Other optimizers are not called at all then. Asking waits for the device, once a step, as GradScaler itself does
    for the others.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return isinstance(found_inf, Tensor) and bool(found_inf.item())


def _steps_taken(optimizer: Optimizer, default: int) -> int:
    """The steps that an optimizer's own state tells, as Adam's does."""
    states = [state for state in optimizer.state.values() if isinstance(state, Mapping)]
    counts = [int(state["step"]) for state in states if _is_count(state.get("step"))]
    return max(counts, default=default)


def _has_memory(optimizer: Optimizer) -> bool:
    """Whether there is a number in an optimizer's state, which has been put there by a step."""
    values = [value for state in optimizer.state.values() if isinstance(state, Mapping) for value in state.values()]
    return any(isinstance(value, Tensor) and bool(value.any()) for value in values)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
