"""`python -m jobs.training.judge SOURCE WEIGHTS`: train the judge of what will be asked (`lingua.models.encoders`).

`SOURCE` holds paragraphs with questions as SQuAD has them, a paragraph a line: `{"title", "context", "qas"}`. A token's
first label says whether its word is in an answer, its second whether its sentence holds one. Articles are held back for
a first judge, whose measure is printed; a second one, trained on all, is written. The encoder itself learns nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from jobs.training.labels import label_answers, words_of
from jobs.training.rows import draw
from lingua.models.encoders import WINDOW, Judge, special_tokens
from lingua.models.load import Loader
from lingua.models.source import EMBEDDER, resolve
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Ints, SourceTokenizer

EPOCHS, STEP, RATE, DECAY = 8, 1_024, 1e-3, 1e-2
INPUTS, HIDDEN = 0.1, 0.3
"""Dropout of what the judge reads, and of its hidden layer."""
HELD, KEPT = 0.25, 0.35
"""Share of the articles that is held back, and of each text's tokens that the measure keeps."""
MOST, BESIDE = 3.0, 0.3
"""How often a word that answers several questions counts, at most; what the second label counts."""


@dataclass(frozen=True, slots=True)
class JudgedText:
    """The tokens of one text: what the judge reads of them [t, 2 d], and how many answers are in word and sentence."""

    title: str
    states: Tensor
    answers: Tensor


def texts_of(lines: Iterable[str]) -> list[JudgedText]:
    loader = Loader(resolve(EMBEDDER), "cpu", "float32")
    model, tokenizer = loader.base(), loader.tokenizer()
    before, after = special_tokens(tokenizer)
    room = WINDOW - len(before) - len(after)
    found = []
    for row in map(json.loads, lines):
        (read,) = SourceTokenizer(tokenizer).encode([row["context"]])
        states = []
        for at in range(0, len(read), room):
            ids = [*before, *read.ids[at : at + room].tolist(), *after]
            with torch.inference_mode():
                layers = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
            states.append(Judge.read(layers)[0, len(before) : len(ids) - len(after)].half())
        if states:
            found.append(JudgedText(row["title"], torch.cat(states), answers_at(row, read.token_starts)))
    return found


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


def trained(texts: Sequence[JudgedText], seed: int = 0) -> Judge:
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
    with torch.no_grad():  # the judge reads states as they are
        judge.first.weight.div_(spread)
        judge.first.bias.sub_(judge.first.weight @ mean)
    return judge.eval().requires_grad_(False)


def answers_first(judge: Judge, texts: Sequence[JudgedText]) -> float:
    """Share of the answers' tokens among the `KEPT` tokens of each text that the judge ranks first."""
    kept = total = 0.0
    for one in texts:
        odds = judge.last(F.gelu(judge.first(one.states.float())))[:, 0]
        best = odds.argsort(descending=True)[: int(KEPT * len(odds))]
        kept, total = kept + float(one.answers[best, 0].sum()), total + float(one.answers[:, 0].sum())
    return kept / total if total else 0.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.training.judge", description=__doc__)
    parser.add_argument("source", type=Path, help="paragraphs with questions, as JSON Lines")
    parser.add_argument("weights", type=Path, help="the file to write: judge.safetensors")
    given = parser.parse_args(arguments)
    with given.source.open(encoding="utf-8") as lines:
        texts = texts_of(lines)
    titles = sorted({one.title for one in texts}, key=lambda title: draw(0, title))
    held = set(titles[: int(HELD * len(titles))])
    known, new = ([one for one in texts if (one.title in held) is wanted] for wanted in (False, True))
    share = answers_first(trained(known), new)
    save_file({name: one.half().contiguous() for name, one in trained(texts).state_dict().items()}, given.weights)
    print(f"{len(texts):,} texts; {share:.3f} of the answers in {KEPT} of {len(held)} articles' tokens (held back)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
