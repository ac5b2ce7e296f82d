"""`python -m jobs.training.judge SOURCE QUESTIONS WEIGHTS`: train the judge of what will be asked and what was.

`SOURCE` holds paragraphs with questions as SQuAD has them, a paragraph a line: `{"title", "context", "qas"}`. A token's
first label says whether its word is in an answer, its second whether its sentence holds one. `QUESTIONS` holds
questions of all kinds, one a line: `{"question", "hops"}`, the second being how many passages an answer needs. Articles
and questions are held back for a first judge (`lingua.models.encoders.Judge`), whose measures are printed; a second
one, trained on all, is written. The encoder itself learns nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.training.labels import label_answers, words_of
from jobs.training.rows import draw
from lingua.models.encoders import WINDOW, Judge, special_tokens
from lingua.models.load import Loader
from lingua.models.source import EMBEDDER, resolve
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding, Ints, SourceTokenizer

EPOCHS, STEP, RATE, DECAY = 8, 1_024, 1e-3, 1e-2
INPUTS, HIDDEN = 0.1, 0.3
"""Dropout of what the judge reads, and of its hidden layer."""
HELD, KEPT = 0.25, 0.35
"""Share of articles and questions that is held back, and of each text's tokens that the measure keeps."""
FORMS = ("{}", "Question: {}\nAnswer:")
SEVERAL, SHRINK = 1.4, 0.02
"""What all questions that need several passages weigh where all others weigh 1, and how small their weights stay."""
MOST, BESIDE = 3.0, 0.3
"""How often a word that answers several questions counts, at most; what the second label counts."""


@dataclass(frozen=True, slots=True)
class JudgedText:
    """The tokens of one text: what the judge reads of them [t, 2 d], and how many answers are in word and sentence."""

    title: str
    states: Tensor
    answers: Tensor


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question: the mean of its tokens' states in each form [forms, 2 d]; whether it needs several passages."""

    states: Tensor
    several: bool


class Encoder:
    """The small encoder, as the package reads texts with it."""

    def __init__(self) -> None:
        loader = Loader(resolve(EMBEDDER), "cpu", "float32")
        self._model, tokenizer = loader.base(), loader.tokenizer()
        self._before, self._after = special_tokens(tokenizer)
        self._tokenizer = SourceTokenizer(tokenizer)

    def states(self, text: str) -> tuple[Encoding, Tensor]:
        """The text's tokens and what the judge reads of each [t, 2 d]."""
        (read,), found = self._tokenizer.encode([text]), []
        room = WINDOW - len(self._before) - len(self._after)
        for at in range(0, len(read), room):
            ids = [*self._before, *read.ids[at : at + room].tolist(), *self._after]
            with torch.inference_mode():
                layers = self._model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
            found.append(Judge.read(layers)[0, len(self._before) : len(ids) - len(self._after)].half())
        return read, torch.cat(found) if found else torch.zeros((0, 0), dtype=torch.half)


def texts_of(lines: Iterable[str], encoder: Encoder) -> Iterator[JudgedText]:
    for row in map(json.loads, lines):
        read, states = encoder.states(row["context"])
        if len(read):
            yield JudgedText(row["title"], states, answers_at(row, read.token_starts))


def questions_of(lines: Iterable[str], encoder: Encoder) -> Iterator[JudgedQuestion]:
    """Each with and without its mark and a label, so that how a data set writes its questions teaches nothing."""
    for row in map(json.loads, lines):
        bare = row["question"].strip().rstrip("? ")
        forms = [form.format(bare + mark) for form in FORMS for mark in ("", "?")]
        means = [encoder.states(form)[1].float().mean(0) for form in forms]
        yield JudgedQuestion(torch.stack(means), row["hops"] > 1)


def answers_at(row: Mapping[str, Any], starts: Ints) -> Tensor:
    """How many questions' first answers are in the word, and in the sentence, of the tokens that begin so [t, 2]."""
    text = row["context"]
    ends = np.cumsum([len(word) for word in words_of(text)])
    edges = sentence_edges(text)
    word = np.minimum(np.searchsorted(ends, starts, side="right"), len(ends) - 1)
    sentence = np.searchsorted(edges, np.concatenate([[0], ends[:-1]]), side="right") - 1
    counts = np.zeros((2, len(ends)))
    for one in row["qas"]:
        answered = np.asarray(label_answers(text, one["answers"][:1]).scores)
        holds = np.bincount(sentence, answered, len(edges))[sentence] > 0
        counts += answered, holds
    return torch.from_numpy(counts[:, word].T.copy()).float()


def trained(texts: Sequence[JudgedText], questions: Sequence[JudgedQuestion], seed: int = 0) -> Judge:
    torch.manual_seed(seed)
    states = torch.cat([one.states for one in texts]).float()
    answers = torch.cat([one.answers for one in texts])
    mean, spread = states.mean(0), states.std(0) + 1e-3
    judge = Judge(states.shape[1] // len(Judge.LAYERS))
    steps = EPOCHS * -(-len(states) // STEP)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    labels, weights = (answers > 0).float(), answers.clamp(1, MOST)
    weights[:, 1] = BESIDE
    for _ in range(EPOCHS):
        for some in torch.split(torch.randperm(len(states)), STEP):
            hidden = F.gelu(judge.first(F.dropout((states[some] - mean) / spread, INPUTS)))
            odds = judge.last(F.dropout(hidden, HIDDEN))
            loss = F.binary_cross_entropy_with_logits(odds, labels[some], weights[some])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    read_raw(judge.first, mean, spread)
    fit_hops(judge.hops, questions)
    return judge.eval().requires_grad_(False)


def fit_hops(layer: nn.Linear, questions: Sequence[JudgedQuestion]) -> None:
    """Logistic regression of whether a question needs several passages, on the means of its tokens' states."""
    states = torch.cat([one.states for one in questions])
    several = torch.tensor([one.several for one in questions for _ in one.states])
    mean, spread = states.mean(0), states.std(0) + 1e-3
    share = several.float().mean().clamp(0.01, 0.99)
    balance = torch.where(several, SEVERAL / share, 1 / (1 - share)) / (1 + SEVERAL)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=300)
    inputs = (states - mean) / spread

    def loss() -> Tensor:
        optimizer.zero_grad()
        fault = F.binary_cross_entropy_with_logits(layer(inputs)[:, 0], several.float(), balance)
        total = fault + SHRINK * layer.weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    read_raw(layer, mean, spread)


@torch.no_grad()
def read_raw(layer: nn.Linear, mean: Tensor, spread: Tensor) -> None:
    """Make a layer that was trained on standardized states read states as they are."""
    layer.weight.div_(spread)
    layer.bias.sub_(layer.weight @ mean)


def answers_first(judge: Judge, texts: Sequence[JudgedText]) -> float:
    """Share of the answers' tokens among the `KEPT` tokens of each text that the judge ranks first."""
    kept = total = 0.0
    for one in texts:
        odds = judge.last(F.gelu(judge.first(one.states.float())))[:, 0]
        best = odds.argsort(descending=True)[: int(KEPT * len(odds))]
        kept, total = kept + float(one.answers[best, 0].sum()), total + float(one.answers[:, 0].sum())
    return kept / total if total else 0.0


def told_apart(judge: Judge, questions: Sequence[JudgedQuestion]) -> float:
    """How often a question that needs several passages gets higher odds than one that does not."""
    several, single = (
        [float(judge.hops(one.states).mean()) for one in questions if one.several is which] for which in (True, False)
    )
    pairs = [one > other for one in several for other in single]
    return sum(pairs) / max(1, len(pairs))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.training.judge", description=__doc__)
    parser.add_argument("source", type=Path, help="paragraphs with questions, as JSON Lines")
    parser.add_argument("questions", type=Path, help="questions and the passages that each needs, as JSON Lines")
    parser.add_argument("weights", type=Path, help="the file to write: judge.safetensors")
    given = parser.parse_args(arguments)
    encoder = Encoder()
    with given.source.open(encoding="utf-8") as lines, given.questions.open(encoding="utf-8") as others:
        texts, questions = [*texts_of(lines, encoder)], [*questions_of(others, encoder)]
    titles = sorted({one.title for one in texts}, key=lambda title: draw(0, title))
    held = set(titles[: int(HELD * len(titles))])
    known, new = ([one for one in texts if (one.title in held) is wanted] for wanted in (False, True))
    every = round(1 / HELD)
    first = trained(known, [one for number, one in enumerate(questions) if number % every])
    answers, apart = answers_first(first, new), told_apart(first, questions[::every])
    weights = trained(texts, questions).state_dict()
    save_file({name: one.half().contiguous() for name, one in weights.items()}, given.weights)
    print(f"{len(texts):,} texts; {answers:.3f} of the answers in {KEPT} of {len(held)} articles' tokens (held back)")
    print(f"{len(questions):,} questions; {apart:.3f} of the pairs told apart (held back)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
