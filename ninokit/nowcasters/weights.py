"""Weights from a file into a nowcaster: the hash before anything is read, then every name, shape and dtype."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ninokit.errors import CheckpointError

__all__ = ["about_to_fill", "fill", "read_verified"]


@contextmanager
def about_to_fill() -> Iterator[None]:
    """A context to build a nowcaster in whose weights come from a file.

    In float32 on the CPU, as files have them, whatever the user's defaults are, and torch's random state stays: first
    weights are drawn, but what the user draws next must not depend on a nowcaster.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(default)


def read_verified(path: Path, sha256: str, origin: str | None = None) -> bytes:
    """Read a file whose content is known by its hash.

    Args:
        path: the file.
        sha256: its hash, 64 hexadecimal digits.
        origin: what to call the content in errors; left out, the path.

    Returns:
        What was hashed: it can't be another content than that.

    Raises:
        CheckpointError: if the file can't be read, or has another hash.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror}); give the path of a checkpoint") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise CheckpointError(
            f"{origin or path}: expected sha256 {sha256.lower()}, got {found}; the file is damaged, altered, or "
            f"another one: fetch it again"
        )
    return data


def fill(nowcaster: nn.Module, state: Mapping[str, Tensor], origin: str, called: Callable[[str], str] = str) -> None:
    """Fill a nowcaster with weights, and make it ready to forecast: evaluation mode, nothing requires gradients.

    Args:
        nowcaster: of the form of the weights.
        state: name → tensor, all that the nowcaster has and no others.
        origin: what to call the weights in errors.
        called: the name of a tensor of the nowcaster in the file that the weights are from.

    Raises:
        CheckpointError: naming the tensor, what was expected and what came.
    """
    wanted = nowcaster.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise CheckpointError(f"{origin}: the tensor {called(name)!r} is missing")
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{origin}: {called(name)}: expected shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}"
            )
        if state[name].dtype != tensor.dtype:
            raise CheckpointError(f"{origin}: {called(name)}: expected {tensor.dtype}, got {state[name].dtype}")
    unread = [name for name in state if name not in wanted]
    if unread:
        raise CheckpointError(
            f"{origin}: nothing reads the tensor {called(unread[0])!r}; this is a model of another form"
        )
    nowcaster.load_state_dict(dict(state))
    nowcaster.eval().requires_grad_(False)
