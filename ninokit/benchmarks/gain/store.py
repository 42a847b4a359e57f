"""Banks and the outcomes of trials as files in the user's cache, so that each is made once.

A folder a training: ``NAME-HASH``, with a hash over all that its bank depends on but for the code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from ninokit.benchmarks.gain.averages import averaged_loss
from ninokit.benchmarks.gain.bank import Bank, Curve
from ninokit.benchmarks.gain.checkpoint import Checkpoint, Snapshot
from ninokit.benchmarks.gain.plan import BLOCK, WINDOW, GainPlan, Piece
from ninokit.benchmarks.gain.training import Training
from ninokit.benchmarks.gain.trials import Outcome, Trial
from ninokit.benchmarks.report import write_json
from ninokit.errors import ConfigError
from ninokit.nowcasters import LineFit, Nowcaster
from ninokit.zoo.settings import cache_folder

__all__ = ["BankFolder"]

_log = logging.getLogger(__name__)

# To be raised when a bank built by other code would be read wrongly.
_FORMAT = 1


class BankFolder:
    """Where the bank of one training is kept, and what came of the trials from it.

    Args:
        plan: what is to be measured.
        piece: which training.
        training: of the piece, new; it is left as it is.
    """

    def __init__(self, plan: GainPlan, piece: Piece, training: Training) -> None:
        settings = _settings(plan, piece, training)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.path = cache_folder() / "banks" / f"{plan.name}-{digest[:16]}"
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._settings.exists():
            write_json(settings, self._settings)  # for people, and to find what may be removed
        self._identities = {name: _identity(plan.nowcaster(name)) for name in plan.nowcasters}
        self._recovery = plan.recovery

    @property
    def _settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def _bank(self) -> Path:
        return self.path / "bank.pt"

    @property
    def _trials(self) -> Path:
        return self.path / "trials.json"

    def lock(self) -> FileLock:
        """A context in which no other process builds this bank or writes here."""
        return FileLock(self.path / "lock")

    def load(self) -> Bank | None:
        """The bank, on the CPU; None if it is not there.

        Raises:
            ConfigError: the file is damaged.
        """
        if not self._bank.exists():
            return None
        try:
            return _bank_from(torch.load(self._bank, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, UnpicklingError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._bank}: expected a bank of checkpoints; got {type(error).__name__}: {error}. Remove the "
                "folder, and it is built anew"
            ) from error

    def save(self, bank: Bank) -> None:
        """Write the bank, replacing the file in one go.

        Args:
            bank: to write.
        """
        unfinished = self._bank.with_name(self._bank.name + ".part")
        torch.save(_plain(bank), unfinished)
        unfinished.replace(self._bank)
        _log.info("bank of %d checkpoints: %s", len(bank.checkpoints), self._bank)

    def outcomes(self, trials: Iterable[Trial]) -> dict[Trial, Outcome]:
        """What came of trials, as far as it is there.

        Args:
            trials: to look for.

        Returns:
            The outcome of each that was found.
        """
        found = self._read()
        keys = {trial: self._key(trial) for trial in trials}
        return {trial: Outcome(**found[key]) for trial, key in keys.items() if key in found}

    def keep(self, outcomes: Mapping[Trial, Outcome]) -> None:
        """Add outcomes; those of nowcasters that can't be told from others of their kind are left out.

        Args:
            outcomes: of trials that have been run.
        """
        keys = {trial: self._key(trial) for trial in outcomes}
        new = {key: asdict(outcomes[trial]) for trial, key in keys.items() if key is not None}
        write_json(self._read() | new, self._trials)

    def _read(self) -> dict[str, Any]:
        if not self._trials.exists():
            return {}
        found: dict[str, Any] = json.loads(self._trials.read_text(encoding="utf-8"))
        return found

    def _key(self, trial: Trial) -> str | None:
        end = f"{trial.time}+{self._recovery}"
        if trial.horizon is None:
            return f"{trial.nowcaster} {end}"
        identity = self._identities[trial.nowcaster]
        return None if identity is None else f"{identity} {trial.inputs} {trial.horizon} {end}"


def _plain(bank: Bank) -> dict[str, Any]:
    """A bank as dictionaries and tensors, which `torch.load` reads without running code."""
    return {
        "checkpoints": [{**vars(each), "snapshot": vars(each.snapshot)} for each in bank.checkpoints],
        "curve": None if bank.curve is None else vars(bank.curve),
        "resume": None if bank.resume is None else vars(bank.resume),
    }


def _bank_from(saved: Mapping[str, Any]) -> Bank:
    checkpoints = [Checkpoint(**{**each, "snapshot": Snapshot(**each["snapshot"])}) for each in saved["checkpoints"]]
    curve, resume = saved["curve"], saved["resume"]
    return Bank(checkpoints, curve and Curve(**curve), resume and Snapshot(**resume))


def _settings(plan: GainPlan, piece: Piece, training: Training) -> dict[str, Any]:
    """All that a bank depends on, but for the code."""
    settings = {
        "format": _FORMAT,
        "name": plan.name,
        "rate": piece.rate,
        "seed": piece.seed,
        "period": plan.period,
        "times": sorted(plan.times),
        "contexts": list(plan.contexts),
        "window": [WINDOW, BLOCK],
        "training": _fingerprint(training, piece.seed),
    }
    reference = plan.reference
    if not piece.earlier or reference is None:
        return settings
    # Another one of a kind that can't be told apart never finds the bank again.
    identity = _identity(reference) or f"{type(reference).__qualname__} {os.urandom(8).hex()}"
    return settings | {"earlier": [identity, plan.earlier_horizon]}


def _fingerprint(training: Training, seed: int) -> dict[str, Any]:
    """What tells a training from others: its network, weights, optimizer, and the losses that it begins with."""
    model, optimizer = training.model, training.optimizer
    begin = Snapshot.of(training, 0)
    stream = training.batches(seed)
    with torch.no_grad():
        losses = [float(training.loss(model, batch)) for batch in islice(stream, 2)]
    begin.restore(training)
    losses.append(averaged_loss(training, {}, []))
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    return {
        "model": repr(model),
        "weights": _hash(begin.tensors.items()),
        "optimizer": f"{type(optimizer).__name__} {groups}",
        "device": next(model.parameters()).device.type,
        # Rounded, as the number of threads changes the last digits.
        "losses": [f"{loss:.4g}" for loss in losses],
    }


def _identity(nowcaster: Nowcaster) -> str | None:
    """What tells a nowcaster from others; None if nothing does."""
    kind = f"{type(nowcaster).__module__}.{type(nowcaster).__qualname__}"
    if isinstance(nowcaster, nn.Module):
        precision = getattr(nowcaster, "precision", "")
        return f"{kind} {precision} {_hash(chain(nowcaster.named_parameters(), nowcaster.named_buffers()))}"
    return f"{kind} {nowcaster.context}" if type(nowcaster) is LineFit else None


def _hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
