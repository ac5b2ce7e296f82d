"""`make demo`: two small corpora through the main job on Ray, and an audit of the result.

A hand-written bank of few-shot prompts goes by the default method, passages of the project's own pages by LLMLingua
with the embedded model. Only the sizes are small; job, model and cluster are the ones that large corpora use. A second
demo in the same folder finds what the first one committed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq
from pydantic import Field

from cluster.command import Command
from cluster.settings import Settings
from cluster.stopping import exit_code
from jobs import compress, verify
from lingua.errors import ConfigError

SAMPLES = Path(__file__).parent / "samples"
CORPORA = {"fewshot": ("--rate", "0.3"), "documents": ("--rate", "0.5", "--method", "llmlingua")}
COMMON = ("--workers", "2", "--shard-size", "16KiB", "--id-column", "id")


class DemoConfig(Settings):
    command: ClassVar[Command] = Command("jobs.demo", "[any setting below]", "Two small corpora through the main job.")

    output: Path = Field(Path("demo-output"), description="folder for both outputs; nothing is removed")


def main(argv: Sequence[str] | None = None) -> int:
    """Compress, verify and show; the first exit code that is not 0."""
    return exit_code(lambda: demo(DemoConfig.load(argv)))


def demo(config: DemoConfig) -> int:
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output = {config.output}: {error.strerror or error}; name another folder") from None
    print("A few-shot bank by method evidence, passages of this project's pages by method llmlingua.\n")
    for name, settings in CORPORA.items():
        output = config.output / name
        flags = ["--input", str(SAMPLES / f"{name}.jsonl"), "--output", str(output), *settings, *COMMON]
        if code := compress.main(flags) or verify.main([str(output)]):
            return code
        show(output)
    return 0


def show(output: Path) -> None:
    """Print one row before and after."""
    row = pq.read_table(min(output.glob("part-*.parquet"))).to_pylist()[0]
    before = row.get("text") or "\n\n".join([row["instruction"], *row["context"], row["question"]])
    print(f"\n--- before: {row['origin_tokens']} tokens\n{_excerpt(before)}")
    print(f"\n--- after: {row['compressed_tokens']} tokens ({row['rate']:.0%})\n{_excerpt(row['compressed_prompt'])}\n")


def _excerpt(text: str, size: int = 900) -> str:
    return text if len(text) <= size else f"{text[:size]} …"


if __name__ == "__main__":
    sys.exit(main())
