"""Align a small model to a target: `python -m jobs.align --input … --output …`, by itself or through `ray job submit`.

Started again, it continues where it was stopped. Exit code 0 when the model is there; 2 for wrong settings or rows,
before any model loads or Ray starts; 143 after SIGTERM; else 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from cluster.output.records import counted
from cluster.stopping import exit_code
from jobs import require_packages
from jobs.training.labels import teacher_digest
from jobs.training.rows import digest_of, read_examples, split
from jobs.training.settings import AlignConfig
from jobs.training.workers import RESULT, Groups, folder_of, shown_progress, staff
from lingua.models.source import resolve


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: align(AlignConfig.load(argv)))


def align(config: AlignConfig) -> int:
    """Do what is not done yet, and say what came of it."""
    require_packages("train", "accelerate", "scipy", *(["peft"] if config.method == "lora" else []))
    folder = folder_of(config)
    examples = read_examples(config, folder.storage)
    split(examples, config.held_out)
    from lingua.models.load import Loader  # torch takes seconds, for nothing where a setting is wrong

    Loader(resolve(config.model)).require("causal")
    models = {"model_digest": resolve(config.model).digest, "target_digest": teacher_digest(config)}
    folder.begin({**config.identity(), **models, "rows": digest_of(examples)})
    from jobs.training import alignment

    if not folder.exists(RESULT):
        with folder.held(config.lease_seconds), staff(config) as do, shown_progress(folder):
            if config.target is not None and Groups(folder, alignment.RESPONSES).missing():
                do(alignment.respond)
            do(alignment.train)
    found, model = json.loads(folder.read(RESULT)), f"{config.output}/model"
    print(
        f"learned from {counted(found['rows'], 'row')} in {counted(len(found['losses']), 'step')}\n\n"
        f"{alignment.table(found)}\n\n"
        f"model: {model}  (python -m jobs.compress --method llmlingua --model {model} …)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
