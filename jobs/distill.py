"""Distil an encoder for `method: llmlingua2`: `python -m jobs.distill --input … --output …`, also as a Ray job.

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
from jobs.training.rows import digest, read_passages
from jobs.training.settings import DistillConfig
from jobs.training.workers import RESULT, Groups, folder_of, shown_progress, staff
from lingua.models.source import resolve


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: distill(DistillConfig.load(argv)))


def distill(config: DistillConfig) -> int:
    """Do what is not done yet, and say what came of it."""
    require_packages("train", "accelerate", "scipy")
    folder = folder_of(config)
    passages = read_passages(config, folder.storage)
    rows = digest(text for one in passages for text in (one.origin, one.text, repr(one.given)))
    models = {"model_digest": resolve(config.model).digest, "teacher_digest": teacher_digest(config)}
    remedy = (
        "restore that, or give another --output. To train again on the labels of this one: "
        f"--teacher labels --input {config.output}/labels --targets {config.learnt}"
    )
    folder.begin({**config.identity(), **models, "rows": rows}, remedy)
    if not folder.exists(RESULT):
        from jobs.training import distillation  # torch takes seconds, for nothing where a setting is wrong

        with folder.held(config.lease_seconds), staff(config) as do, shown_progress(folder):
            if Groups(folder, distillation.LABELS).missing():
                do(distillation.label)
            do(distillation.train)
    made, model = json.loads(folder.read(RESULT)), f"{config.output}/model"
    found = made["agreement"]
    print(
        f"trained on {made['tokens']:,} tokens in {counted(len(made['losses']), 'step')}\n"
        f"with the teacher, on {counted(found['texts'], 'held-out text')}: F1 {found['f1']:.3f} "
        f"(chance {found['chance']:.3f}), AUC {found['auc']:.3f}, rank correlation {found['spearman']:.3f}\n"
        f"model: {model}  (python -m jobs.compress --method llmlingua2 --model {model} …)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
