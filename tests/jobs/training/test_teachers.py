"""Every teacher gives one score for each word: compressors, endpoints, functions, and what rows hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.training.labels import (
    Passage,
    find_function,
    from_function,
    from_writer,
    labels_of_row,
    load_teacher,
    teacher_digest,
)
from jobs.training.settings import DistillConfig
from lingua.compressor import Compressor
from lingua.errors import ConfigError, ModelError
from lingua.prompt import Prompt
from tests import models
from tests.texts import NASTY, PROSE


def config(folder: Path, **settings: str) -> DistillConfig:
    return DistillConfig(input="rows.jsonl", output=str(folder / "out"), **settings)


def test_a_compressor_labels_every_word_with_its_score(tmp_path: Path) -> None:
    model = str(models.save(tmp_path / "model"))
    given = config(tmp_path, teacher_model=model)
    texts = [PROSE, *(text for text in NASTY.values() if text)]
    found = list(load_teacher(given, "cpu")([Passage(f"row {text[:3]}", text) for text in texts]))
    assert [record.text for record in found] == texts
    (expected,) = Compressor(model, given.compression, device="cpu").word_labels([Prompt(context=[PROSE])])
    assert [(one.text, one.score) for one in expected[0]] == list(zip(found[0].words, found[0].scores, strict=True))
    assert teacher_digest(given) != ""


def test_a_compressor_takes_its_settings_from_the_command_line(tmp_path: Path) -> None:
    given = config(tmp_path, teacher_setting="aggregate=mean")
    settings = given.compression.flat()
    assert (settings["method"], settings["unit"], settings["aggregate"]) == ("selective", "word", "mean")


class LeavesOut:
    """A model that leaves every second word out, as it is told in the prompt."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        self.prompts += prompts
        return [" ".join(prompt.split("Text:\n")[1].split("\n\nShort")[0].split()[::2]) for prompt in prompts]


def test_an_endpoint_is_shown_the_instruction_and_its_reply_is_found_in_the_text() -> None:
    model = LeavesOut()
    (record,) = from_writer(model, 100)([Passage("row 0", "one two three four five")])
    assert record.scores == (1, 0, 1, 0, 1)
    assert (record.origin, record.variation, record.gap) == ("row 0", 0, 0)
    assert "Leave out only words" in model.prompts[0]


def test_a_function_is_a_teacher() -> None:
    teach = from_function(lambda texts: [[len(word) / 10 for word in text.split()] for text in texts])
    (record,) = teach([Passage("row 0", "one three")])
    assert record.scores == (0.3, 0.5)
    assert record.words == ("one", " three")


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        ([[1.0]], "row 0: the teacher gave 1 scores for 2 words"),
        ([[1.0, float("nan")]], "row 0: the teacher gave a score that is no finite number"),
        ([], "the teacher gave scores for 0 texts, not 1"),
        ([1.0], "the teacher gave no list of numbers for each text"),
        (None, "the teacher gave no list of numbers for each text"),
    ],
)
def test_a_function_that_gives_other_than_one_score_a_word_is_refused(scores: Any, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        list(from_function(lambda _: scores)([Passage("row 0", "one three")]))


def test_rows_that_hold_compressions_or_labels_need_no_model(tmp_path: Path) -> None:
    given = labels_of_row({"words": ["one", " two"], "labels": [1, 0]})
    (pair,) = load_teacher(config(tmp_path, teacher="pairs"), "cpu")([Passage("row 0", "one two", "two")])
    (labels,) = load_teacher(config(tmp_path, teacher="labels"), "cpu")([Passage("row 0", "one two", given)])
    assert (pair.scores, labels.scores) == ((0, 1), (1, 0))


@pytest.mark.parametrize("name", ["no.such.module:f", "tests.jobs.training.runs:no_such_function"])
def test_a_function_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"teacher = {name}"):
        find_function(name)
