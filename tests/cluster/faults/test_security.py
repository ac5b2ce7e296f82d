"""Nothing that stands in a row, a name or a setting is ever executed, and no credential is ever written down."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest

from cluster.config import JobConfig
from jobs.compress import main
from tests.cluster import drive_job

ROOT = Path(__file__).resolve().parents[3]
SECRET = "very-secret-value"
NASTY = [
    "$(touch pwned)",
    "`touch pwned`",
    "a; touch pwned",
    "{0.__class__.__mro__} {config} %s %(x)d",
    "__import__('os').system('touch pwned')",
    "<script>alert(1)</script>",
    "!!python/object/apply:os.system ['touch pwned']",
    "<llmlingua rate=__import__('os').system('touch pwned')>x</llmlingua>",
]
OURS = re.compile(
    r"part-\d{5,}-[0-9a-f]{8}(\.[0-9a-f]{12})?\.(parquet|jsonl|json)|_(plan|stats)\.json|_report\.html|_(records|rejects|sketches)"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a job without Ray."""
    monkeypatch.setitem(sys.modules, "cluster.run.pool", ModuleType("cluster.run.pool"))  # until the end
    drive_job.leave_ray_out()
    monkeypatch.setenv("PAUSE", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path


def flags(folder: Path, *more: str) -> list[str]:
    return ["--input", str(folder / "in"), "--output", str(folder / "out"), "--model", str(folder / "model"), *more]


def test_nasty_rows_and_file_names_are_only_text(folder: Path) -> None:
    (folder / "in").mkdir()
    for number, name in enumerate(NASTY):
        rows = [{"id": f"{number}-{n}", "text": text} for n, text in enumerate(NASTY)]
        path = folder / "in" / f"a {name.replace('/', '∕')[:60]}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(flags(folder), drive_job.paced) == 0
    texts = [row for part in sorted((folder / "out").glob("part-*")) for row in pq.read_table(part)["text"].to_pylist()]
    assert sorted(texts) == sorted(NASTY * len(NASTY))
    assert not list(folder.rglob("pwned"))
    assert {path.name for path in folder.iterdir()} == {"in", "model", "out"}
    assert [path.name for path in (folder / "out").rglob("*") if not OURS.fullmatch(path.name)] == []


@pytest.mark.parametrize("key", ["output_prefix", "text_column", "force_tokens", "device", "protect"])
@pytest.mark.parametrize("value", NASTY[::3])
def test_nasty_settings_are_only_text(folder: Path, key: str, value: str) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "rows.jsonl").write_text('{"text": "a few words"}\n')
    (folder / "job.yaml").write_text(json.dumps({key: value}))
    assert main(flags(folder, "--config", str(folder / "job.yaml")), drive_job.paced) in (0, 2)
    assert not list(folder.rglob("pwned"))


def test_credentials_are_in_no_file_and_no_line_of_a_run_or_its_failure(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "rows.jsonl").write_text('{"text": "a few words"}\n')
    options = json.dumps({"s3": {"key": "key-id-of-someone", "secret": SECRET, "client_kwargs": {"token": SECRET}}})
    caplog.set_level(0)
    assert main(flags(folder, "--dry-run", "--storage-options", options), drive_job.paced) == 0
    assert main(flags(folder, "--storage-options", options), drive_job.paced) == 0
    assert main(flags(folder, "--storage-options", options, "--rate", "0.3"), drive_job.paced) == 1
    assert main(flags(folder, "--storage-options", options + "x"), drive_job.paced) == 2
    said = capfd.readouterr()
    written = b"".join(path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file())
    for credential in (SECRET, "key-id-of-someone"):
        assert credential not in said.out + said.err + caplog.text
        assert credential.encode() not in written


def test_a_configuration_shows_no_credential_in_any_form() -> None:
    config = JobConfig(input="in", output="/out", storage_options={"secret": SECRET})
    assert SECRET not in f"{config!r} {config} {config.shown_settings()} {config.identity_settings()}"
    assert JobConfig(input="in", output="/out").trust_remote_code is False


def calls(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("package", ["lingua", "cluster", "jobs"])
def test_the_code_has_no_call_that_executes_text(package: str) -> None:
    forbidden = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "pickle.load", "pickle.loads"}
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not calls(tree) & forbidden, path
        shells = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "shell"]
        assert not shells, path
