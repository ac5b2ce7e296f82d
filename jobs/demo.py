"""`make demo`: two small real corpora through the main job on Ray, and an audit of the result.

A document corpus made on the spot (the long descriptions of the Python packages installed here) and a hand-written bank
of few-shot prompts: the bank by the default method, the documents by LLMLingua with the embedded model. Only the sizes
are small; job, model and cluster are the ones that large corpora use.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
from pydantic import Field

from cluster.command import Command
from cluster.output.ledger import PART
from cluster.run.stopping import EXIT_SETTINGS, exit_code
from cluster.settings import Settings
from jobs import compress, verify

SAMPLES = Path(__file__).parent / "samples"
MARKER = ".lingua-demo"
"""A file in a folder that a demo made, and may remove again."""
MADE = {MARKER, "documents.jsonl", "documents", "fewshot"}
_PASSAGE = 1_000


class DemoConfig(Settings):
    """How large the demo is, and where its files go."""

    command: ClassVar[Command] = Command("jobs.demo", "[any setting below]", "Two small corpora through the main job.")

    output: Path = Field(
        Path("demo-output"), description="folder: new, empty, or of an earlier demo, which it then replaces"
    )
    documents: int = Field(60, ge=1, description="passages to compress")


def main(argv: Sequence[str] | None = None) -> int:
    """Build, compress, show and verify; the first exit code that is not 0."""
    return exit_code(lambda: demo(DemoConfig.load(sys.argv[1:] if argv is None else argv)))


def demo(config: DemoConfig) -> int:
    """The same, of settings."""
    folder = config.output
    if not _empty(folder):
        return EXIT_SETTINGS
    documents = write_documents(folder / "documents.jsonl", config.documents)
    print(f"A few-shot bank by method evidence, {documents} passages of packages' descriptions by method llmlingua.\n")
    bank = ["--input", str(SAMPLES / "fewshot.jsonl"), "--output", str(folder / "fewshot"), "--rate", "0.3"]
    passages = ["--input", str(folder / "documents.jsonl"), "--output", str(folder / "documents"), "--rate", "0.5"]
    passages += ["--method", "llmlingua"]
    common = ["--workers", "2", "--shard-size", "16KiB", "--id-column", "id"]
    for name, settings in (("fewshot", bank), ("documents", passages)):
        code = compress.main([*settings, *common]) or verify.main([str(folder / name)])
        if code:
            return code
        show(folder / name)
    return 0


def _empty(folder: Path) -> bool:
    """Make the folder, or remove what an earlier demo left in its own; one that anybody else has used is left alone.

    The marker is written before anything else, and only into a folder that was empty.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in folder.iterdir()}
        if found and not (folder / MARKER).is_file():
            raise FileExistsError("holds files, and no demo made it")
        if foreign := sorted([*(found - MADE), *map(str, _foreign(folder))]):
            raise FileExistsError(f"holds {foreign[0]}, which no demo made")
        for name in sorted(found - {MARKER}):
            own = folder / name
            shutil.rmtree(own) if own.is_dir() and not own.is_symlink() else own.unlink()
        (folder / MARKER).write_text("Made by python -m jobs.demo, which empties this folder when it runs again.\n")
    except OSError as error:
        print(f"demo: --output {folder}: {error.strerror or error}; name another folder", file=sys.stderr)
        return False
    return True


def _foreign(folder: Path) -> Iterator[Path]:
    """What lies in the outputs of an earlier demo and is none of their files."""
    for output in (folder / "documents", folder / "fewshot"):
        if output.is_dir() and not output.is_symlink():
            names = (path for path in output.iterdir() if not path.name.startswith("_"))
            yield from (path.relative_to(folder) for path in names if not PART.fullmatch(path.name))


def write_documents(path: Path, limit: int) -> int:
    """Write up to `limit` passages of package descriptions as JSON Lines; how many there were."""
    installed = sorted(distributions(), key=lambda one: one.name.lower())
    rows = [row for distribution in installed for row in passages_of(distribution)][:limit]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def passages_of(distribution: Distribution) -> Iterator[dict[str, Any]]:
    """The first two passages of a package's long description that are prose."""
    body = str(distribution.metadata.json.get("description", ""))
    prose = [paragraph for paragraph in body.split("\n\n") if _reads_like_prose(paragraph)]
    passages = textwrap.wrap("\n".join(prose), _PASSAGE, replace_whitespace=False)
    for number, passage in enumerate(passages[:2]):
        yield {"id": f"{distribution.name}-{number}", "package": distribution.name, "text": passage}


def _reads_like_prose(paragraph: str) -> bool:
    return paragraph.count(" ") > 12 and not any(mark in paragraph for mark in ("<", "://", "```", "|", "\n    "))


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
