"""The page about evaluation says what is so: its commands are understood, its names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from jobs.endpoint import EndpointSettings
from jobs.evaluation.forms.raw import RowSource
from jobs.evaluation.metrics import METRICS
from jobs.evaluation.settings import PRESETS, EvalConfig

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
EVALUATIONS = [command[3:] for command in COMMANDS if command[:3] == ["python", "-m", "jobs.evaluate"]]


@pytest.mark.parametrize("arguments", EVALUATIONS, ids=" ".join)
def test_every_evaluation_of_the_page_can_start(arguments: list[str]) -> None:
    config = EvalConfig.load(arguments)
    assert config.candidates
    for target in config.targets:
        if target.remote:
            EndpointSettings(**target.settings)
    for source in config.data.values():
        RowSource.parse(source)


def test_the_page_has_commands_for_the_other_tools() -> None:
    started = {command[2] for command in COMMANDS if command[:2] == ["python", "-m"]}
    assert started == {"jobs.evaluate", "jobs.evaluation.forms", "jobs.distill"}
    assert len(EVALUATIONS) >= 5


def test_settings_of_endpoints_are_named_as_they_are() -> None:
    table = PAGE[PAGE.index("| setting of an endpoint") : PAGE.index("`--ask nll`")]
    named = {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")
    }
    assert named == EndpointSettings.model_fields.keys() - {"storage_options"}


def test_every_preset_is_on_the_page() -> None:
    table = PAGE[PAGE.index("| preset |") : PAGE.index("Tokens are GPT-3.5's")]
    named = set[str]()
    for row in table.splitlines()[2:]:
        names = re.findall(r"`([\w-]+)`", row.split("|")[1]) if row else []
        stem = names[0].rpartition("-")[0] if names else ""
        named |= {stem + name if name.startswith("-") else name for name in names}
    assert named == PRESETS.keys()


def test_every_metric_is_on_the_page() -> None:
    assert {name for name in METRICS if f"`{name}`" not in PAGE} == {"edit_similarity"}
