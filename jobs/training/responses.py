"""The target's responses to all prompts: written in chunks, each committed in one step, none written twice.

A chunk is a file `OUTPUT/responses/NUMBER-DIGEST.jsonl`, created only if absent; the digest is that of the prompts and
of all that their responses depend on, so what an earlier or a killed run paid for is found again, and nothing else is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.errors import AbortRun, RowError
from cluster.storage import Storage
from jobs.training.align_settings import AlignConfig
from jobs.training.examples import Example
from lingua.models.source import resolve


class Writer(Protocol):
    """Whatever continues prompts: the targets of `jobs.evaluation` do, and `target.LocalWriter`."""

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt, cut before the first of the `stop` strings."""
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some prompts and the file that holds, or will hold, the responses to them."""

    url: str
    prompts: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def target_digest(config: AlignConfig) -> str:
    """Who responds: the target's files, or the endpoint and the model's name there. "" without a target.

    Raises ModelError when a local model is missing.
    """
    if config.target is None:
        return ""
    if config.endpoint is not None:
        return f"{config.endpoint_mode}:{config.endpoint}:{config.target}"
    return resolve(config.target).digest


def chunks(examples: Sequence[Example], config: AlignConfig) -> list[Chunk]:
    """All prompts, `chunk_rows` a chunk."""
    target = target_digest(config)
    return list(_chunks([example.before for example in examples], config, target))


def missing(all_chunks: Sequence[Chunk], config: AlignConfig, storage: Storage) -> list[Chunk]:
    """The chunks that no run has committed, by one listing."""
    there = {entry.name for entry in storage.entries(f"{config.output}/responses")}
    return [chunk for chunk in all_chunks if chunk.name not in there]


def write_chunk(chunk: Chunk, writer: Writer, config: AlignConfig, storage: Storage) -> None:
    """Ask the target and commit what it says; what another worker committed meanwhile counts."""
    texts = _texts(chunk.prompts, writer, config)
    lines = (
        json.dumps({"prompt": prompt, "response": text}, ensure_ascii=False)
        for prompt, text in zip(chunk.prompts, texts, strict=True)
    )
    storage.create(chunk.url, "".join(f"{line}\n" for line in lines).encode())


def read_responses(all_chunks: Sequence[Chunk], storage: Storage) -> list[Example]:
    """Prompts with their responses, in order, without those to which the target said nothing."""
    return [example for chunk in all_chunks for example in _read(chunk, storage) if example.response.strip()]


def _texts(prompts: Sequence[str], writer: Writer, config: AlignConfig) -> list[str]:
    """The responses; "" where a target refuses a prompt, which it says of one at a time."""
    try:
        return writer.generate(prompts, config.response_tokens, config.stop)
    except RowError:
        if len(prompts) == 1:
            return [""]
    return [text for prompt in prompts for text in _texts([prompt], writer, config)]


def _chunks(prompts: list[str], config: AlignConfig, target: str) -> Iterator[Chunk]:
    depends = [target, config.response_tokens, config.temperature, config.stop, config.seed]
    for number, start in enumerate(range(0, len(prompts), config.chunk_rows)):
        piece = tuple(prompts[start : start + config.chunk_rows])
        content = json.dumps([*depends, piece]).encode()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        yield Chunk(f"{config.output}/responses/{number:06d}-{digest}.jsonl", piece)


def _read(chunk: Chunk, storage: Storage) -> Iterator[Example]:
    try:
        rows = [json.loads(line) for line in storage.read(chunk.url).decode().split("\n") if line]
        yield from (Example(row["prompt"], row["response"]) for row in rows)
    except FileNotFoundError:
        raise AbortRun(f"{chunk.url}: is gone since it was written; start again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AbortRun(f"{chunk.url}: is no file of responses ({error}); delete it and start again") from None
