"""Files over HTTP: encrypted, from the host that was asked, resumed where they were interrupted."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from ninokit.errors import ZooError

if TYPE_CHECKING:
    import requests

__all__ = ["URL_PATTERN", "download", "get_text"]

_log = logging.getLogger(__name__)

# Plain http alone to this machine, for servers and tunnels on it.
URL_PATTERN = r"^(https://[^/\s]+/|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?/)\S*$"
_IDENTITY = {"Accept-Encoding": "identity"}  # sizes and ranges are those of the file
_TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces
_CHUNK = 2**16
_MAX_REDIRECTS = 5
_TRIES = 4  # in a row without a byte more
_PAUSE = 0.5  # seconds before the second try; doubled from try to try


class _InterruptedTransferError(Exception):
    """Another try may do better."""


def download(url: str, path: Path, size: int) -> None:
    """Download a file of a known size, after what is there of it already.

    Args:
        url: where it is.
        path: where to; what an interrupted download has left there is continued.
        size: in bytes.

    Raises:
        ZooError: if the address is not allowed, the server refuses, sends more than the size, leads to another host,
            or does not answer in several tries; what has arrived until then stays.
        OSError: if the file can't be written.
    """
    idle = 0
    while True:
        before = _size(path)
        try:
            return _continue(url, path, size)
        except _InterruptedTransferError as error:
            idle = 0 if _size(path) > before else idle + 1
            if idle == _TRIES:
                raise ZooError(f"{url}: {error}, in {_TRIES} tries; try again later") from error
            _log.info("%s: %s; trying again", url, error)
            time.sleep(_PAUSE * 2 ** max(0, idle - 1))


def get_text(url: str, limit: int) -> str:
    """Get a small text.

    Args:
        url: where it is.
        limit: bytes that it has at most.

    Returns:
        The text, decoded as UTF-8.

    Raises:
        ZooError: see `download`; also if it is longer, or is no UTF-8.
    """
    try:
        with _opened(url, _IDENTITY) as response:
            content = b"".join(_pieces(url, response, limit))
    except _InterruptedTransferError as error:
        raise ZooError(f"{url}: {error}; try again later") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ZooError(f"{url}: expected a text in UTF-8, got other bytes") from error


def _continue(url: str, path: Path, size: int) -> None:
    """One try."""
    from tqdm import tqdm

    start = _size(path)
    if start > size:
        path.unlink()
        start = 0
    if start == size:
        return
    headers = {**_IDENTITY, "Range": f"bytes={start}-"} if start else _IDENTITY
    with _opened(url, headers) as response:
        if not _continues(response, start):  # the whole file comes, as from servers that know no ranges
            start = 0
        bar = tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=None)
        with bar, path.open("ab" if start else "wb") as file:
            try:
                for piece in _pieces(url, response, size - start):
                    file.write(piece)
                    bar.update(len(piece))
            except ZooError:  # too long: it is another file
                path.unlink()
                raise
    if _size(path) < size:
        raise _InterruptedTransferError(f"the connection ended after {_size(path)} of {size} bytes")


def _continues(response: requests.Response, start: int) -> bool:
    """Whether what comes follows what is there."""
    if response.status_code != 206:
        return False
    answered = response.headers.get("Content-Range", "")
    if not answered.startswith(f"bytes {start}-"):
        raise ZooError(f"{response.url}: expected bytes from {start} on, got the range {answered!r}")
    return True


def _pieces(url: str, response: requests.Response, limit: int) -> Iterator[bytes]:
    import requests

    received = 0
    try:
        for piece in response.iter_content(_CHUNK):
            received += len(piece)
            if received > limit:
                raise ZooError(f"{url}: expected {limit} bytes at most, the server sends more")
            yield piece
    except requests.RequestException as error:
        raise _InterruptedTransferError(f"the connection broke ({type(error).__name__})") from error


@contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
    """An answer that has what was asked for."""
    import requests

    with requests.Session() as session:
        try:
            response = _follow(session, url, headers)
        except requests.RequestException as error:
            raise _InterruptedTransferError(f"no answer ({_reason(error)})") from error
        with response:
            status = response.status_code
            if status >= 500 or status in {408, 429}:
                raise _InterruptedTransferError(f"the server answered {status} {response.reason}")
            if status not in {200, 206}:
                raise ZooError(f"{url}: expected a file, the server answered {status} {response.reason}")
            yield response


def _follow(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """Ask, and follow redirects within the host that was asked."""
    if not re.match(URL_PATTERN, url):
        raise ZooError(f"{url}: expected an address that begins with https:// (http:// only on this machine)")
    place = url
    for _ in range(_MAX_REDIRECTS + 1):
        response = session.get(place, headers=headers, stream=True, allow_redirects=False, timeout=_TIMEOUT)
        if not response.is_redirect:
            return response
        response.close()
        place = urljoin(place, response.headers["Location"])
        before, after = urlsplit(url), urlsplit(place)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise ZooError(
                f"{url}: leads to another host, {after.scheme}://{after.netloc}; if you trust that one, make it the "
                f"mirror with NINOKIT_ZOO_MIRROR"
            )
    raise ZooError(f"{url}: more than {_MAX_REDIRECTS} redirects")


def _reason(error: requests.RequestException) -> object:
    """What went wrong, without the layers around it."""
    cause = error.args[0] if error.args else type(error).__name__
    return getattr(cause, "reason", cause)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
