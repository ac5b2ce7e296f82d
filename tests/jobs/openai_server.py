"""A real HTTP server on loopback that speaks the OpenAI protocol, with a model that can be reckoned by hand.

Completions repeat the last word of the prompt. A token is a run of spaces with the word after it; its log-probability
is −0.1 for each of its characters. `faults` are met by the next requests, one each, before the server behaves.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = str | tuple[int, dict[str, Any], dict[str, str]]
"""``cut`` (the connection ends within the answer), ``half`` (whole by its length, no whole JSON), ``empty`` (no
choice), or a status with a body and headers."""


@dataclass
class Model:
    """What the server does, and what it saw. `barrier` is waited at with every request in hand."""

    faults: deque[Fault] = field(default_factory=deque)
    echoes: bool = True
    refuses: frozenset[str] = frozenset()
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    barrier: threading.Barrier | None = None
    delay: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self) -> Fault | None:
        with self.lock:
            return self.faults.popleft() if self.faults else None


def tokens(text: str) -> list[str]:
    """The model's tokens: they spell the text."""
    return re.findall(r"\s*\S+|\s+", text)


def error(message: str, **more: Any) -> dict[str, Any]:
    """A body of the protocol that says what is wrong."""
    return {"error": {"message": message, "type": "test", **more}}


def answer(path: str, body: dict[str, Any], echoes: bool) -> dict[str, Any]:
    """The body of a right answer."""
    chat = path.endswith("/chat/completions")
    prompt = body["messages"][-1]["content"] if chat else body["prompt"]
    word = " " + (prompt.split() or [""])[-1]
    usage = {"prompt_tokens": len(tokens(prompt)), "completion_tokens": 1, "total_tokens": len(tokens(prompt)) + 1}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    if chat:
        choice["message"] = {"role": "assistant", "content": word}
    else:
        choice["text"] = prompt + word if body.get("echo") and echoes else word
        choice["logprobs"] = logprobs(choice["text"]) if "logprobs" in body else None
    return {"id": "1", "object": "x", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}


def logprobs(text: str) -> dict[str, Any]:
    pieces = tokens(text)
    offsets = [sum(map(len, pieces[:place])) for place in range(len(pieces))]
    values = [None if place == 0 else -len(piece) / 10 for place, piece in enumerate(pieces)]
    return {"tokens": pieces, "token_logprobs": values, "text_offset": offsets, "top_logprobs": None}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model.requests.append(body)
        self.model.keys.append(self.headers.get("Authorization"))
        if self.model.barrier:
            self.model.barrier.wait(timeout=10)
        time.sleep(self.model.delay)
        refused = next((name for name in body if name in self.model.refuses), None)
        fault = self.model.next_fault()
        if isinstance(fault, tuple):
            self._send(fault[0], json.dumps(fault[1]).encode(), fault[2])
        elif refused:
            said = error(f"Unsupported parameter: {refused}", param=refused, code="unsupported_parameter")
            self._send(400, json.dumps(said).encode(), {})
        else:
            self._answer(fault, json.dumps(answer(self.path, body, self.model.echoes)).encode())

    def _answer(self, fault: str | None, whole: bytes) -> None:
        if fault == "cut":
            self._send(200, whole, {}, sent=len(whole) // 2)
            self.close_connection = True
        else:
            self._send(200, {"half": whole[: len(whole) // 2], "empty": b'{"choices": []}'}.get(fault or "", whole), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *_: object) -> None:
        """Silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


@contextmanager
def openai_server(model: Model) -> Iterator[str]:
    """The base URL of the server while it runs."""
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": model}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
