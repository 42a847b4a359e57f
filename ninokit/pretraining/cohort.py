"""The trajectories of networks that are trained together, in one group of zarr arrays.

Shapes: N networks, T states of each, P parameters of a network, K states in a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ninokit._optional import require
from ninokit.errors import StoreError
from ninokit.pretraining.state_dtypes import STATE_DTYPES

__all__ = ["Cohort", "CohortDescription"]

_PURPOSE = "a store of trajectories, which is for Python 3.11 and later,"
# Values in a chunk of states: a few megabytes, so that a slice touches one or two chunks of one file each.
_CHUNK_VALUES = 2**20
_MOST_CHUNK_STATES = 64


def zarr() -> Any:
    """The module zarr.

    Raises:
        DependencyError: it is not installed.
    """
    return require("zarr", _PURPOSE, "pretraining")


@dataclass(frozen=True, kw_only=True)
class CohortDescription:
    """What is known of a cohort before it is trained.

    Args:
        task: name of the registered task.
        seeds: a network each, distinct.
        hyperparameters: of each network's optimizer, such as ``lr`` and ``weight_decay``.
        parameters: name and shape of each parameter of a network, in the order of ``named_parameters``.
        every: optimizer steps from one state to the next, at least 1.
        num_states: T, the initial state included.
        dtype: of the stored states: ``float32``, ``float16`` or ``bfloat16``.
        autocast: whether the networks were trained in bfloat16 where that is safe.
    """

    task: str
    seeds: tuple[int, ...]
    hyperparameters: tuple[Mapping[str, float], ...]
    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    every: int
    num_states: int
    dtype: str = "float32"
    autocast: bool = False

    @property
    def num_parameters(self) -> int:
        """P."""
        return sum(math.prod(shape) for _, shape in self.parameters)

    @property
    def chunk_states(self) -> int:
        """K, what a crash loses at most."""
        return min(_MOST_CHUNK_STATES, self.num_states, max(1, _CHUNK_VALUES // self.num_parameters))

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> CohortDescription:
        """A description from its JSON form, as `dataclasses.asdict` and JSON leave it."""
        parameters = tuple((name, tuple(shape)) for name, shape in attributes["parameters"])
        sequences = {"seeds": tuple(attributes["seeds"]), "hyperparameters": tuple(attributes["hyperparameters"])}
        return cls(**{**attributes, **sequences, "parameters": parameters})


class Cohort:
    """A group of zarr arrays with the states and losses of N networks, which grow chunk by chunk.

    What a reader sees grows by whole chunks: the attributes that count the states are replaced, atomically, after all
    networks' chunks are written, so that a crash leaves the cohort as it was before the chunk.

    Args:
        group: the zarr group, as made by `create`.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self.description = CohortDescription.from_attributes(group.attrs["description"])
        self._dtype = STATE_DTYPES[self.description.dtype]

    @classmethod
    def create(cls, group: Any, description: CohortDescription) -> Cohort:
        """Lay out an empty group for a cohort.

        Args:
            group: a new zarr group.
            description: what will be written.

        Returns:
            The cohort, without states.
        """
        codecs = zarr().codecs
        networks = len(description.seeds)
        steps, parameters = description.num_states, description.num_parameters
        chunk = description.chunk_states
        group.create_array(
            "states",
            shape=(networks, steps, parameters),
            chunks=(1, chunk, parameters),
            dtype=STATE_DTYPES[description.dtype].stored,
            fill_value=STATE_DTYPES[description.dtype].missing,
            # One weight's values side by side, which hardly differ: a tenth smaller than state by state.
            filters=[codecs.TransposeCodec(order=(0, 2, 1))],
            compressors=[codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")],
        )
        group.create_array("losses", shape=(networks, steps), chunks=(networks, chunk), dtype="float32")
        # Last: without it, the group is no cohort.
        group.update_attributes({"description": asdict(description), "recorded": 0, "lengths": [0] * networks})
        return cls(group)

    @property
    def recorded(self) -> int:
        """States that were written of every network."""
        return int(self._group.attrs["recorded"])

    @property
    def lengths(self) -> list[int]:
        """States of each network that can be used: all that were written, or those before the first not finite one."""
        return list(self._group.attrs["lengths"])

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be trained."""
        return "scores" in self._group.attrs

    @property
    def scores(self) -> list[float | None]:
        """The task's score of each network after its last step; None where it diverged or is not done."""
        return list(self._group.attrs.get("scores", [None] * len(self.description.seeds)))

    def write(self, start: int, states: Tensor, losses: Tensor) -> None:
        """Write a chunk of every network; what was written from ``start`` on is replaced.

        Args:
            start: index of the first state, a multiple of the description's ``chunk_states``.
            states: on the CPU, of shape (N, K, P); the last chunk may be shorter.
            losses: the mean training loss since the state before, float32 on the CPU, shape (N, K).

        Raises:
            StoreError: the states are no whole chunk, or do not follow those that are there.
        """
        self._check_chunk(start, states, losses)
        stop = start + states.shape[1]
        packed = self._dtype.pack(states)
        # Of what is stored: a weight may exceed a narrower type.
        finite = torch.stack([self._dtype.unpack(row).isfinite().all(dim=1) for row in packed])
        self._group["states"][:, start:stop] = packed
        self._group["losses"][:, start:stop] = losses.numpy()
        lengths = [
            length if length < start else start + int(row.cumprod(dim=0).sum())
            for length, row in zip(self.lengths, finite & losses.isfinite(), strict=True)
        ]
        self._group.update_attributes({"recorded": stop, "lengths": lengths})

    def finish(self, scores: Sequence[float | None]) -> None:
        """Mark the cohort as complete.

        Args:
            scores: the task's score of each network after its last step, None where it diverged.
        """
        self._group.update_attributes({"scores": list(scores)})

    def states(self, row: int, which: slice) -> Tensor:
        """Some states of one network.

        Args:
            row: the network's place in the description.
            which: of its states, before its length.

        Returns:
            float32, of shape (n, P).

        Raises:
            StoreError: a chunk of them is lost or damaged.
        """
        try:
            states = self._dtype.unpack(self._group["states"][row, which])
        except (OSError, RuntimeError, ValueError) as error:  # as the codecs have it
            raise self._damaged(row, f"{type(error).__name__}: {error}") from error
        if not states.isfinite().all():
            raise self._damaged(row, "chunks are missing")
        return states

    def losses(self, row: int, length: int) -> npt.NDArray[np.float32]:
        """The losses of one network's first states.

        Args:
            row: the network's place in the description.
            length: how many.

        Returns:
            Shape (length,).
        """
        losses: npt.NDArray[np.float32] = self._group["losses"][row, :length]
        return losses

    def _damaged(self, row: int, reason: str) -> StoreError:
        about, folder = self.description, Path(self._group.store.root, self._group.path)
        return StoreError(
            f"{folder}: the states of task {about.task!r}, seed {about.seeds[row]}, can't be read ({reason}). Restore "
            "the folder from a copy, or remove it and collect anew"
        )

    def _check_chunk(self, start: int, states: Tensor, losses: Tensor) -> None:
        about = self.description
        length = min(about.chunk_states, about.num_states - start)
        expected = (len(about.seeds), length, about.num_parameters)
        if start % about.chunk_states or start > self.recorded or tuple(states.shape) != expected:
            raise StoreError(
                f"cohort of task {about.task!r}: expected a chunk of {about.chunk_states} states that starts at one of "
                f"the {self.recorded} that are there or right after them; got states of shape {tuple(states.shape)} "
                f"from {start}, where {expected} fits"
            )
        if losses.shape != states.shape[:2]:
            raise StoreError(
                f"cohort of task {about.task!r}: expected a loss a state, of shape {tuple(states.shape[:2])}; got "
                f"{tuple(losses.shape)}"
            )
