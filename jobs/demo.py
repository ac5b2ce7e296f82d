"""`make demo`: two small real corpora through the main job on Ray, and an audit of the result.

A document corpus made on the spot (the long descriptions of the Python packages installed here) and a hand-written bank
of few-shot prompts: the bank by the default method, the documents by LLMLingua with the embedded model. Only the sizes
are small; job, model and cluster are the ones that large corpora use.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
from pydantic import Field

from cluster.command import Command
from cluster.run.stopping import exit_code
from cluster.settings import Settings
from jobs import compress, verify
from lingua.errors import ConfigError

SAMPLES = Path(__file__).parent / "samples"
_PASSAGE = 1_000


class DemoConfig(Settings):
    """How large the demo is, and where its files go."""

    command: ClassVar[Command] = Command("jobs.demo", "[any setting below]", "Two small corpora through the main job.")

    output: Path = Field(Path("demo-output"), description="folder for the corpus and both outputs; nothing is removed")
    documents: int = Field(60, ge=1, description="passages to compress")


def main(argv: Sequence[str] | None = None) -> int:
    """Build, compress, show and verify; the first exit code that is not 0."""
    return exit_code(lambda: demo(DemoConfig.load(argv)))


def demo(config: DemoConfig) -> int:
    """The same, of settings. In the folder of an earlier demo, what that one committed is found again."""
    output = config.output / f"documents-{config.documents}"
    source = output.with_suffix(".jsonl")
    try:
        config.output.mkdir(parents=True, exist_ok=True)
        write_documents(source, config.documents)
    except OSError as error:
        raise ConfigError(f"output = {config.output}: {error.strerror or error}; name another folder") from None
    print("A few-shot bank by method evidence, passages of packages' descriptions by method llmlingua.\n")
    bank = ["--input", str(SAMPLES / "fewshot.jsonl"), "--output", str(config.output / "fewshot"), "--rate", "0.3"]
    passages = ["--input", str(source), "--output", str(output), "--rate", "0.5", "--method", "llmlingua"]
    common = ["--workers", "2", "--shard-size", "16KiB", "--id-column", "id"]
    for folder, settings in ((config.output / "fewshot", bank), (output, passages)):
        if code := compress.main([*settings, *common]) or verify.main([str(folder)]):
            return code
        show(folder)
    return 0


def write_documents(path: Path, limit: int) -> None:
    """Write up to `limit` passages of package descriptions as JSON Lines, unless they are there."""
    if not path.exists():
        installed = sorted(distributions(), key=lambda one: one.name.lower())
        rows = [row for distribution in installed for row in passages_of(distribution)][:limit]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def passages_of(distribution: Distribution) -> Iterator[dict[str, Any]]:
    """The first two passages of a package's long description that are prose."""
    body = str(distribution.metadata.json.get("description", ""))
    marks = ("<", "://", "```", "|", "\n    ")
    prose = [one for one in body.split("\n\n") if one.count(" ") > 12 and not any(mark in one for mark in marks)]
    passages = textwrap.wrap("\n".join(prose), _PASSAGE, replace_whitespace=False)
    for number, passage in enumerate(passages[:2]):
        yield {"id": f"{distribution.name}-{number}", "package": distribution.name, "text": passage}


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
