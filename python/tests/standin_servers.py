"""A local server that answers like the Hugging Face hub and like the MLCommons R2 store.

Faults are set per path prefix, so that a test can break one step of a download:
an HTTP status, `hang` (accept and never answer), `slow` (a byte a second), `cut-off`
(fewer bytes than announced), `corrupt` (right length, wrong bytes), `login` (the
page Cloudflare Access puts before a protected bucket), `slow-headers` (a byte of them at a time),
`endless` (a body without a length or an end) and `huge` (a length that no disk has).
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from standin_hub import Reply, Repo, api, as_json

LOGIN_URL = "https://mlcommons.cloudflareaccess.com/cdn-cgi/access/login/store"
LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in - Cloudflare Access</title></head></html>"
CF_ID, CF_SECRET = "standin.access", "standin-secret"


@dataclass(frozen=True)
class Fault:
    """What goes wrong on a path. `times` None: always; otherwise the first `times` requests."""

    kind: int | str
    times: int | None = None
    retry_after_s: int | None = None


class StandIn:
    """The content, the faults and the record of what was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.protected: list[str] = []
        self.repos: list[Repo] = []
        self.aliases: dict[str, str] = {}
        # Token -> names of the gated repositories it may read.
        self.tokens: dict[str, tuple[str, ...]] = {}
        # Tokens of a log-in in a browser that Cloudflare Access admits.
        self.log_ins: set[str] = set()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.stopping = threading.Event()
        self._faults: dict[str, tuple[Fault, int]] = {}
        self._lock = threading.Lock()

    def add_r2(self, name: str, files: Mapping[str, bytes], protected: bool = False) -> str:
        """A dataset of the R2 store; gives the URL of its metadata URI file."""
        folder = f"/bucket/{name}"
        lines = (f"{hashlib.md5(body).hexdigest()}  ./{path}\n" for path, body in files.items())
        self.files[f"/metadata/{name}.uri"] = f"{self.url}{folder}\n".encode()
        self.files[f"/metadata/{name}.md5"] = "".join(lines).encode()
        self.files.update({f"{folder}/{path}": body for path, body in files.items()})
        if protected:
            self.protected += [f"/metadata/{name}.", folder + "/"]
        return f"{self.url}/metadata/{name}.uri"

    def add_repo(self, repo: Repo, alias: str | None = None) -> None:
        """A hub repository; `alias` is an old name that redirects to it."""
        self.repos.append(repo)
        if alias:
            self.aliases[alias] = repo.name

    def fail(self, prefix: str, fault: Fault) -> None:
        """Break every request whose path starts with `prefix`."""
        self._faults[prefix] = (fault, 0)

    def heal(self) -> None:
        self._faults.clear()

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    def fault(self, path: str) -> Fault | None:
        with self._lock:
            for prefix, (fault, used) in self._faults.items():
                if path.startswith(prefix) and (fault.times is None or used < fault.times):
                    self._faults[prefix] = (fault, used + 1)
                    return fault
        return None

    def reply(self, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str]) -> Reply:
        """The answer of a healthy server."""
        service = (headers.get("cf-access-client-id"), headers.get("cf-access-client-secret"))
        admitted = service == (CF_ID, CF_SECRET) or headers.get("cf-access-token") in self.log_ins
        if path.startswith(tuple(self.protected)) and not admitted:
            return Reply(302, b"", {"Location": LOGIN_URL})
        if path in self.files:
            return Reply(200, self.files[path], {"Content-Type": "application/octet-stream"})
        return self._hub(path, query, headers)

    def _hub(self, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str]) -> Reply:
        token = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if token and token not in self.tokens:
            return as_json({"error": "Invalid credentials in Authorization header"}, 401)
        if path == "/api/whoami-v2":
            return as_json({"name": "tester", "type": "user"}) if token else as_json({}, 401)
        for old, new in self.aliases.items():
            if path.startswith((f"/api/datasets/{old}", f"/datasets/{old}/", f"/{old}/")):
                return Reply(307, b"", {"Location": path.replace(old, new, 1)})
        for repo in self.repos:
            address = f"/api/{repo.kind}/{repo.name}"
            files = ("/datasets/" if repo.kind == "datasets" else "/") + f"{repo.name}/resolve/"
            if path == address or path.startswith(address + "/"):
                return api(repo, path[len(address) :], query)
            if path.startswith(files):
                revision, _, name = path[len(files) :].partition("/")
                return self._resolve(repo, revision, name, token)
        return Reply(404, b"Repository Not Found", {"X-Error-Code": "RepoNotFound"})

    def _resolve(self, repo: Repo, revision: str, name: str, token: str) -> Reply:
        if repo.gated and repo.name not in self.tokens.get(token, ()):
            return Reply(403 if token else 401, b"gated", {"X-Error-Code": "GatedRepo"})
        if revision not in (repo.revision, "main"):
            return Reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        head = {"X-Repo-Commit": repo.revision}
        if name not in repo.files:
            return Reply(404, b"", {**head, "X-Error-Code": "EntryNotFound"})
        body = repo.files[name]
        tag = hashlib.sha256(body).hexdigest()
        return Reply(200, body, {**head, "ETag": f'"{tag}"', "X-Linked-Size": str(len(body))})


class _Handler(BaseHTTPRequestHandler):
    """Turns a request into StandIn.reply, with that path's fault applied."""

    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the tests read `requests`."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            body = self.rfile.read(length).decode()
            query |= json.loads(body) if body.startswith("{") else parse_qs(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.stand_in.requests.append((self.command, path, headers))
        fault = self.stand_in.fault(path)
        if fault and fault.kind == "hang":
            self.stand_in.stopping.wait(120)
            self.close_connection = True
            return
        if fault and isinstance(fault.kind, int):
            extra = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            self._send(Reply(fault.kind, b"refused by the stand-in", extra), None)
            return
        if fault and fault.kind == "login":
            self._send(Reply(200, LOGIN_PAGE, {"Content-Type": "text/html"}), None)
            return
        self._send(self.stand_in.reply(path, query, headers), fault)

    do_GET = do_HEAD = do_POST = _answer

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        body, status, extra = reply.body, reply.status, dict(reply.headers)
        start = self._range(len(body)) if status == 200 else None
        if start is not None:
            extra["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        if fault and fault.kind == "corrupt":
            body = bytes(byte ^ 0xFF for byte in body)
        if fault and fault.kind == "slow-headers":
            self._drip(b"HTTP/1.1 200 OK\r\nX-Long: " + bytes(2000))
            return
        if fault and fault.kind == "endless":
            self._endless()
            return
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        length = 1 << 60 if fault and fault.kind == "huge" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.kind == "cut-off":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault and fault.kind == "slow":
            self._drip(body)
        else:
            self.wfile.write(body)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        self.close_connection = True
        while not self.stand_in.stopping.is_set():
            self.wfile.write(bytes(1 << 16))

    def _drip(self, body: bytes) -> None:
        for byte in body:
            if self.stand_in.stopping.is_set():
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(0.2)

    def _range(self, length: int) -> int | None:
        """First byte asked for, of `Range: bytes=N-`; None without one."""
        text = self.headers.get("Range", "")
        if not text.startswith("bytes=") or not text.endswith("-"):
            return None
        start = int(text[len("bytes=") : -1])
        return start if 0 < start < length else None


class Server(ThreadingHTTPServer):
    """A client that hangs up in the middle is what is tested, and nothing to report."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve() -> Iterator[StandIn]:
    """Run the server on a free port of the loopback address."""
    stand_in = StandIn()
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = Server(("127.0.0.1", 0), handler)
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.stopping.set()
        server.shutdown()
        server.server_close()
