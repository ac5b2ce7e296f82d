"""A training job that is killed, on an object store: it ends as one that was not, and half a model is none."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.output.folder import RunFolder
from cluster.storage.storage import Storage
from jobs.training.trainer import publish
from lingua import CompressionConfig, Compressor, Prompt
from lingua.errors import ModelError
from tests import forks, models
from tests.jobs.training.runs import JOBS, write_encoder
from tests.s3server import S3Bucket
from tests.texts import PROSE

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks
SAVE = {"align": models.save, "distill": write_encoder}
LORA = {"method": "lora", "lora_rank": 2}


def killed(job: str, moment: str, flags: Sequence[str]) -> list[int]:
    """Run a job in a process of its own until it is killed at `moment`; the steps that it did."""
    command = [sys.executable, "-m", "tests.jobs.training.runs", job, moment, *flags]
    died = forks.run(command, timeout=600)
    assert died.returncode == -9, died.stderr
    time.sleep(1.5)  # until its lease has run out
    return [int(line.split()[1]) for line in died.stdout.splitlines() if line.startswith("step ")]


def compress(job: str, folder: Path) -> Any:
    config = CompressionConfig(method=JOBS[job].method, rate=0.5)
    return Compressor(str(folder), config).compress([Prompt(context=[PROSE])])[0]


def measured(result: dict[str, Any]) -> dict[str, float]:
    """What either job found of the model at its end."""
    found = result.get("agreement") or result["after"]
    return {name: value for name, value in found.items() if value is not None}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.timeout(1800)  # a process that imports torch: minutes where many work at once
@pytest.mark.parametrize(
    ("job", "settings", "moment"),
    [("align", LORA, "/model/config.json"), ("distill", {}, "5")],
    ids=["LoRA, before the model is whole", "encoder, in a step"],
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    tmp_path: Path, s3: S3Bucket, job: str, settings: dict[str, Any], moment: str
) -> None:
    settings = {**settings, "checkpoint_every": 4}
    whole = JOBS[job].run(tmp_path, "whole", **settings)
    url, options = f"{s3.url}/out", json.dumps(s3.storage_options)
    flags = JOBS[job].flags(tmp_path, url, storage_options=options, **settings)
    steps = killed(job, moment, flags)
    assert steps == list(range(1, int(moment) + 1 if moment.isdigit() else len(whole["losses"]) + 1))
    assert s3.files.find(f"{url}/checkpoints")
    assert not s3.files.exists(f"{url}/_result.json")
    if not moment.isdigit():
        s3.files.get(f"{url}/model", str(tmp_path / "half"), recursive=True)
        with pytest.raises(ModelError):
            compress(job, tmp_path / "half")

    assert JOBS[job].module.main(flags) == 0
    s3.files.get(f"{url}/model", str(tmp_path / "model"), recursive=True)
    assert names(tmp_path / "model") == names(tmp_path / "whole" / "model")
    assert compress(job, tmp_path / "model").compressed_tokens > 0
    assert s3.files.find(f"{url}/checkpoints") == []
    result = json.loads(s3.files.cat_file(f"{url}/_result.json"))
    assert result["losses"] == pytest.approx(whole["losses"], rel=1e-5)  # the number of threads decides the last digits
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
    folder = RunFolder(str(tmp_path), "test")
    put = partial(publish, folder, SAVE[job])
    put({})  # and killed before anybody knew
    files = names(tmp_path / "model")
    for number in range(len(files)):
        folder.storage = Dying(number)
        with pytest.raises(KeyboardInterrupt):
            put({})
        assert len(names(tmp_path / "model")) == number
        with pytest.raises(ModelError):
            compress(job, tmp_path / "model")
    folder.storage = Storage()
    put({"rows": 1})
    assert names(tmp_path / "model") == files
    assert compress(job, tmp_path / "model").compressed_tokens > 0
    assert json.loads((tmp_path / "_result.json").read_text()) == {"rows": 1}
