"""`fault_proxy`: a small HTTP proxy on loopback between an S3 client and its server, which misbehaves by a seeded dice.

For each request it may answer 503 SlowDown, cut the connection before anything is forwarded, in the middle of the
request's body, after the server has acted and before its answer, or in the middle of the answer; shorten the answer
to a range request while its headers agree with what is left; or wait. What it did is counted by name. Chunked bodies
are passed on whole. It leaves out HTTPS and pipelining; each request has a connection of its own to the server.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}

FAULTS = ("slow_down", "cut_before", "cut_request", "cut_answer", "lose_answer", "shorten", "delay")


class _CutError(Exception):
    """The connection ends here, without another byte."""


@dataclass
class Temper:
    """What the proxy does to requests: each fault of `weights` with its probability. `deny` answers 403 to a path.

    `forgotten` are headers, in small letters, that the store never sees: without ``if-none-match`` it overwrites.
    """

    seed: int
    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0.03))
    deny: Callable[[str, str], bool] = lambda method, path: False
    delay: float = 0.05
    forgotten: tuple[str, ...] = ()
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._lock = threading.Lock()

    def roll(self) -> str | None:
        """The fault of the next request, or None."""
        with self._lock:
            thrown = self._chance.random()
            for name, weight in self.weights.items():
                if thrown < weight:
                    return name
                thrown -= weight
        return None

    def count(self, name: str) -> None:
        with self._lock:
            self.done[name] += 1


@contextmanager
def fault_proxy(server: str, temper: Temper) -> Iterator[str]:
    """The proxy's address while it stands before `server` (http://host:port)."""
    upstream = urlsplit(server)
    handler = type("Handler", (_Handler,), {"temper": temper, "upstream": (upstream.hostname, upstream.port)})
    proxy = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    temper: Temper
    upstream: tuple[str, int]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (_CutError, HTTPException, OSError):
            self._hang_up()

    def do_GET(self) -> None:
        self._serve()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - http.server looks for these names

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _serve(self) -> None:
        fault = self.temper.roll()
        if self.temper.deny(self.command, self.path):
            self._body()
            return self._answer(403, {}, DENIED)
        if fault == "slow_down":
            self._body()
            self.temper.count(fault)
            return self._answer(503, {}, SLOW_DOWN)
        if fault == "delay":
            self.temper.count(fault)
            time.sleep(self.temper.delay)
        if fault == "cut_before":
            self._cut(fault)
        return self._forward(fault)

    def _forward(self, fault: str | None) -> None:
        body = self._body()
        connection = HTTPConnection(*self.upstream, timeout=30)
        with closing(connection):
            dropped = {*HOP_BY_HOP, *self.temper.forgotten}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            if fault == "cut_request" and body:
                self._send_half(connection, headers, body)
            connection.request(self.command, self.path, body, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            content = answer.read()
        if fault == "lose_answer":
            self._cut(fault)
        self._pass_on(answer, content, fault)

    def _pass_on(self, answer: HTTPResponse, content: bytes, fault: str | None) -> None:
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
        if fault == "shorten" and answer.status == 206 and len(content) > 1:
            self.temper.count(fault)
            content = content[: len(content) // 2]
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length", "0")
            return self._answer(answer.status, headers, b"")
        if fault == "cut_answer" and content:
            self._answer(answer.status, headers, content, sent=len(content) // 2)
            self._cut(fault)
        return self._answer(answer.status, headers, content)

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content[:sent])

    def _body(self) -> bytes:
        """The request's body, decoded if it is chunked. Read whole, so that the connection can go on."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            """Trailers are of no use here."""
        return b"".join(pieces)

    def _send_half(self, connection: HTTPConnection, headers: Mapping[str, str], body: bytes) -> None:
        """Half a body, then the line goes dead on both sides."""
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body[: len(body) // 2])
        self._cut("cut_request")

    def _cut(self, fault: str) -> None:
        self.temper.count(fault)
        raise _CutError(fault)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
