"""The benchmark tasks that ship with ninokit, registered through the same hook as a plugin's."""

from __future__ import annotations

from collections.abc import Sequence

from ninokit.benchmarks.task import Task
from ninokit.benchmarks.tasks import cifar, digits, fashion, mnist, mnist1d, shakespeare
from ninokit.hookspecs import hookimpl


@hookimpl
def ninokit_tasks() -> Sequence[Task]:
    """The embedded tasks, which need no files; the published vision tasks and the tiny transformers, which do."""
    embedded = [mnist1d.MNIST1D_MLP, mnist1d.MNIST1D_CNN, digits.DIGITS_MLP]
    return [*embedded, fashion.FM16, cifar.C10_16, mnist.MNIST_VIT, shakespeare.SHAKESPEARE_GPT2]
