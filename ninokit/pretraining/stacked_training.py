"""The training of many networks side by side, each as `ninokit.benchmarks.training` would train it alone.

Shapes: N networks, P parameters of each, B examples in a batch, T tokens a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ninokit.benchmarks.task import ClassificationData, Task
from ninokit.benchmarks.training import batch_orders
from ninokit.pretraining.network_stack import NetworkStack
from ninokit.pretraining.stacked_adamw import StackedAdamW

__all__ = ["StackedTraining"]


class StackedTraining:
    """N trainings of one task on their way.

    A network's initial weights and the order of its batches are those of ``ninokit compare`` at its seed. Dropout draws
    from torch's global random state, which the caller seeds.

    Args:
        task: what to train.
        data: the task's data, on the device to train on.
        seeds: a network each.
        hyperparameters: ``lr`` and ``weight_decay`` of each network.
        execution: ``"stacked"`` or ``"looped"``.
        autocast: compute in bfloat16 where that is safe.

    Raises:
        ConfigError: a parameter is frozen.
    """

    def __init__(
        self,
        task: Task,
        data: ClassificationData,
        *,
        seeds: Sequence[int],
        hyperparameters: Sequence[Mapping[str, float]],
        execution: str,
        autocast: bool = False,
    ) -> None:
        self._task = task
        self._data = data
        networks = [initial_network(task, seed, data).to(data.train_inputs.device) for seed in seeds]
        self._stack = NetworkStack(networks, task.loss, execution, autocast=autocast)
        self._optimizer = StackedAdamW(
            self._stack.parameters,
            lr=[values["lr"] for values in hyperparameters],
            weight_decay=[values["weight_decay"] for values in hyperparameters],
        )
        self._seeds = tuple(seeds)
        self._orders = self._new_orders()
        self._steps = 0

    @property
    def parameters(self) -> Tensor:
        """All networks' numbers, shape (N, P); they change with the next step."""
        return self._stack.parameters

    def step(self) -> Tensor:
        """One optimizer step of every network.

        Returns:
            The losses on the batches, before the step. Shape (N,).

        Raises:
            ConfigError: the network does something that cannot be stacked.
        """
        losses, gradients = self._losses_and_gradients(self._orders)
        self._optimizer.step(gradients)
        self._steps += 1
        return losses

    def initial_losses(self) -> Tensor:
        """The losses on the first batches; nothing changes.

        Returns:
            Shape (N,).

        Raises:
            ConfigError: the network does something that cannot be stacked.
        """
        device = self.parameters.device
        kept = {name: buffer.clone() for name, buffer in self._stack.buffers.items()}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            losses, _ = self._losses_and_gradients(self._new_orders())
        for name, buffer in self._stack.buffers.items():
            buffer.copy_(kept[name])
        return losses

    def score(self, row: int) -> float:
        """A network's score on the test data.

        Args:
            row: which network.

        Returns:
            As the task measures it.
        """
        return self._task.evaluate(self._stack.network(row), self._data)

    def state_dict(self) -> dict[str, Any]:
        """All that the trainings' way on depends on, but the global random state; the tensors are not copied."""
        return {
            "parameters": self._stack.parameters,
            "buffers": self._stack.buffers,
            "optimizer": self._optimizer.state_dict(),
            "steps": self._steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, in trainings that have made no step yet.

        Args:
            state: of `state_dict`, from the same task, seeds and hyperparameters.
        """
        self._stack.parameters.copy_(state["parameters"])
        for name, buffer in self._stack.buffers.items():
            buffer.copy_(state["buffers"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        for order in self._orders:
            for _ in range(state["steps"]):
                next(order)
        self._steps = state["steps"]

    def _new_orders(self) -> list[Iterator[Tensor]]:
        return [batch_orders(len(self._data.train_inputs), self._task.batch_size, seed) for seed in self._seeds]

    def _losses_and_gradients(self, orders: Sequence[Iterator[Tensor]]) -> tuple[Tensor, Tensor]:
        which = torch.stack([next(order) for order in orders]).to(self._data.train_inputs.device)
        return self._stack.losses_and_gradients(self._data.train_inputs[which], self._data.train_labels[which])


def initial_network(task: Task, seed: int, data: ClassificationData | None = None) -> nn.Module:
    """The network with which a run of that seed begins; torch's global random state is as before.

    Args:
        task: what is trained.
        seed: of the initial weights.
        data: whose weights the run starts from, if it has some; None where the network's structure is all that counts.

    Returns:
        The network, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone
        return task.build_model() if data is None else task.build_from(data)
