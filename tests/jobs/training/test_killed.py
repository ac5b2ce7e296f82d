"""A training job that is killed, on an object store: it ends as one that was not, and half a model is none."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import Storage
from jobs.training.publish import publish
from lingua import CompressionConfig, Compressor, Prompt
from lingua.errors import ModelError
from tests import models
from tests.jobs.training.both import JOBS
from tests.jobs.training.distill_runs import write_encoder
from tests.s3server import S3Bucket
from tests.texts import PROSE

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks
ROOT = Path(__file__).resolve().parents[3]
SAVE = {"align": models.save, "distill": write_encoder}
METHODS = {"align": "llmlingua", "distill": "llmlingua2"}
LORA = {"method": "lora", "lora_rank": 2, "lora_dropout": 0.3}


def killed(job: str, moment: str, flags: Sequence[str]) -> list[int]:
    """Run a job in a process of its own until it is killed at `moment`; the steps that it did."""
    command = [sys.executable, "-m", "tests.jobs.training.both", job, moment, *flags]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert died.returncode == -9, died.stderr
    time.sleep(1.5)  # until its lease has run out
    return [int(line.split()[1]) for line in died.stdout.splitlines() if line.startswith("step ")]


def compress(job: str, folder: Path) -> Any:
    config = CompressionConfig(method=METHODS[job], rate=0.5)
    return Compressor(str(folder), config).compress([Prompt(context=[PROSE])])[0]


def measured(result: dict[str, Any]) -> dict[str, float]:
    """What either job found of the model at its end."""
    found = result.get("agreement") or result["after"]
    return {name: value for name, value in found.items() if value is not None}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.timeout(1800)  # two processes that import torch: minutes where many work at once
@pytest.mark.parametrize(
    ("job", "settings", "moment"),
    [("align", {}, 5), ("align", LORA, 5), ("distill", {}, 11)],
    ids=["align", "align by LoRA", "distill"],
)
def test_a_run_that_was_killed_twice_ends_as_one_that_was_not(
    tmp_path: Path, s3: S3Bucket, job: str, settings: dict[str, Any], moment: int
) -> None:
    whole = JOBS[job].run(tmp_path, "whole", **settings)
    url, options = f"{s3.url}/out", json.dumps(s3.storage_options)
    flags = JOBS[job].flags(tmp_path, url, storage_options=options, lease_seconds=1, **settings)

    assert killed(job, str(moment), flags) == list(range(1, moment + 1))
    newest = max(int(path[-11:-3]) for path in s3.files.find(f"{url}/checkpoints"))
    assert 0 < newest < moment

    assert killed(job, "/model/config.json", flags) == list(range(newest + 1, len(whole["losses"]) + 1))
    s3.files.get(f"{url}/model", str(tmp_path / "half"), recursive=True)
    with pytest.raises(ModelError):
        compress(job, tmp_path / "half")
    assert not s3.files.exists(f"{url}/_result.json")

    assert JOBS[job].module.main(flags) == 0
    s3.files.get(f"{url}/model", str(tmp_path / "model"), recursive=True)
    assert names(tmp_path / "model") == names(tmp_path / "whole" / "model")
    assert compress(job, tmp_path / "model").compressed_tokens > 0
    assert s3.files.find(f"{url}/checkpoints") == []
    result = json.loads(s3.files.cat_file(f"{url}/_result.json"))
    assert result["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    assert measured(result) == pytest.approx(measured(whole), rel=1e-5)
    assert result.get("before") == whole.get("before")


class Dying(Storage):
    """A storage whose user is killed before it creates another file than the first few."""

    def __init__(self, files: int) -> None:
        super().__init__()
        self._left = files

    def create(self, url: str, data: bytes | Path) -> bool:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return super().create(url, data)


@pytest.mark.parametrize("job", JOBS)
def test_a_model_that_lacks_any_file_is_none_and_the_next_start_writes_it_whole(tmp_path: Path, job: str) -> None:
    publish(SAVE[job], {}, str(tmp_path), Storage())  # and killed before anybody knew
    files = names(tmp_path / "model")
    for number in range(len(files)):
        with pytest.raises(KeyboardInterrupt):
            publish(SAVE[job], {}, str(tmp_path), Dying(number))
        assert len(names(tmp_path / "model")) == number
        with pytest.raises(ModelError):
            compress(job, tmp_path / "model")
    publish(SAVE[job], {"rows": 1}, str(tmp_path), Storage())
    assert names(tmp_path / "model") == files
    assert compress(job, tmp_path / "model").compressed_tokens > 0
    assert json.loads((tmp_path / "_result.json").read_text()) == {"rows": 1}
