"""The judge learns which states belong to answers, and is written as the package reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jobs.training import judge as training
from jobs.training.judge import JudgedQuestion, JudgedText, answers_at, answers_first, main, told_apart, trained
from lingua.models.encoders import Judge
from tests.lingua.models.encoders import LINES, save_encoder

TEXT = "Anna sells bread. Her brother drives the van."
ROW = {
    "title": "Lisbon",
    "context": TEXT,
    "qas": [
        {"answers": [{"text": "her brother", "answer_start": 18}, {"text": "ignored", "answer_start": 0}]},
        {"answers": [{"text": "Her brother", "answer_start": 18}]},
        {"answers": []},
    ],
}


def test_a_token_is_labelled_by_its_word_and_its_sentence() -> None:
    starts = np.asarray([TEXT.index(word) for word in ("Anna", "bread", "Her", "rother", "van")])
    assert answers_at(ROW, starts).T.tolist() == [[0, 0, 2, 2, 0], [0, 0, 2, 2, 2]]


def test_it_finds_the_answers_of_texts_that_it_never_saw() -> None:
    def text(seed: int) -> JudgedText:
        states = torch.randn((200, 8), generator=torch.Generator().manual_seed(seed))
        answer = (states[:, 2] > 1).float()
        return JudgedText(str(seed), states.half() * 3 + 1, torch.stack([answer, answer], 1))

    def question(seed: int) -> JudgedQuestion:
        states = torch.randn((4, 8), generator=torch.Generator().manual_seed(seed)) / 4
        states[:, 3] += seed % 3
        return JudgedQuestion(states, seed % 3 == 2)

    own = trained([text(seed) for seed in range(200)], [question(seed) for seed in range(60)])
    assert answers_first(own, [text(99)]) > 0.9
    assert told_apart(own, [question(seed) for seed in range(60, 90)]) > 0.99


def test_what_is_written_is_what_the_package_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = save_encoder(tmp_path / "encoder", "bert", LINES, num_hidden_layers=5)
    monkeypatch.setattr(training, "EMBEDDER", str(encoder))
    rows, questions, weights = (tmp_path / name for name in ("rows.jsonl", "questions.jsonl", "judge.safetensors"))
    asked = [{"question": "Who sells bread?", "hops": 1}, {"question": "Whose brother drives?", "hops": 2}] * 3
    questions.write_text("\n".join(map(json.dumps, asked)))
    rows.write_text("\n".join(json.dumps({**ROW, "title": f"article {number}"}) for number in range(4)))
    assert main([str(rows), str(questions), str(weights)]) == 0
    said = capsys.readouterr().out
    assert "4 texts; " in said
    assert "6 questions; " in said
    made, own = load_file(weights), Judge(size=32).state_dict()
    assert {name: one.shape for name, one in made.items()} == {name: one.shape for name, one in own.items()}
