"""The wheel, as people install it: built, put into a fresh environment, and run by its console scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A finished command, away from the checkout, with the checkout's packages out of reach."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd="/", env={**clean, **environment}
    )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its dependencies are borrowed from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    installed = run(*pip, "--python", python, "install", "--quiet", "--no-deps", "--ignore-installed", wheel)
    assert installed.returncode == 0, installed.stderr
    return folder / "env"


def test_the_wheel_holds_all_that_the_packages_read(fresh: Path) -> None:
    code = "import jobs, cluster, lingua; print(jobs.__file__, cluster.__file__, lingua.__file__)"
    found = [Path(path).parent for path in run(fresh / "bin" / "python", "-c", code).stdout.split()]
    assert [path.parent.name for path in found] == ["site-packages"] * 3
    for name, installed in zip(("jobs", "cluster", "lingua"), found, strict=True):
        wanted = {
            path.relative_to(ROOT / name)
            for path in (ROOT / name).rglob("*")
            if path.suffix in {".html", ".css", ".jsonl", ".yaml", ".jinja", ".typed", ".safetensors"}
            and not {"__pycache__", "deploy"} & {*path.parts}  # templates stay with the checkout
        }
        assert wanted <= {path.relative_to(installed) for path in installed.rglob("*")}


def test_scripts_explain_themselves(fresh: Path) -> None:
    code = (
        "from importlib.metadata import distribution\n"
        "for script in distribution('lingua-batch').entry_points:\n"
        "    try:\n"
        "        script.load()(['--help'])\n"
        "    except SystemExit as end:\n"
        "        print(script.name, end.code)\n"
    )
    shown = run(fresh / "bin" / "python", "-c", code).stdout
    assert shown.count("usage: ") == 4
    for name in ("compress", "verify", "report", "doctor"):
        assert f"\nlingua-{name} 0\n" in shown
        assert (fresh / "bin" / f"lingua-{name}").exists()


@pytest.mark.ray
def test_a_corpus_is_compressed_and_verified_by_the_scripts(fresh: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "corpus.jsonl", tmp_path / "out"
    source.write_text(
        "".join(json.dumps({"text": f"The {n}th meeting agreed on little else."}) + "\n" for n in range(9))
    )
    flags = ["--input", source, "--output", output, "--method", "random", "--workers", "1"]
    done = run(fresh / "bin" / "lingua-compress", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    audited = run(fresh / "bin" / "lingua-verify", output)
    assert (audited.returncode, "9 input rows" in audited.stdout) == (0, True), audited.stdout


def test_a_foreign_package_of_the_same_name_is_named(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "lingua").mkdir()
    (tmp_path / "lingua" / "__init__.py").write_text("class LanguageDetectorBuilder: ...\n")
    failed = run(fresh / "bin" / "python", "-c", "import cluster", PYTHONPATH=str(tmp_path))
    assert failed.returncode == 1
    assert f"{tmp_path}/lingua/__init__.py is not Lingua's" in failed.stderr
    told = run(fresh / "bin" / "lingua-doctor", PYTHONPATH=str(tmp_path))
    assert (told.returncode, told.stderr.count("\n"), told.stderr[0]) == (1, 1, "✗")
    assert f"{tmp_path}/lingua/__init__.py is not Lingua's" in told.stderr
