"""Align a small model to a target: `python -m jobs.align --input … --output …`, by itself or through `ray job submit`.

Joins the parts: settings → plan → responses → the target's surprisal → training → a model directory. Started again, it
goes on where it was stopped. Exit code 0 when the model is there; 2 for wrong settings or rows, before any model loads
or Ray starts; 143 after SIGTERM; else 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from cluster.storage import Storage
from jobs.ending import exit_code
from jobs.packages import require_packages
from jobs.training.align_plan import open_plan
from jobs.training.align_settings import AlignConfig
from jobs.training.card import table
from jobs.training.publish import RESULT
from jobs.training.run import Work, alone, staff


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with these arguments; the exit code."""
    return exit_code(lambda: align(AlignConfig.load(sys.argv[1:] if argv is None else argv)))


def align(config: AlignConfig) -> int:
    """Do what is not done yet, and say what came of it."""
    if config.method == "lora":
        require_packages("train", "peft")
    storage = Storage(config.storage_options)
    open_plan(config, storage)
    result = f"{config.output}/{RESULT}"
    if not storage.exists(result):
        with alone(storage, config.output, "jobs.align", config.lease_seconds):
            _train(config, storage)
    print(summary(config, storage.read(result)))
    return 0


def _train(config: AlignConfig, storage: Storage) -> None:
    from jobs.training.progress import Watch  # torch takes seconds, for nothing where a setting is wrong

    with staff(config) as run, Watch(storage, config.output):
        for work, workers in phases(config, storage):
            run(work, workers)


def phases(config: AlignConfig, storage: Storage) -> Iterator[tuple[Work, int]]:
    """What is left to be done, in order, and by how many workers at most; looked at when the one before is done."""
    from jobs.training import align_work

    if align_work.lacks_responses(config, storage):
        yield align_work.respond, config.workers
    if align_work.lacks_surprisal(config, storage):
        yield align_work.look, 1
    yield align_work.train, config.workers


def summary(config: AlignConfig, result: bytes) -> str:
    """What was made and measured, for people."""
    found = json.loads(result)
    learned = f"learned from {found['rows']:,} rows in {len(found['losses']):,} steps"
    model = f"{config.output}/model"
    return (
        f"{learned}\n\n{table(found)}\n\nmodel: {model}  (python -m jobs.compress --method llmlingua --model {model} …)"
    )


if __name__ == "__main__":
    sys.exit(main())
