"""Compressors without a model that Ray's workers can import: one that is quick, one that is slow, one that dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

from cluster.config import JobConfig
from lingua.prompt import Outcome, Prompt
from tests.fakes import FakeCompressor

NEW = "a-new-row"
POISON = "this-row-ends-the-process"


class Deadly(FakeCompressor):
    """Ends its process, without a word, when it is shown a poison row."""

    def _outcome(self, prompt: Prompt) -> Outcome:
        if POISON in prompt.text:
            os._exit(11)
        return super()._outcome(prompt)


class Slow(FakeCompressor):
    """Takes a fiftieth of a second for each prompt."""

    def stream(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        for outcome in super().stream(prompts):
            time.sleep(0.02)
            yield outcome


class ReusedOnly(FakeCompressor):
    """Fails when it is shown a prompt that does not begin with `NEW`."""

    def _outcome(self, prompt: Prompt) -> Outcome:
        if not prompt.text.startswith(NEW):
            raise RuntimeError(f"was shown {prompt.text!r}")
        return super()._outcome(prompt)


def deadly(config: JobConfig) -> Deadly:
    return Deadly(config.model, config.compression)


def reused_only(config: JobConfig) -> ReusedOnly:
    return ReusedOnly(config.model, config.compression)


def slow(config: JobConfig) -> Slow:
    return Slow(config.model, config.compression)
