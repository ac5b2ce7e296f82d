"""Distillation (LLMLingua-2, arXiv 2403.12968): an encoder learns from a teacher which words of a text to keep.

`label`: the teacher labels the input, group by group. `train`: the encoder learns the probability of each word, is
measured and written. Each can be killed and started again.

Texts are read in the windows in which `method: llmlingua2` will read them later. A word's target is learnt by all its
tokens, since its keep probability will be the mean of theirs. Surprisal has no upper bound, so the encoder learns its
rank among all words of the training texts, which lies in [0, 1]. Unlike in the paper, targets may be fractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForTokenClassification
from transformers.utils import logging

from jobs.training.labels import Labelled, Passage, best, labels_of_row, load_teacher, teacher_digest
from jobs.training.rows import draw, read_passages
from jobs.training.settings import FROM_ROWS, DistillConfig
from jobs.training.surprisal import NO_LABEL
from jobs.training.trainer import Lesson, card, learn, public_name, publish, save
from jobs.training.workers import Groups, Rank, folder_of
from lingua.budget.draft import Drafter, PromptPart
from lingua.config import CompressionConfig
from lingua.engine.score import BatchRow, Context, Scorer
from lingua.errors import ConfigError
from lingua.methods.llmlingua2 import windows
from lingua.models.encoders import EncoderScorer, keep_label, positions, special_tokens
from lingua.models.load import Loader
from lingua.models.source import resolve
from lingua.prompt import Bools, Floats
from lingua.text.tokens import SourceTokenizer

LABELS = "labels"
NAMES = {0: "drop", 1: "keep"}
LONG = 1 << 30
Targets = Callable[[Floats], Floats]


# ---- labels


def label(config: DistillConfig, rank: Rank) -> None:
    """Label this worker's share of the groups that are missing."""
    folder = folder_of(config)
    chunker = Chunker(SourceTokenizer(Loader(resolve(config.model)).tokenizer()), config.chunk_tokens)
    whole = config.teacher in FROM_ROWS
    passages = [
        passage if whole else Passage(passage.origin, chunk)
        for passage in read_passages(config, folder.storage)
        for chunk in ([passage.text] if whole else chunker.chunks(passage.text))
    ]

    def start() -> Callable[[Sequence[Passage]], list[str]]:
        teacher = load_teacher(config, rank.device)
        return lambda some: [labelled.to_line() for labelled in teacher(some)]

    Groups(folder, LABELS).make(passages, config.group, rank, start)


class Chunker:
    """Cuts texts into chunks of at most `size` tokens, which end where a sentence does."""

    def __init__(self, tokenizer: SourceTokenizer, size: int) -> None:
        self._drafter = Drafter(tokenizer, tokenizer, CompressionConfig(method="llmlingua2"), LONG, None)
        self._tokenizer, self._size = tokenizer, size

    def part(self, text: str) -> PromptPart:
        """The text in the tokens and words in which it will be compressed."""
        return self._drafter.part(self._tokenizer.encode([text])[0], "word")

    def ranges(self, part: PromptPart) -> list[tuple[int, int]]:
        """The token ranges [begin, end) of the chunks; they tile the text."""
        return list(windows(part, self._size))

    def chunks(self, text: str) -> Iterator[str]:
        """The chunks that hold more than white space; white space between two belongs to the later one."""
        part = self.part(text)
        begins = [int(part.encoding.token_starts[begin]) for begin, _ in self.ranges(part)]
        edges = [*dict.fromkeys([0, *begins]), len(text)]
        yield from (text[start:end] for start, end in pairwise(edges) if text[start:end].strip())


# ---- what is learnt


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """ids [t] of the text's tokens without special tokens, the word [t] of each, and the target [t] of that word."""

    ids: list[int]
    word: npt.NDArray[np.int64]
    target: Floats


def split(records: Sequence[Labelled], share: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """What to train on and what to measure with: about `share` of the rows with all their chunks, drawn by the seed.

    Raises ConfigError when nothing is left to train on.
    """
    origins = sorted({record.origin for record in records}, key=lambda origin: draw(seed, origin))
    held = set(origins[: max(1, round(share * len(origins)))])
    if len(held) == len(origins):
        raise ConfigError(f"held_out = {share}: of {len(origins)} usable rows none is left to train on; give more rows")
    return [one for one in records if one.origin not in held], [one for one in records if one.origin in held]


def targets_of(learnt: str, records: Sequence[Labelled], rate: float) -> Targets:
    """From scores to targets in [0, 1], as the scores of all `records` are spread. ConfigError where they are none."""
    scores = np.sort(np.concatenate([np.asarray(record.scores, np.float32) for record in records]))
    if learnt == "rank":
        return partial(_rank, scores)
    if learnt == "kept":
        limit = scores[min(len(scores) - 1, int((1 - rate) * len(scores)))]
        return lambda values: (values >= limit).astype(np.float32)
    if scores[0] < 0 or scores[-1] > 1:
        raise ConfigError(f"scores from {scores[0]:g} to {scores[-1]:g} are no targets in [0, 1]; use --targets rank")
    return lambda values: values


def _rank(known: Floats, values: Floats) -> Floats:
    """The middle of the places that each value has among the sorted `known`, as a share."""
    left, right = (np.searchsorted(known, values, side=side) for side in ("left", "right"))
    return ((left + right) / (2 * len(known))).astype(np.float32)


def windows_of(record: Labelled, chunker: Chunker, targets: Targets) -> Iterator[Window]:
    part = chunker.part(record.text)
    starts = np.cumsum([0, *map(len, record.words)])[:-1]
    word = part.encoding.within(starts)
    target = targets(np.asarray(record.scores, np.float32))[word] if len(word) else np.zeros(0, np.float32)
    for begin, end in chunker.ranges(part):
        yield Window(part.ids[begin:end].tolist(), word[begin:end], target[begin:end])


def collate(around: tuple[list[int], list[int]], pad: int, some: Sequence[Window]) -> dict[str, Tensor]:
    """Windows → a padded batch, each in the special tokens `around` a text, which have no label."""
    before, after = around
    padded = partial(np.pad, pad_width=(len(before), len(after)), constant_values=NO_LABEL)
    rows = [([*before, *one.ids, *after], padded(one.target)) for one in some]
    rows = rows or [([pad], np.full(1, NO_LABEL, np.float32))]  # a batch without windows
    tensors = {
        "input_ids": ([torch.tensor(ids) for ids, _ in rows], pad),
        "attention_mask": ([torch.ones(len(ids), dtype=torch.long) for ids, _ in rows], 0),
        "labels": ([torch.from_numpy(target) for _, target in rows], NO_LABEL),
    }
    return {name: pad_sequence(one, batch_first=True, padding_value=fill) for name, (one, fill) in tensors.items()}


def keep_loss(keep: int, outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
    """Cross-entropy of the probability of label `keep` with targets in [0, 1]: a batch's share in the step's mean."""
    logits, labelled = outputs.logits.float(), labels != NO_LABEL
    others = torch.cat([logits[..., :keep], logits[..., keep + 1 :]], -1).logsumexp(-1)
    odds = logits[..., keep] - others
    return F.binary_cross_entropy_with_logits(odds[labelled], labels[labelled], reduction="sum") / num_items_in_batch


# ---- training


def train(config: DistillConfig, rank: Rank) -> None:
    """Train the encoder, measure it on what was held out, and write it; the result last."""
    folder, loader = folder_of(config), Loader(resolve(config.model))
    records = [labels_of_row(row) for row in Groups(folder, LABELS).read()]
    chosen = best(records, config.drop_variation, config.drop_gap)
    trained, held = split(chosen, config.held_out, config.seed)
    targets = targets_of(config.learnt, trained, config.rate)
    model, tokenizer = _student(config, loader), loader.tokenizer()
    around = special_tokens(tokenizer)
    size = min(config.chunk_tokens, positions(model) - sum(map(len, around)))
    chunker = Chunker(SourceTokenizer(tokenizer), size)
    if not (found := [window for record in trained for window in windows_of(record, chunker, targets)]):
        raise ConfigError(f"input = {', '.join(config.inputs)}: no text to train on is left after the filters")
    lesson = Lesson(
        model=model,
        items=found,
        lengths=[len(window.ids) for window in found],
        collate=partial(collate, around, int(model.config.pad_token_id or 0)),
        loss=partial(keep_loss, keep_label(model.config)),
        step=config.batch_size,
        at_once=config.batch_size,
        schedule="linear",
        decay=0.01,
    )
    losses = learn(lesson, config, folder, rank, bf16=rank.device.startswith("cuda"))
    if rank.leads:
        counts = {"chunks": len(records), "dropped": len(records) - len(chosen), "windows": len(found)}
        tokens = sum(len(window.ids) for window in found)
        scorer = EncoderScorer(model.eval(), tokenizer)
        agrees = agreement(scorer, held, chunker, targets, config.rate)
        result = {**counts, "tokens": tokens, "agreement": agrees, "losses": losses}
        known = {"teacher_digest": teacher_digest(config), **result}
        text = card("distilled", config, known, base=public_name(config.model), agreement=agrees)
        publish(folder, partial(save, model, loader, text), result)


def _student(config: DistillConfig, loader: Loader) -> Any:
    """The encoder with its head: a trained one is trained further, a missing one is drawn by the seed."""
    torch.manual_seed(config.seed)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it reports that a head is new: that is what is meant
    names = {"id2label": NAMES, "label2id": {name: number for number, name in NAMES.items()}}
    return loader.load(AutoModelForTokenClassification, dtype=torch.float32, **names)


# ---- what came of it


def agreement(
    scorer: Scorer, records: Sequence[Labelled], chunker: Chunker, targets: Targets, rate: float
) -> dict[str, float]:
    """How far an encoder agrees with its teacher on `words` words of `texts` texts that neither was fitted to.

    The teacher keeps the share `kept` of the words; the encoder, asked as `method: llmlingua2` asks it, keeps as many
    of each text, so precision and recall are equal. `chance` is the F1 of an encoder that guesses. Targets that are 0
    or 1 say themselves what is kept; of others, the share `rate` of all words with the highest ones.
    """
    wanted = [targets(np.asarray(record.scores, np.float32)) for record in records]
    given = [word_probabilities(scorer, record, chunker) for record in records]
    every, scores = np.concatenate(wanted), np.concatenate(given)
    hard = bool(np.isin(every, (0.0, 1.0)).all())
    limit = 1.0 if hard else float(np.sort(every)[min(len(every) - 1, int((1 - rate) * len(every)))])
    kept = [one >= limit for one in wanted]
    chosen = np.concatenate([highest(one, int(keep.sum())) for one, keep in zip(given, kept, strict=True)])
    all_kept = np.concatenate(kept)
    total = max(1, int(all_kept.sum()))
    return {
        "texts": len(records),
        "words": len(every),
        "kept": float(all_kept.mean()),
        "f1": int((all_kept & chosen).sum()) / total,
        "chance": float(sum(keep.sum() ** 2 / len(keep) for keep in kept if len(keep)) / total),
        "auc": auc(scores, all_kept),
        "spearman": float(scipy.stats.spearmanr(scores, every).statistic) if np.ptp(scores) and np.ptp(every) else 0.0,
    }


def word_probabilities(scorer: Scorer, record: Labelled, chunker: Chunker) -> Floats:
    """The encoder's keep probability of every word [w], the mean of its tokens'; 0 for a word without tokens."""
    found = list(windows_of(record, chunker, lambda values: values))
    answers = scorer.score([BatchRow(Context(), window.ids) for window in found])
    total, count = np.zeros(len(record.words)), np.zeros(len(record.words))
    for window, answer in zip(found, answers, strict=True):
        np.add.at(total, window.word, answer)
        np.add.at(count, window.word, 1)
    return (total / np.maximum(count, 1)).astype(np.float32)


def highest(scores: Floats, count: int) -> Bools:
    """Mask of the `count` highest scores, of equal ones the earlier."""
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask


def auc(scores: Floats, positive: Bools) -> float:
    """How probably a positive scores above a negative, equal scores counting half; 0.5 where either is absent."""
    ones, zeros = scores[positive], scores[~positive]
    return float(scipy.stats.mannwhitneyu(ones, zeros).statistic / both) if (both := len(ones) * len(zeros)) else 0.5
