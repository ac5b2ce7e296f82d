"""Every command line of the job that a deployment file or a page shows is one that the job accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cluster.config import JobConfig
from tests.cluster.deploy.command_lines import code_of, compress_arguments
from tests.cluster.deploy.manifests import DEPLOY, ROOT, files, walk

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECRET = re.compile(r"AKIA[A-Z0-9]{12,}|hf_[A-Za-z0-9]{20,}|-----BEGIN|eyJ[A-Za-z0-9_-]{20,}")


def shown(file: Path) -> list[list[str]]:
    """The arguments of the calls in a file: of a page its code, of YAML its values and its comments."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return compress_arguments(code_of(text))
    if file.suffix != ".yaml":
        return compress_arguments(text)
    values = [value for value in walk(yaml.safe_load(text)) if isinstance(value, str)]
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    return [call for piece in [*values, comments] for call in compress_arguments(piece)]


CALLS = [(file, call) for file in [*files(), *PAGES] for call in shown(file)]


@pytest.mark.parametrize(
    ("file", "arguments"), CALLS, ids=[f"{file.name}-{number}" for number, (file, _) in enumerate(CALLS)]
)
def test_the_job_accepts_what_is_shown(
    file: Path, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--help" in arguments:
        return
    monkeypatch.chdir(tmp_path)
    if "--config" in arguments:
        Path(arguments[arguments.index("--config") + 1]).write_text("rate: 0.5\n")
    for flag in ("--input", "--output"):
        if flag not in arguments:
            arguments = [*arguments, flag, "placeholder"]
    JobConfig.load(arguments, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a; python -m jobs.compress --rate 0.5 && b", [["--rate", "0.5"]]),
        ("ray job submit -- python -m jobs.compress \\\n  --rate 0.5 &\nwait", [["--rate", "0.5"]]),
        ('#  ray exec x.yaml "python -m jobs.compress \\\n#    --rate 0.5"', [["--rate", "0.5"]]),
        ("sh -c 'python -m jobs.compress --output a/$(date -u +%F) --rate 1'", [["--output", "a/word", "--rate", "1"]]),
        (
            "python -m jobs.compress --workers $((${#n[@]} * G)) --output {{ x | ds }}/o",
            [["--workers", "8", "--output", "word/o"]],
        ),
        ("python -m jobs.verify out", []),
    ],
)
def test_calls_are_found_in_any_wrapping(text: str, expected: list[list[str]]) -> None:
    assert compress_arguments(text) == expected


def test_calls_are_found_where_they_are_known_to_be() -> None:
    have = {str(file.relative_to(ROOT)) for file, _ in CALLS}
    deployed = {
        "kuberay/rayjob.yaml",
        "kuberay/raycronjob.yaml",
        "kuberay/cronjob.yaml",
        "ray-up/cluster.yaml",
        "slurm/compress.sh",
    }
    assert {f"cluster/deploy/{name}" for name in deployed} | {"README.md", "docs/deployment.md"} <= have


@pytest.mark.parametrize("file", files(), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_no_secret_is_in_a_file(file: Path) -> None:
    assert not SECRET.search(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page", [ROOT / "docs" / "deployment.md", ROOT / "docs" / "faults.md"], ids=lambda p: str(p.name)
)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for path, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        assert (ROOT / path).is_file(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(), test
