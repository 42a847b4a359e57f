"""A web server on this machine that misbehaves as it is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from loopback import served

Behaviour = Callable[["Handler", bytes], None]


@dataclass
class Server:
    """Files by path; what each request of a path does in turn, the last for good.

    Attributes:
        url: where it is.
        files: path → content.
        behaviours: path → what to do at its first request, its second, ….
        requests: (path, its Range header or None), in order.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def offer(self, path: str, content: bytes, *behaviours: Behaviour) -> str:
        self.files[path] = content
        self.behaviours[path] = list(behaviours)
        return self.url + path

    def ranges(self, path: str) -> list[str | None]:
        return [asked for requested, asked in self.requests if requested == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        count = len(self.script.ranges(self.path))
        self.script.requests.append((self.path, asked))
        if self.path not in self.script.files:
            self.send_error(404)
            return
        behaviours = self.script.behaviours[self.path] or [well]
        behaviours[min(count, len(behaviours) - 1)](self, self.script.files[self.path])

    def answer(self, status: int, **headers: object) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def well(handler: Handler, content: bytes) -> None:
    """As a good server does, ranges included."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if asked is None:
        handler.answer(200, Content_Length=len(content))
        handler.wfile.write(content)
        return
    start = int(asked.group(1))
    if start >= len(content):
        handler.answer(416, Content_Length=0)
        return
    end = len(content) - 1
    handler.answer(206, Content_Length=len(content) - start, Content_Range=f"bytes {start}-{end}/{len(content)}")
    handler.wfile.write(content[start:])


def without_ranges(handler: Handler, content: bytes) -> None:
    """The whole file, whatever part was asked for."""
    handler.answer(200, Content_Length=len(content))
    handler.wfile.write(content)


def with_another_range(handler: Handler, content: bytes) -> None:
    handler.answer(206, Content_Length=len(content), Content_Range=f"bytes 0-{len(content) - 1}/{len(content)}")
    handler.wfile.write(content)


def breaking_after(count: int) -> Behaviour:
    """The connection breaks after so many bytes of what was promised."""

    def behave(handler: Handler, content: bytes) -> None:
        start = int(re.sub(r"\D", "", handler.headers.get("Range", "0")) or 0)
        status = 206 if start else 200
        end = len(content) - 1
        handler.answer(status, Content_Length=len(content) - start, Content_Range=f"bytes {start}-{end}/{len(content)}")
        handler.wfile.write(content[start : start + count])

    return behave


def truncated(handler: Handler, content: bytes) -> None:
    """Ends early, and says that this was all."""
    handler.answer(200, Content_Length=len(content) // 2)
    handler.wfile.write(content[: len(content) // 2])


def tampered(handler: Handler, content: bytes) -> None:
    """One bit is another; ranges are served, of the wrong content."""
    well(handler, bytes([content[0] ^ 1]) + content[1:])


def endless(handler: Handler, content: bytes) -> None:
    """More than the card says."""
    handler.answer(200)
    handler.wfile.write(content + bytes(10 * len(content)))


def failing(status: int) -> Behaviour:
    return lambda handler, _: handler.answer(status, Content_Length=0)


def redirecting(target: str) -> Behaviour:
    return lambda handler, _: handler.answer(302, Location=target, Content_Length=0)


@contextmanager
def serving() -> Iterator[Server]:
    script = Server()
    with served(type("ScriptedHandler", (Handler,), {"script": script})) as script.url:
        yield script
