"""The public `llmlingua` beside us: its own interpreter as a subprocess, JSON lines in and out (see `peer_main`).

`make peer` creates that interpreter's environment; `requirements-reference.txt` says how its packages go into a folder
instead, for a machine on which the peer must share an interpreter and a torch built for its device.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lingua.errors import LinguaError
from lingua.prompt import Prompt

MAIN = Path(__file__).with_name("peer_main.py")
START_SECONDS = 300.0
PROMPT_SECONDS = 1_800.0
_SAID_CHARACTERS = 4_000


class PeerError(LinguaError):
    """The peer could not be started, died or took too long: the first line says why, the rest is what it said last."""


class PeerPromptError(PeerError):
    """The peer failed on one prompt; it lives and takes the next one."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What the peer is started with."""

    model: str  # a model directory (see `peer_copy`)
    device: str = "cpu"
    dtype: str = "float32"  # or bfloat16, float16
    llmlingua2: bool = False
    threads: int = 0  # of its CPU work; 0: its own choice


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """One compressed prompt: tokens of the texts as GPT-3.5 counts them; `model_tokens` went through the model."""

    text: str
    origin_tokens: int
    compressed_tokens: int
    seconds: float
    cpu_seconds: float
    model_seconds: float
    model_tokens: int
    peak_bytes: int


class Peer:
    """A running peer with the `versions` of its packages; close it. Raises PeerError."""

    def __init__(self, settings: PeerSettings, python: Path, packages: Path | None = None) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process: Any = self._start(python, packages)
        try:
            if "error" in (answer := self._ask(asdict(settings), START_SECONDS)):
                raise PeerError(f"the peer could not start: {answer['error']}\n{self._last_words()}")
        except BaseException:
            self.close()
            raise
        self.versions: dict[str, str] = answer["versions"]

    def _start(self, python: Path, packages: Path | None) -> subprocess.Popen[bytes]:
        environment = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
        if packages is not None:
            environment["PYTHONPATH"] = str(packages)
        command = [str(python), "-W", "ignore", str(MAIN)]
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._said, env=environment)
        except OSError as error:
            self._said.close()
            raise PeerError(f"the peer's interpreter {python} cannot be started: {error}") from error

    def compress(self, prompt: Prompt, options: dict[str, Any] | None = None) -> PeerAnswer:
        """Compress one prompt; `options` are keyword arguments of the library's `compress_prompt`."""
        question = {"instruction": prompt.instruction, "context": prompt.context, "question": prompt.question}
        if "error" in (answer := self._ask(question | {"options": options or {}}, PROMPT_SECONDS)):
            raise PeerPromptError(f"the peer failed on a prompt of {len(prompt.text)} characters: {answer['error']}")
        return PeerAnswer(**answer)

    def _ask(self, record: dict[str, Any], seconds: float) -> dict[str, Any]:
        began, timer = time.monotonic(), threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps(record).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if not line:
            raise PeerError(self._death(time.monotonic() - began, seconds))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self, spent: float, most: float) -> str:
        """Its last line first: that one names an error, while a traceback begins with code."""
        words = self._last_words()
        last = words.splitlines()[-1] if words else "it said nothing"
        code = self._process.returncode
        return f"the peer died after {spent:.0f} s of at most {most:.0f} s, exit code {code}: {last}\n{words}"

    def _last_words(self) -> str:
        self._end()
        self._said.seek(0)
        return self._said.read().decode(errors="replace").strip()[-_SAID_CHARACTERS:]

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        self._end()
        self._said.close()

    def _end(self) -> None:
        """Wait for the process's end; kill it if it takes long."""
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


QUESTION_AWARE: dict[str, Any] = {
    "rank_method": "longllmlingua",
    "condition_in_question": "after_condition",
    "condition_compare": True,
    "reorder_context": "sort",
    "dynamic_context_compression_ratio": 0.3,
    "context_budget": "+100",
}
"""The library's recommended call for question-aware compression."""


def peer_options(method: str, rate: float) -> dict[str, Any] | None:
    """How the peer is asked for `method`; None: it has no such method."""
    known: dict[str, dict[str, Any]] = {"llmlingua": {}, "longllmlingua": QUESTION_AWARE, "llmlingua2": {}}
    return {"rate": rate, **known[method]} if method in known else None


# ---- a model directory as the peer's older transformers reads it


def peer_copy(directory: Path, target: Path) -> Path:
    """Make `target` a copy of the model in `directory` that transformers 4.47 loads; returns `target`.

    transformers 5 writes `rope_parameters`, `dtype` and tokenizer classes that 4.47 does not know. Weights are linked.
    """
    rewritten = {"config.json": old_config, "tokenizer_config.json": old_tokenizer}
    target.mkdir(parents=True)
    for file in directory.iterdir():
        if file.is_file() and file.name not in rewritten:
            (target / file.name).symlink_to(file.resolve())
    for name, rewrite in rewritten.items():
        record = json.loads((directory / name).read_text(encoding="utf-8"))
        (target / name).write_text(json.dumps(rewrite(record), indent=2), encoding="utf-8")
    return target


def old_config(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` at the top level, `torch_dtype` instead of `dtype`."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype")}
    old["torch_dtype"] = config.get("dtype") or config.get("torch_dtype") or "float32"
    if "rope_theta" in (rope := dict(config.get("rope_parameters") or {})):
        old["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        old["rope_scaling"] = rope
    return old


def old_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """The generic fast tokenizer, which every version has; special tokens stay."""
    known = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")}
    return known | {"tokenizer_class": "PreTrainedTokenizerFast"}
