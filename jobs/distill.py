"""Distil an encoder for `method: llmlingua2`: `python -m jobs.distill --input … --output …`, also as a Ray job.

Joins the parts: settings → plan → labels by the teacher → training → model directory. Started again, it goes on where
it was stopped. Exit code 0 when the model is there; 2 for wrong settings or rows, before any model loads or Ray starts;
143 after SIGTERM; else 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from cluster.storage import Storage
from jobs.ending import exit_code
from jobs.training import distill_work
from jobs.training.distill_plan import open_plan
from jobs.training.distill_settings import DistillConfig
from jobs.training.progress import Watch
from jobs.training.publish import RESULT
from jobs.training.run import alone, staff


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with these arguments; the exit code."""
    return exit_code(lambda: distill(DistillConfig.load(sys.argv[1:] if argv is None else argv)))


def distill(config: DistillConfig) -> int:
    """Do what is not done yet, and say what came of it."""
    storage = Storage(config.storage_options)
    open_plan(config, storage)
    result = f"{config.output}/{RESULT}"
    if not storage.exists(result):
        holding = alone(storage, config.output, "jobs.distill", config.lease_seconds)
        with holding, staff(config) as run, Watch(storage, config.output):
            if distill_work.labels_of(config, storage).missing() != 0:
                run(distill_work.label, config.workers)
            run(distill_work.train, config.workers)
    print(summary(config, storage.read(result)))
    return 0


def summary(config: DistillConfig, result: bytes) -> str:
    """What was made and measured, for people."""
    made = json.loads(result)
    found, model = made["agreement"], f"{config.output}/model"
    return (
        f"trained on {made['tokens']:,} tokens in {len(made['losses']):,} steps\n"
        f"with the teacher, on {found['texts']:,} held-out texts: F1 {found['f1']:.3f} (chance {found['chance']:.3f}), "
        f"AUC {found['auc']:.3f}, rank correlation {found['spearman']:.3f}\n"
        f"model: {model}  (python -m jobs.compress --method llmlingua2 --model {model} …)"
    )


if __name__ == "__main__":
    sys.exit(main())
