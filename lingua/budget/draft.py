"""A prompt while it is being compressed: its parts, cut into units, with their scores and what is kept so far.

Methods fill a `Draft` in; what they leave is a keep mask over units of the original tokens. Text is cut out of the
original once, at the end. Nothing here knows how a score came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from lingua.budget.pieces import Pieces, piece_edges
from lingua.engine.score import Program
from lingua.prompt import Bools, CompressedPrompt, Floats, Ints, Prompt, Span, Status, join_parts
from lingua.shared import OnePassSettings, SharedSettings, Unit
from lingua.text import units as cutting
from lingua.text.lines import plain
from lingua.text.sentences import sentence_edges
from lingua.text.tokens import Encoding, SourceTokenizer, TargetTokenizer
from lingua.text.words import ascending

Importance = Floats


@dataclass(slots=True, eq=False)
class PromptPart:
    """One string of a prompt: n tokens in u units."""

    encoding: Encoding
    starts: Ints  # token at which each unit begins, closed by n [u + 1]
    bounds: Ints  # character at which each unit begins, closed by the length of the text [u + 1]
    costs: Ints  # target tokens of each unit [u]
    must: Bools  # units that must be kept [u]
    keep: Bools  # units that are kept so far [u]
    token_scores: Floats  # what the method says of each token so far [n]: surprisal in nats, evidence, a probability
    rate: float | None = None  # the share of this part that the settings ask for by name; None: what the budget leaves
    literal: Ints | None = None  # which of `force_tokens` each unit is, -1 for none [u]; None: there are none
    held: Span | None = None  # characters of which every unit must be kept, so that something of the part is left
    kinds: cutting.Kinds | None = None  # of its characters, where kept units could run together to a word, else None
    pieces: Pieces | None = None  # the clauses and sentences of the units, where these are kept or dropped as a whole
    facts: Ints | None = None  # name or number that each token is of, -1 for none [n]; None: they do not count

    @property
    def text(self) -> str:
        return self.encoding.text

    @property
    def ids(self) -> Ints:
        return self.encoding.ids

    @property
    def whole(self) -> bool:
        """Whether the settings forbid cutting this part."""
        return self.rate == 1

    @property
    def cost(self) -> int:
        """Target tokens of the units that are still in play."""
        return int(self.costs @ self.keep)

    @property
    def flexible(self) -> bool:
        """Whether it may be cut, and is neither kept whole nor dropped whole."""
        return not self.whole and self.rate != 0

    @property
    def must_cost(self) -> int:
        return self.cost if self.whole else int(self.costs @ self.must)

    def scores(self, config: SharedSettings) -> Floats:
        filled, scores = (self.starts[1:] > self.starts[:-1]).nonzero()[0], np.zeros(len(self.keep), np.float32)
        starts = self.starts[np.append(filled, -1)]
        scores[filled] = cutting.unit_scores(self.token_scores, starts, config.own.unit_score)
        return cutting.rounded(scores) if isinstance(config.own, OnePassSettings) else scores

    @property
    def unit_facts(self) -> Ints:
        """The name or number that each unit [u] is of, -1 for none."""
        if self.facts is None or not len(self.facts):
            return np.full(len(self.keep), -1)
        return np.where(np.diff(self.starts), self.facts[np.minimum(self.starts[:-1], len(self.facts) - 1)], -1)

    def hold(self, span: Span) -> None:
        """Keep the units that these characters touch, whatever the budget."""
        self.held = span
        touched = (self.bounds[1:] > span[0]) & (self.bounds[:-1] < span[1])
        self.must = self.must | touched
        self.keep = self.keep | touched

    def least(self, config: SharedSettings, room: int) -> Span:
        """The characters of its best unit; where clauses are kept, of the beginning of its clause in `room` tokens."""
        spans, scores = list(pairwise(self.bounds.tolist())), self.scores(config)
        best = max((at for at, span in enumerate(spans) if self.text[slice(*span)].strip()), key=scores.__getitem__)
        if self.pieces is not None:
            units = np.flatnonzero(self.pieces.clause == self.pieces.clause[best])
            fitting = int(np.sum(np.cumsum(self.costs[units]) <= room))
            if begun := cutting.beginning(self.text, self.bounds, units, fitting):
                return spans[units[0]][0], spans[units[begun - 1]][1]
        return spans[best]

    def kept_ids(self, first: int, last: int) -> list[int]:
        """The token ids of the kept units among units [first, last)."""
        begin, end = self.starts[first], self.starts[last]
        mask = np.repeat(self.keep[first:last], self.starts[first + 1 : last + 1] - self.starts[first:last])
        return self.ids[begin:end][mask].tolist()  # type: ignore[no-any-return]

    def at_rate(self, rate: float) -> float:
        """What this part keeps at a rate, in target tokens: never less than it must."""
        return max(rate * self.cost, self.must_cost)

    def kept_spans(self) -> tuple[Span, ...]:
        """Kept character ranges, ascending and merged; a cut beginning takes the white space after it along."""
        if not self.text:
            return ()
        if self.keep.all():
            return ((0, len(self.text)),)
        spans = spans_of(self.text, self.bounds, self._shown())
        return spans if self.pieces is None else in_lines(self.text, spans, self.pieces.begins)

    def _shown(self) -> Bools:
        """The kept units without repeats of a forced string, with what parts those that would run together."""
        shown = self.keep if self.pieces is None else self.pieces.closed(self.keep, self.must)
        if self.literal is not None:
            kept = np.flatnonzero(shown)
            literal, shown = self.literal[kept], shown.copy()
            shown[kept[1:][(literal[1:] >= 0) & (literal[1:] == literal[:-1])]] = False
        return shown if self.kinds is None else cutting.kept_apart(self.kinds, self.bounds, shown)


def spans_of(text: str, bounds: Ints, keep: Bools) -> tuple[Span, ...]:
    """The character ranges of the kept units of a text."""
    framed = np.zeros(len(keep) + 2, bool)
    framed[1:-1] = keep
    edges = bounds[(framed[1:] != framed[:-1]).nonzero()[0]].tolist()
    spans = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]
    if spans and spans[0][0] > 0:
        start, end = spans[0]
        spans[0] = (end - len(text[start:end].lstrip()), end)
    return tuple(spans[spans[0][0] == spans[0][1] :]) if spans else ()


def in_lines(text: str, spans: tuple[Span, ...], sentences: Ints) -> tuple[Span, ...]:
    """Kept spans with a line break, not a space, between `sentences` of different lines, where theirs is dropped."""
    text, found = plain(text), list(spans[:1])
    for (_, last), (start, end) in pairwise(spans):
        at = max(text.find("\n\n", last, start), text.find("\n", last, start))
        body = end - len(text[start:end].lstrip()) if at >= 0 else end
        apart = at + 2 < start <= body < end and "\n" not in text[start:body]
        if apart and np.diff(sentences.searchsorted([last - 1, start], "right")):
            found.append((at, at + 1 + (text[at + 1] == "\n")))
            start = body
        found.append((start, end))
    return tuple(found)


def cut_text(text: str, spans: Sequence[Span]) -> str:
    return "".join([text[start:end] for start, end in spans])


class Ranker(Protocol):
    """Says how much each context string matters for the question."""

    def importance(self, draft: Draft) -> Program[Importance]:
        """One number per context string, higher = more important; may ask for surprisal on the way."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Drafter:
    """Makes drafts: owns the tokenizers and the settings."""

    source: SourceTokenizer
    target: TargetTokenizer
    config: SharedSettings
    window: int = 1 << 20  # the longest probe that the model takes
    ranker: Ranker | None = None  # what ranks context strings, where the method does; None: made from the settings
    reader: SourceTokenizer | None = None  # tokenizes for the model that reads sentences, where one does
    model: str = ""  # that model's name, for results that are cut again elsewhere
    judged: int = 0  # columns behind its states in which its judge says what is likely to be asked for

    def draft(self, prompt: Prompt, each: bool = False) -> Draft:
        """Tokenize `prompt`, and cut those of its parts into units of which some may be kept; `each`: all parts."""
        config, strings = self.config, prompt.context
        encodings = self.source.encode([prompt.instruction, *strings, prompt.question])
        filled = [len(one) for one in encodings if one.text]
        origin = filled[0] if len(filled) == 1 and self.target is self.source else self.target.count(prompt.text)
        rates = [config.instruction_rate, *(prompt.context_rates or [None] * len(strings)), config.question_rate]
        whole = {1.0, None} if config.own.keeps_whole(prompt) and origin > config.target(origin) else {1.0}
        units = [None if rate in whole and not each else config.unit for rate in rates]
        first, *context, last = parts = list(map(self.part, encodings, units))
        for part, rate in zip(parts, rates, strict=True):
            part.rate = rate
        target = self._target(origin, parts) if prompt.context_rates else config.target(origin)
        for part in context:
            part.keep = part.must.copy() if part.rate == 0 else part.keep
        return Draft(prompt, self, first, context, last, origin, target)

    def _target(self, origin: int, parts: list[PromptPart]) -> int:
        """The budget of a structure: all but what is cut from its pieces, within `target_token`."""
        shared = self.config.rate or 1.0
        cut_away = sum(part.cost - part.at_rate(shared if part.rate is None else part.rate) for part in parts)
        return self.config.ceiling(max(min(1, origin), int(origin - cut_away + 1e-9)))

    def part(self, encoding: Encoding, unit: Unit | None) -> PromptPart:
        """The units of a text; None: it is one, as it is kept as a whole or not at all."""
        config, text = self.config, encoding.text
        if unit is None or not text:
            return self._uncut(encoding)
        coherent = config.own.coherent_share > 0
        edges = cutting.unit_edges(text, "word" if coherent and unit == "token" else unit)
        if edges is not None and config.own.cuts_sentences:
            edges = ascending(edges, sentence_edges(text))
        if edges is not None and coherent:
            edges = ascending(edges, pieces := piece_edges(text))
            encoding = encoding.split(pieces)
        forced = cutting.forced_spans(text, config)
        if edges is not None and (forced or unit == "sentence" or config.own.cuts_sentences or coherent):
            edges, forced = cutting.within_words(text, edges, forced)
        atoms, must = cutting.cut(encoding, edges, forced)
        starts = encoding.atom.searchsorted(atoms)
        begins = encoding.token_starts if self.target is self.source else self.target.starts(text)
        return self._part(encoding, starts, encoding.bounds[atoms], must, begins)

    def _uncut(self, encoding: Encoding) -> PromptPart:
        text, count = encoding.text, len(encoding)
        tokens = count if self.target is self.source else self.target.count(text)
        ends = np.arange(2 if text else 1)
        units, scores = ends[1:], np.zeros(count, np.float32)
        return PromptPart(encoding, count * ends, len(text) * ends, tokens * units, units < 1, units > 0, scores)

    def scored(self, text: str, bounds: Ints, must: Bools, scores: Floats) -> PromptPart:
        """A part whose units and their scores [u] are known: each unit stands as one token, and is not read again."""
        each = np.arange(len(must) + 1)
        encoding = Encoding(text, each[:-1], each[:-1], bounds)
        part = self._part(encoding, each, bounds, must, self.target.starts(text))
        part.token_scores = scores
        return part

    def _part(self, encoding: Encoding, starts: Ints, bounds: Ints, must: Bools, begins: Ints) -> PromptPart:
        """`begins`: characters at which target tokens do; those of the units add up to those of the whole text."""
        before = begins.searchsorted(bounds)
        costs = before[1:] - before[:-1]
        keep, scores = np.ones(len(must), bool), np.zeros(len(encoding), np.float32)
        part = PromptPart(encoding, starts, bounds, costs, must, keep, scores)
        config, text = self.config, encoding.text
        part.literal = cutting.literals(text, bounds, config.force_tokens) if config.force_tokens else None
        coherent = config.own.coherent_share > 0
        part.kinds = None if config.unit == "token" and not coherent else cutting.spelt(text, bounds)
        part.pieces = Pieces.of(text, bounds, config.unit == "sentence") if coherent and len(must) else None
        return part

    def finer(self, part: PromptPart, unit: Unit) -> PromptPart:
        """The same part, kept as it is, in smaller units."""
        fine = self.part(part.encoding, unit)
        fine.keep = part.keep[np.searchsorted(part.bounds, fine.bounds[:-1], side="right") - 1]
        fine.token_scores, fine.rate, fine.facts = part.token_scores, part.rate, part.facts
        if part.held is not None:
            fine.hold(part.held)
        return fine


@dataclass(slots=True, eq=False)
class Draft:
    """A prompt in work. `chosen` are the context strings that the coarse step kept, in the order of the output."""

    prompt: Prompt
    drafter: Drafter
    instruction: PromptPart
    context: list[PromptPart]
    question: PromptPart
    origin_tokens: int
    target_tokens: int
    chosen: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.chosen = list(range(len(self.context)))

    @property
    def config(self) -> SharedSettings:
        return self.drafter.config

    @property
    def head(self) -> tuple[int, ...]:
        """What every context of a model begins with: its start token, if it has one."""
        bos = self.drafter.source.bos
        return () if bos is None else (bos,)

    def ids(self, text: str) -> list[int]:
        """The token ids of a text that is no part."""
        return self.drafter.source.ids([text])[0]

    @property
    def parts(self) -> list[PromptPart]:
        """The parts that the result is made of, in its order."""
        return [self.instruction, *(self.context[index] for index in self.chosen), self.question]

    @property
    def fits(self) -> bool:
        """Whether the prompt is within its budget as it is."""
        return not self.config.open_ended and self.origin_tokens <= self.target_tokens

    @property
    def untouchable(self) -> bool:
        """Whether nothing of the prompt may be cut, or there is no text in it."""
        return all(part.whole or part.must.all() for part in self.parts)

    @property
    def room(self) -> int:
        """Target tokens left for the parts themselves, after the separators between them."""
        filled = sum(bool(part.text) for part in self.parts)
        return self.target_tokens - max(0, filled - 1) * self.drafter.target.count(self.prompt.separator)

    @property
    def flexible(self) -> list[PromptPart]:
        return [part for part in self.parts if part.flexible]

    def finer(self, unit: Unit) -> Draft:
        """The same draft, kept as it is, in smaller units."""
        finer, chosen = self.drafter.finer, set(self.chosen)
        context = [finer(part, unit) if index in chosen else part for index, part in enumerate(self.context)]
        first, last = finer(self.instruction, unit), finer(self.question, unit)
        new = replace(self, instruction=first, context=context, question=last)
        new.chosen = self.chosen
        return new

    def finish(self, status: Status = "compressed") -> CompressedPrompt:
        """The result: text, tokens and spans of what is kept."""
        parts = self.parts
        spans = [part.kept_spans() for part in parts]
        texts = [cut_text(part.text, kept) for part, kept in zip(parts, spans, strict=True)]
        text = join_parts(texts, self.prompt.separator)
        strings = zip(self.chosen, spans[1:-1], texts[1:-1], strict=True)
        kept = {index: (spans, left) for index, spans, left in strings if spans or not self.prompt.context[index]}
        return CompressedPrompt(
            text=text,
            instruction=texts[0],
            context=tuple(left for _, left in kept.values()),
            question=texts[-1],
            kept_context=tuple(kept),
            kept_spans=tuple(kept[index][0] if index in kept else () for index in range(len(self.context))),
            origin_tokens=self.origin_tokens,
            compressed_tokens=self.drafter.target.count(text),
            target_tokens=self.target_tokens,
            status=status,
        )

    def hold_emptied(self, result: CompressedPrompt) -> bool:
        """If `result` leaves no text of a context string that has some, hold the least of each; whether it did.

        Of each at once, since what is held here is taken from the others.
        """
        strings = zip(self.context, result.kept_spans, strict=True)
        filled = [(part, spans) for part, spans in strings if part.text.strip() and not part.whole]
        if all(cut_text(part.text, spans).strip() for part, spans in filled):
            return False
        for part, _ in filled:
            part.hold(part.least(self.config, self.target_tokens // (2 * len(filled))))
        return True

    def stream(self) -> Iterator[tuple[PromptPart, bool]]:
        """The non-empty parts in order, each with whether it is the first."""
        filled = (part for part in self.parts if len(part.encoding))
        return ((part, number == 0) for number, part in enumerate(filled))
