"""A hub on this machine: the part of the Hugging Face Hub's protocol that entries need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import served


class Hub:
    """Repositories: name → revision → path → content; what it is asked for, in order."""

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[str] = []

    def commit(self, revision: str) -> str:
        """Commits are named by their branches here."""
        return revision if re.fullmatch("[0-9a-f]{40}", revision) else hashlib.sha1(revision.encode()).hexdigest()

    def files(self, name: str, revision: str) -> dict[str, bytes] | None:
        branches = self.repositories.get(name, {})
        return next((files for branch, files in branches.items() if revision in {branch, self.commit(branch)}), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append(f"POST {self.path}")
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            return self._json(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            name = "/".join(filter(None, (json.loads(sent).get("organization"), json.loads(sent)["name"])))
            self.hub.repositories.setdefault(name, {}).setdefault("main", {})
            return self._json(200, {"url": f"{self.hub.url}/{name}"})
        name, action, revision = self._action(path)
        branches = self.hub.repositories[name]
        if action == "branch":
            branches[revision] = dict(branches["main"])
            return self._json(201, {})
        if action == "preupload":
            files = json.loads(sent)["files"]
            answer = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self._json(200, {"files": answer})
        for line in map(json.loads, sent.decode().splitlines()):
            if line["key"] == "file":
                branches[revision][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = self.hub.commit(revision)
        return self._json(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _action(self, path: str) -> tuple[str, str, str]:
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/(.+)", path)
        assert match is not None, path
        return match[1], match[2], match[3]

    def _serve(self, *, body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        listing = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = listing or file
        name, revision = (match[1], match[3] if listing else match[2]) if match else ("", "")
        files = self.hub.files(name, revision)
        if files is None:
            return self._json(404, {"error": "not found"}, X_Error_Code="RepoNotFound")
        commit = self.hub.commit(revision)
        if listing and listing[2] == "tree":
            tree = [{"type": "file", "path": p, "size": len(c), "oid": "0" * 40} for p, c in files.items()]
            return self._json(200, tree)
        if listing:
            siblings = [{"rfilename": path} for path in files]
            return self._json(200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings})
        assert file is not None
        content = files[file[3]]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        return self._send(200, content, body=body, **headers)

    def _json(self, status: int, content: Any, **headers: str) -> None:
        self._send(status, json.dumps(content).encode(), Content_Type="application/json", **headers)

    def _send(self, status: int, content: bytes, *, body: bool = True, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving_hub() -> Iterator[Hub]:
    hub = Hub()
    with served(type("HubHandler", (_Handler,), {"hub": hub})) as hub.url:
        yield hub
