"""Muon (Jordan et al. 2024) on a network's hidden matrices, AdamW on all else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from ninokit.benchmarks.arms.adamw import trainable
from ninokit.benchmarks.arms.arm import Option, Recipe, UnsuitedArmError, optimizer_arm
from ninokit.benchmarks.arms.hidden_matrices import hidden_matrices, transposed_weights
from ninokit.errors import DependencyError

__all__ = ["MUON"]

_RATE = Option("muon_rate", default=0.02, values=(0.01, 0.02, 0.04, 0.08))


def _optimizers(model: nn.Module, recipe: Recipe) -> Sequence[Optimizer]:
    if not hasattr(torch.optim, "Muon"):
        raise DependencyError(
            f"arm 'muon' needs torch.optim.Muon, which PyTorch has from 2.9 on; this is {torch.__version__}. Install a "
            "newer one with: pip install --upgrade torch"
        )
    matrices = list(hidden_matrices(model).values())
    if not matrices:
        raise UnsuitedArmError(
            f"arm 'muon': {type(model).__name__} has no hidden matrix, as linear layers before the output have them, "
            "so that Muon would train nothing. Leave the arm out here",
            "no hidden matrix",
        )
    transposed = {id(weight) for weight in transposed_weights(model)}
    groups = [_group(matrix, recipe, transposed=id(matrix) in transposed) for matrix in matrices]
    muon = torch.optim.Muon(groups, momentum=0.95, nesterov=True)
    hidden = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in trainable(model) if id(parameter) not in hidden]
    return [muon, AdamW(others, lr=recipe.lr, weight_decay=recipe.weight_decay)] if others else [muon]


def _group(matrix: nn.Parameter, recipe: Recipe, *, transposed: bool) -> dict[str, Any]:
    """A parameter group of Muon, in which a matrix is trained the same whichever way round it is kept.

    Muon scales the rate by sqrt(max(1, rows / columns)), which is meant for rows that are outputs. The step that the
    weight decay takes is rate times decay, without that factor.
    """
    rows, columns = matrix.shape
    scale = math.sqrt(columns / rows) if transposed else 1.0
    return {"params": [matrix], "lr": scale * recipe.value_of(_RATE), "weight_decay": recipe.weight_decay / scale}


MUON = optimizer_arm("muon", "Muon on the hidden matrices, AdamW on all else, at constant rates", _optimizers, _RATE)
