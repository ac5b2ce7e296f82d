"""The judge learns which states belong to answers, and is written as the package reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jobs.training import judge as training
from jobs.training.judge import (
    Encoder,
    JudgedQuestion,
    JudgedText,
    Search,
    answers_at,
    answers_first,
    fit_pairs,
    found_first,
    main,
    searches_of,
    told_apart,
    trained,
)
from lingua.models.encoders import Judge
from lingua.text.tokens import Encoding
from tests.lingua.models.encoders import LINES, save_encoder

TEXT = "Anna sells bread. Her brother drives the van."
ANSWERS = [{"text": "her brother", "answer_start": 18}, {"text": "ignored", "answer_start": 0}]
ROW = {
    "title": "Lisbon",
    "context": TEXT,
    "qas": [
        {"question": "Who drives?", "answers": ANSWERS},
        {"question": "Who has a van?", "answers": [{"text": "Her brother", "answer_start": 18}]},
        {"question": "Why?", "answers": []},
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

    encoder = Known({"asked": torch.zeros(3, 8), "told": torch.zeros(2, 8)})
    search = Search("", ("asked", "asked"), ("told",), torch.tensor([0, 1]), torch.zeros(2), [0])
    own = trained([text(seed) for seed in range(200)], [question(seed) for seed in range(60)], [search], encoder)
    assert answers_first(own, [text(99)]) > 0.9
    assert told_apart(own, [question(seed) for seed in range(60, 90)]) > 0.99


class Known(Encoder):
    """Knows states of texts, and reads none."""

    def __init__(self, states: dict[str, torch.Tensor]) -> None:
        self._states = states

    def states(self, text: str) -> tuple[Encoding, torch.Tensor]:
        return Encoding(text, np.arange(0), np.arange(0), np.arange(0)), self._states[text].half()


def test_it_learns_which_sentences_tell_what_is_asked() -> None:
    """A question is about one of four things; the answer is the sentence that has the thing that goes with it."""
    random = torch.Generator().manual_seed(0)
    states, searches = {}, []
    for number in range(160):
        wanted, order = number % 4, torch.randperm(4, generator=random)
        states[f"q{number}"] = torch.randn((3, 12), generator=random) / 4 + torch.eye(12)[wanted] * 3
        states[f"t{number}"] = torch.randn((8, 12), generator=random) / 4
        states[f"t{number}"][::2] += torch.eye(12)[4 + order] * 3
        holds = [int((order == wanted).nonzero())]
        sentence, first = torch.arange(8) // 2, torch.zeros(4)
        searches.append(Search("", (f"q{number}",) * 2, (f"t{number}",), sentence, first, holds))
    every = torch.cat([*states.values()])
    judge, encoder = Judge(6), Known(states)
    fit_pairs(judge, searches[:120] * 20, encoder, every.mean(0), every.std(0))
    before, after = found_first(judge, searches[120:], encoder)
    assert before < 0.5
    assert after > 0.9


def test_a_question_is_looked_for_among_paragraphs_of_its_article_and_in_the_texts_that_it_comes_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "EMBEDDER", str(save_encoder(tmp_path, "bert", LINES, num_hidden_layers=5)))
    other = "A train left. It was late."
    row = {"title": "Lisbon", "context": TEXT, "qas": [{"question": "Who drives the van?", "answers": ANSWERS[:1]}]}
    rows = [row, {"title": "Lisbon", "context": other, "qas": []}, {"title": "Rome", "context": TEXT * 2, "qas": []}]
    asked = [
        {"question": "When?", "hops": 1},
        {"question": "What was late?", "context": [other, TEXT], "answers": ["it", "her"]},
        {"question": "What was early?", "context": [other], "answers": ["rain", "late l"]},
    ]
    first, second = searches_of(map(json.dumps, rows), map(json.dumps, asked), Encoder())
    assert (first.title, first.texts, first.holds) == ("Lisbon", (TEXT, other), [1])
    assert first.forms == ("Who drives the van?", "Question: Who drives the van?\nAnswer:")
    assert (len(first.first), first.sentence.unique().tolist()) == (4, [0, 1, 2, 3])
    assert (second.texts, second.holds) == ((other, TEXT), [1, 3])


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
    assert "8 searches; " in said
    assert "6 questions; " in said
    made, own = load_file(weights), Judge(size=32).state_dict()
    assert {name: one.shape for name, one in made.items()} == {name: one.shape for name, one in own.items()}
