"""What the tasks with text share: files, packed or not, and sequences with the tokens that follow."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from torch import Tensor

from ninokit.errors import DatasetError

__all__ = ["find_text", "read_text", "sequences"]


def find_text(root: Path, file: Path, *, task: str, content: str) -> Path:
    """A text file under the folder of the data sets, packed (.gz) or unpacked.

    Args:
        root: the folder.
        file: the unpacked file's path in it.
        task: the task's name, for the error message.
        content: what the file holds, for the error message.

    Returns:
        The path of the one that is there; of both, the unpacked.

    Raises:
        DatasetError: there is neither.
    """
    plain = root / file
    for path in (plain, plain.with_name(f"{plain.name}.gz")):
        if path.is_file():
            return path
    raise DatasetError(
        f"task {task!r}: {plain} is missing. Expected {content} there, packed (.gz) or unpacked. "
        f"Put it there, or set data_root to the folder of {file.as_posix()}"
    )


def read_text(path: Path, task: str) -> bytes:
    """The content of a text file, unpacked if it is packed.

    Args:
        path: of the file.
        task: the task's name, for the error message.

    Returns:
        The text's bytes.

    Raises:
        DatasetError: a packed file is damaged.
    """
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"task {task!r}: {path} is damaged: {error}. Fetch the file again") from error


def sequences(tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels side by side in a text; what does not fill a sequence is left out.

    Args:
        tokens: of the text, shape (tokens,).
        length: of a sequence, in tokens.

    Returns:
        Both of shape (sequences, length); a label is the token that follows.
    """
    count = (len(tokens) - 1) // length
    used = count * length
    return tokens[:used].view(count, length), tokens[1 : used + 1].view(count, length)
