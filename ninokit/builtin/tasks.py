"""The benchmark tasks that ship with ninokit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ninokit.hookspecs import hookimpl

if TYPE_CHECKING:
    from ninokit.benchmarks.task import Task

__all__ = ["ninokit_tasks"]


@hookimpl
def ninokit_tasks() -> Sequence[Task]:
    """The embedded tasks, which need no files, and those that do; those to judge by come last."""
    from ninokit.benchmarks.tasks import (
        cifar,
        digits,
        fashion,
        finetune,
        mnist,
        mnist1d,
        mnist1d_fresh,
        shakespeare,
        wikitext,
    )

    embedded = [
        mnist1d.MNIST1D_MLP,
        mnist1d.MNIST1D_CNN,
        *mnist1d.MNIST1D_TASKS,
        *mnist1d_fresh.FRESH_TASKS,
        digits.DIGITS_MLP,
    ]
    images = [
        *digits.DIGITS_TASKS,
        *fashion.FASHION_TASKS,
        fashion.FM16,
        fashion.FASHION_CNN_4K,
        fashion.FASHION_CNN_4K_SLOW,
    ]
    text = [
        shakespeare.SHAKESPEARE_GPT2_NARROW,
        shakespeare.SHAKESPEARE_GPT2_SHALLOW,
        shakespeare.SHAKESPEARE_GPT2,
        shakespeare.SHAKESPEARE_GPT2_TINY,
        shakespeare.SHAKESPEARE_GPT2_TINY_SLOW,
    ]
    held_out = [
        fashion.FM32,
        cifar.C10_16,
        cifar.C10_CNN_4K,
        mnist.MNIST_MLP,
        mnist.MNIST_VIT,
        wikitext.WIKITEXT2_GPT2,
        finetune.FINETUNE_CNN,
        finetune.FINETUNE_LORA_GPT2,
    ]
    return [*embedded, *images, *text, *held_out]
