"""`python -m jobs.training.judge SOURCE QUESTIONS WEIGHTS`: train the judge of what will be asked and what was.

`SOURCE` holds paragraphs with questions as SQuAD has them, a paragraph a line: `{"title", "context", "qas"}`. A token's
first label says whether its word is in an answer, its second whether its sentence holds one. `QUESTIONS` holds
questions of all kinds, one a line: with `"hops"` they teach how many passages an answer needs; with `"context"`, a list
of texts, and `"answers"`, which sentences tell what a question asks, as each paragraph's questions do among others of
its article. Articles and questions are held back for a first judge (`lingua.models.encoders.Judge`), whose measures are
printed; a second one, trained on all, is written. The encoder itself learns nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import regex
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.training.distillation import auc
from jobs.training.labels import label_answers, words_of
from jobs.training.rows import draw
from lingua.engine.engine import Engine
from lingua.engine.score import Program, ScoreCache
from lingua.methods.focus import NEAR, SHARED, first_look, focus, token_answers
from lingua.models.encoders import Judge, StateScorer
from lingua.models.load import Loader
from lingua.models.source import EMBEDDER, PAIRED, resolve
from lingua.prompt import Ints
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding, SourceTokenizer
from lingua.text.words import slices

T = TypeVar("T")
EPOCHS, STEP, RATE, DECAY = 8, 1_024, 1e-3, 1e-2
INPUTS, HIDDEN = 0.1, 0.3
"""Dropout of what the judge reads, and of its hidden layer."""
HELD, KEPT = 0.25, 0.35
"""Share of articles and questions that is held back, and of each text's tokens that the measure keeps."""
FORMS = ("{}", "Question: {}\nAnswer:")
REMEMBERED = 1 << 29
"""Numbers of what the encoder said that are remembered."""
AMONG = 5
"""Texts among which an answer is looked for."""
SEARCHES, ROUNDS = 16, 3
"""Questions a step of that, and how often each is asked."""
COMPONENTS, SHORTEN = 256, 1.0
"""Principal components of the states that are read for it, and decay of its weights."""
LABELLED, BLURRED = 0.7, 0.2
"""How often a question is shown behind its label; dropout of what is read."""
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


@dataclass(frozen=True, slots=True)
class Search:
    """A question and the sentences among which its answer stands."""

    title: str
    forms: tuple[str, ...]  # the question, bare and behind its label
    texts: tuple[str, ...]  # where it is looked for
    sentence: Tensor  # of each of their tokens [t], over all texts
    first: Tensor  # what is known of each sentence without the judge [s], as a logarithm
    holds: list[int]  # the sentences that hold the answer


class Encoder:
    """The small encoder, as the package reads texts with it; what it read it remembers."""

    def __init__(self) -> None:
        loader = Loader(resolve(EMBEDDER), "cpu", "float32")
        base, tokenizer = loader.base(), loader.tokenizer()
        plain, judged = (StateScorer(lambda: base, tokenizer, base.device, judge) for judge in (None, Judge.read))
        self.tokenizer, self.window = SourceTokenizer(tokenizer), plain.probe_tokens
        self._plain, self._judged = (Engine[Any](one, cache=ScoreCache(REMEMBERED)) for one in (plain, judged))

    def states(self, text: str) -> tuple[Encoding, Tensor]:
        """The text's tokens and what the judge reads of each [t, 2 d]."""
        (read,) = self.tokenizer.encode([text])
        (answer,) = _only(self._judged, token_answers([read], self.window))
        return read, torch.from_numpy(answer[:, answer.shape[1] // 3 :]).half()

    def answer(self, program: Program[T]) -> T:
        """What the program finds that asks for states of tokens."""
        return _only(self._plain, program)


def _only(engine: Engine[Any], program: Program[T]) -> T:
    (found,) = engine.run([program])
    return cast(T, found)


def texts_of(lines: Iterable[str], encoder: Encoder) -> Iterator[JudgedText]:
    for row in map(json.loads, lines):
        read, states = encoder.states(row["context"])
        if len(read):
            yield JudgedText(row["title"], states, answers_at(row, read.token_starts))


def questions_of(lines: Iterable[str], encoder: Encoder) -> Iterator[JudgedQuestion]:
    """Each with and without its mark and a label, so that how a data set writes its questions teaches nothing."""
    for row in (row for row in map(json.loads, lines) if "hops" in row):
        bare = row["question"].strip().rstrip("? ")
        forms = [form.format(bare + mark) for form in FORMS for mark in ("", "?")]
        means = [encoder.states(form)[1].float().mean(0) for form in forms]
        yield JudgedQuestion(torch.stack(means), row["hops"] > 1)


def searches_of(texts: Iterable[str], questions: Iterable[str], encoder: Encoder) -> Iterator[Search]:
    """Of paragraphs each question, among others of its article; of questions those that come with texts."""
    rows, articles = [*map(json.loads, texts)], defaultdict(list)
    for row in rows:
        articles[row["title"]].append(row["context"])
    for row in rows:
        text = row["context"]
        for question, answers in ((asked["question"], asked["answers"]) for asked in row["qas"] if asked["answers"]):
            others = [other for other in articles[row["title"]] if other != text]
            others.sort(key=lambda other: draw(0, question, other))
            at = int(np.searchsorted(sentence_edges(text), answers[0]["answer_start"], side="right")) - 1
            yield _search(row["title"], question, [text, *others[: AMONG - 1]], encoder, [at])
    for row in (row for row in map(json.loads, questions) if "context" in row):
        answer = regex.compile(rf"\b(?:{'|'.join(map(regex.escape, row['answers']))})\b", regex.IGNORECASE)
        sentences = [sentence for text in row["context"] for sentence in slices(text, sentence_edges(text))]
        if holds := [at for at, sentence in enumerate(sentences) if answer.search(sentence)]:
            yield _search("", row["question"], row["context"], encoder, holds)


def _search(title: str, question: str, texts: Sequence[str], encoder: Encoder, holds: list[int]) -> Search:
    bare = question.strip().rstrip("? ") + "?"
    edges = [sentence_edges(text) for text in texts]
    strings = [slices(text, begins) for text, begins in zip(texts, edges, strict=True)]
    near = encoder.answer(first_look(bare, strings, encoder.tokenizer, encoder.window)).near
    first = [SHARED * shared + NEAR * like for shared, like in zip(focus(bare, strings), near, strict=True)]
    starts = np.cumsum([0, *map(len, edges)])[:-1]
    places = [
        start + np.maximum(0, encoder.states(text)[0].within(begins))
        for start, begins, text in zip(starts, edges, texts, strict=True)
    ]
    sentence, before = (torch.from_numpy(np.concatenate(by_text)) for by_text in (places, first))
    return Search(title, tuple(form.format(bare) for form in FORMS), tuple(texts), sentence, before, holds)


def answers_at(row: Mapping[str, Any], starts: Ints) -> Tensor:
    """How many questions' first answers are in the word, and in the sentence, of the tokens that begin so [t, 2]."""
    text = row["context"]
    ends = np.cumsum([len(word) for word in words_of(text)])
    edges = sentence_edges(text)
    word = np.minimum(np.searchsorted(ends, starts, side="right"), len(ends) - 1)
    sentence = np.searchsorted(edges, np.concatenate([[0], ends[:-1]]), side="right") - 1
    counts = np.zeros((2, len(ends)))
    for asked in row["qas"]:
        answered = np.asarray(label_answers(text, asked["answers"][:1]).scores)
        holds = np.bincount(sentence, answered, len(edges))[sentence] > 0
        counts += answered, holds
    return torch.from_numpy(counts[:, word].T.copy()).float()


def trained(
    texts: Sequence[JudgedText], questions: Sequence[JudgedQuestion], searches: Sequence[Search], encoder: Encoder
) -> Judge:
    torch.manual_seed(0)
    states = torch.cat([text.states for text in texts]).float()
    answers = torch.cat([text.answers for text in texts])
    mean, spread = states.mean(0), states.std(0) + 1e-3
    judge = Judge(states.shape[1] // len(Judge.LAYERS))
    labels, weights = (answers > 0).float(), answers.clamp(1, MOST)
    weights[:, 1] = BESIDE
    for some in steps(judge.parameters(), len(states), STEP, EPOCHS, DECAY):
        hidden = F.gelu(judge.first(F.dropout((states[some] - mean) / spread, INPUTS)))
        odds = judge.last(F.dropout(hidden, HIDDEN))
        loss = F.binary_cross_entropy_with_logits(odds, labels[some], weights[some])
        loss.backward()  # type: ignore[no-untyped-call]
    read_raw(judge.first, mean, spread)
    fit_hops(judge.hops, questions)
    fit_pairs(judge, searches, encoder, mean, spread)
    return judge.eval().requires_grad_(False)


def steps(learned: Iterable[nn.Parameter], items: int, size: int, rounds: int, decay: float) -> Iterator[Tensor]:
    """The numbers of the items of each step, of all in every round; whoever takes them leaves gradients behind."""
    optimizer = torch.optim.AdamW(learned, lr=RATE, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=rounds * -(-items // size))
    for _ in range(rounds):
        for some in torch.split(torch.randperm(items), size):
            optimizer.zero_grad()
            yield some
            optimizer.step()
            schedule.step()


def fit_pairs(judge: Judge, searches: Sequence[Search], encoder: Encoder, mean: Tensor, spread: Tensor) -> None:
    """Have what sentences tell and questions ask add to what is known of each sentence, so that the answer's is first.

    The layers learn on the states' principal components, the largest first, and read states as they are afterwards.
    """
    known = {text for search in searches for text in (*search.texts, *search.forms)}
    states = {text: (encoder.states(text)[1].float() - mean) / spread for text in known}
    together = torch.cat([*states.values()])
    main: Tensor = torch.linalg.eigh(together.T @ together / len(together)).eigenvectors.flip(1)[:, :COMPONENTS]
    asks, tells = _pairs({text: read @ main for text, read in states.items()}, searches)
    for own, learned in ((judge.asks, asks), (judge.tells, tells)):
        own.weight.data, own.bias.data = learned.weight.data @ main.T, learned.bias.data
        read_raw(own, mean, spread)


def _pairs(states: Mapping[str, Tensor], searches: Sequence[Search]) -> tuple[nn.Linear, nn.Linear]:
    """The layers that read what questions ask and what sentences tell, learned on the `states` of all their texts."""
    size = next(iter(states.values())).shape[1]
    asks, tells = (nn.Linear(size, PAIRED) for _ in range(2))
    nn.init.normal_(asks.weight, std=0.01)
    nn.init.zeros_(asks.bias)
    chance, learned = random.Random(0), [*asks.parameters(), *tells.parameters()]
    for some in steps(learned, len(searches), SEARCHES, ROUNDS, SHORTEN):
        for search in (searches[at] for at in some):
            bare, labelled = search.forms
            question = F.dropout(states[labelled if chance.random() < LABELLED else bare], BLURRED)
            said = F.dropout(torch.cat([states[text] for text in search.texts]), BLURRED)
            found = search.first + _told(asks(question), tells(said), search)
            loss = found.logsumexp(0) - found[search.holds].logsumexp(0)
            (loss / len(some)).backward()
    return asks, tells


def _told(asks: Tensor, tells: Tensor, search: Search) -> Tensor:
    """As `lingua.methods.focus.told`, of all texts."""
    pairs = tells @ asks.T
    place = search.sentence[:, None].expand_as(pairs)
    best = pairs.new_zeros((len(search.first), len(asks))).scatter_reduce(0, place, pairs, "amax", include_self=False)
    return best.mean(1)


def fit_hops(layer: nn.Linear, questions: Sequence[JudgedQuestion]) -> None:
    """Logistic regression of whether a question needs several passages, on the means of its tokens' states."""
    states = torch.cat([question.states for question in questions])
    several = torch.tensor([question.several for question in questions for _ in question.states])
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
    for text in texts:
        odds = judge.last(F.gelu(judge.first(text.states.float())))[:, 0]
        best = odds.argsort(descending=True)[: int(KEPT * len(odds))]
        kept, total = kept + float(text.answers[best, 0].sum()), total + float(text.answers[:, 0].sum())
    return kept / total if total else 0.0


def told_apart(judge: Judge, questions: Sequence[JudgedQuestion]) -> float:
    """How often a question that needs several passages gets higher odds than one that does not."""
    odds = np.array([float(judge.hops(question.states).mean()) for question in questions], np.float32)
    return auc(odds, np.array([question.several for question in questions]))


def found_first(judge: Judge, searches: Sequence[Search], encoder: Encoder) -> tuple[float, float]:
    """How often the sentence that answers is the first one of all, without the judge and with it."""
    before = after = 0
    for search in searches:
        asks = judge.asks(encoder.states(search.forms[1])[1].float())
        tells = judge.tells(torch.cat([encoder.states(text)[1] for text in search.texts]).float())
        before += int(search.first.argmax()) in search.holds
        after += int((search.first + _told(asks, tells, search)).argmax()) in search.holds
    return before / max(1, len(searches)), after / max(1, len(searches))


def measured(
    texts: Sequence[JudgedText], questions: Sequence[JudgedQuestion], searches: Sequence[Search], encoder: Encoder
) -> list[str]:
    """Train a judge on some of the articles and questions; what it finds in those held back, in words."""
    titles = sorted({text.title for text in texts}, key=lambda title: draw(0, title))
    held, every = set(titles[: int(HELD * len(titles))]), round(1 / HELD)
    judge = trained(
        [text for text in texts if text.title not in held],
        [question for number, question in enumerate(questions) if number % every],
        [search for search in searches if search.title not in held],
        encoder,
    )
    answers = answers_first(judge, [text for text in texts if text.title in held])
    before, after = found_first(judge, [search for search in searches if search.title in held], encoder)
    apart = told_apart(judge, questions[::every])
    return [
        f"{len(texts):,} texts; {answers:.3f} of the answers in {KEPT} of {len(held)} articles' tokens (held back)",
        f"{len(searches):,} searches; {before:.3f} of the answers' sentences first, {after:.3f} with it (held back)",
        f"{len(questions):,} questions; {apart:.3f} of the pairs told apart (held back)",
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.training.judge", description=__doc__)
    parser.add_argument("source", type=Path, help="paragraphs with questions, as JSON Lines")
    parser.add_argument("questions", type=Path, help="questions and the passages that each needs, as JSON Lines")
    parser.add_argument("weights", type=Path, help="the file to write: judge.safetensors")
    given, encoder = parser.parse_args(arguments), Encoder()
    lines, others = (file.read_text("utf-8").strip().split("\n") for file in (given.source, given.questions))
    texts, questions = [*texts_of(lines, encoder)], [*questions_of(others, encoder)]
    searches = [*searches_of(lines, others, encoder)]
    print(*measured(texts, questions, searches, encoder), sep="\n")
    weights = trained(texts, questions, searches, encoder).state_dict()
    save_file({name: weight.half().contiguous() for name, weight in weights.items()}, given.weights)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
