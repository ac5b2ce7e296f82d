"""How much of a text its compression keeps: measured for every row without labels or a model, and held by a gate.

Three shares of what the strings that may be cut held, looked for in the whole compressed text:

information   of the self-information of their distinct words (`units.self_information`: rare words weigh
              more; a word that occurs twice counts once)
numbers       of their distinct numbers; half a number is none
names         of their distinct names. Where letters have case: words that are capitalised wherever they stand, and once
              inside a sentence (in German the nouns are among them). Where they have none, the tenth of the words with
              the most information stands in.

One figure, `Fidelity.overall`, weighs them ½, ¼, ¼: information covers any text, names and numbers are what answers are
made of and count again. What a text has none of leaves its weight to the others.

The gate `min_fidelity` (`relaxed`) compresses a prompt less that lost too much. Whatever was to be cut is halved, and
halved again: of a rate of 0.3 that leaves 0.65, 0.825, 0.91. What still lost too much is then left as it was. The gate
overrides `rate` and `target_token`, the rates of a structure's pieces, and `keep_threshold`, which is halved instead;
what is to be dropped stays dropped. Each try costs about a compression.

Whether the rest can still be read, the model that compressed tells for a sample (`prediction`): NLL(original |
compressed) lies between NLL(original) with nothing read before and NLL(original | original), what is left when all was;
`predicted` is the share of the way. It costs about three forwards over the row, on stretches of the context strings
that fit any window: all of a short prompt, a few stretches spread over a long one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import regex

from lingua.budget.draft import Draft, Drafter, cut_text
from lingua.engine.score import Context, Program, Score
from lingua.prompt import Bools, CompressedPrompt, Facts, Ints, Prompt, Span
from lingua.text.tokens import Encoding
from lingua.text.units import self_information
from lingua.text.words import CAPITAL, CAPITALS, SMALL, WORD, Runs, keys, lexicon

Doubles = npt.NDArray[np.float64]

WEIGHTS = {"information": 0.5, "numbers": 0.25, "names": 0.25}
RARE = 10
"""One word in so many counts as a name where letters have no case."""
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,:/\-'’٫٬]\p{Nd}+)*")
_RUNS_ON = regex.compile(r"(?=.)[,'’\-–]?[^\S\r\n]*")
"""What may stand between two words of one sentence; nothing at all: there is no word before."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Kept shares, each in [0, 1]; None: the original has nothing of the kind. `facts` are the counts behind two."""

    information: float | None
    facts: Facts

    @property
    def numbers(self) -> float | None:
        """Share of the distinct numbers."""
        return self.facts.numbers_kept / self.facts.numbers if self.facts.numbers else None

    @property
    def names(self) -> float | None:
        """Share of the distinct names."""
        return self.facts.names_kept / self.facts.names if self.facts.names else None

    @property
    def overall(self) -> float:
        """The weighted mean of what there is; 1.0 when there was nothing to lose."""
        there = {name: share for name in WEIGHTS if (share := getattr(self, name)) is not None}
        weight = sum(WEIGHTS[name] for name in there)
        return sum(WEIGHTS[name] * share for name, share in there.items()) / weight if there else 1.0


@dataclass(frozen=True, slots=True)
class Original:
    """What a text holds: the information of each distinct word, the numbers and the names among them."""

    words: Mapping[str, float]
    numbers: frozenset[str]
    names: Set[str]

    @classmethod
    def of(cls, encodings: Iterable[Encoding]) -> Original:
        """Of texts together, as the compressor's tokenizer cuts them."""
        encodings = [one for one in encodings if len(one)]
        text = "\n".join([one.text for one in encodings])  # no word, number or name runs on over a line break
        words, names = _words(encodings, text)
        return cls(words, frozenset(_NUMBER.findall(text)), names)

    @classmethod
    def of_draft(cls, draft: Draft) -> Original:
        """Of the strings of a prompt that the settings allow to be cut."""
        return cls.of(part.encoding for part in (draft.instruction, *draft.context, draft.question) if part.flexible)

    def kept_in(self, compressed: str) -> Fidelity:
        """How much of it a compressed text still holds."""
        left = keys(compressed)
        total = sum(self.words.values())
        kept = sum(value for word, value in self.words.items() if word in left)
        information = kept / total if total > 0 else None
        numbers = self.numbers.intersection(_NUMBER.findall(compressed))
        return Fidelity(information, Facts(len(self.numbers), len(numbers), len(self.names), len(self.names & left)))


def _words(encodings: Sequence[Encoding], text: str) -> tuple[dict[str, float], set[str]]:
    """The information of each distinct word, of marks if there are no words; and the names among the words.

    `text`: those of the encodings, joined by one character each.
    """
    if not encodings:
        return {}, set()
    known = lexicon()
    runs = known.read(text)
    worth, named, words = _worth(encodings, runs.end), _named(text, runs), (runs.traits & WORD) > 0
    chosen = words if words.any() else ~words
    met = dict[int, int]()  # numbered as they are met, so that ties are not broken by what was read before
    place = np.asarray([met.setdefault(number, len(met)) for number in runs.key[chosen].tolist()], np.int64)
    information = np.bincount(place, worth[chosen]) / np.bincount(place)
    marked = [np.bincount(place, flags[chosen]) > 0 for flags in (runs.traits & SMALL, runs.traits & CAPITAL, named)]
    values = dict(zip([known.folded[number] for number in met], information.tolist(), strict=True))
    return values, _names(values, *marked) if words.any() else set()


def _named(text: str, runs: Runs) -> Bools:
    """Whether each word or mark [n] is written as a name is: with a capital letter within a sentence, or several."""
    named: Bools = ((runs.traits & WORD) > 0) & ((runs.traits & CAPITAL) > 0) & (runs.end - runs.begin > 1)
    words = (runs.traits & WORD).nonzero()[0]
    before = np.full(len(named), len(text))
    before[words[1:]] = runs.end[words[:-1]]
    for at in (named & ((runs.traits & CAPITALS) == 0)).nonzero()[0].tolist():
        between = text[before[at] : runs.begin[at]]
        named[at] = between == " " or _RUNS_ON.fullmatch(between) is not None
    return named


def _names(words: Mapping[str, float], small: Bools, capital: Bools, named: Bools) -> set[str]:
    """Words that are capitalised wherever they stand and once as a name is; of words without case the rarest."""
    tells = bool(small.any())  # in capitals throughout, case tells nothing
    written = list(words)
    names = {written[at] for at in np.flatnonzero(named & ~small).tolist()} if tells else set()
    caseless = np.flatnonzero(~(small | capital)) if tells else np.arange(len(written))
    rarest = sorted((word for at in caseless if not (word := written[at]).isnumeric()), key=lambda word: -words[word])
    return names | set(rarest[: len(rarest) // RARE])


def _worth(encodings: Sequence[Encoding], ends: Ints) -> Doubles:
    """The information of the tokens from the end of one word or mark to that of the next, nats; `ends` in all texts.

    So a word is worth its tokens, the white space before it included.
    """
    begins = np.cumsum([0, *(1 + len(one.text) for one in encodings[:-1])])
    sizes = [len(one.bounds) for one in encodings]
    firsts = np.cumsum([0, *sizes[:-1]])
    bounds = np.concatenate([at + one.bounds for at, one in zip(begins, encodings, strict=True)])
    atom = np.concatenate([at + one.atom for at, one in zip(firsts, encodings, strict=True)])
    information = np.bincount(atom, self_information(np.concatenate([one.ids for one in encodings])), len(bounds))
    before = np.zeros(len(bounds))
    information[:-1].cumsum(out=before[1:])
    told = np.interp(ends, bounds, before - np.repeat(before[firsts], sizes))
    worth: Doubles = np.diff(told, prepend=0.0)
    first = ends.searchsorted(begins, side="right")
    first = first[first < len(ends)]
    worth[first] = told[first]
    return worth


TRIES = 3

Compress = Callable[[Draft], Program[CompressedPrompt]]
"""The program of a draft whose budget is set; its result says its fidelity."""


def relaxed(
    prompt: Prompt, drafter: Drafter, least: float, compress: Compress, asked: CompressedPrompt
) -> Program[CompressedPrompt]:
    """The same prompt with a fidelity of at least `least`; `asked` is its result at the budget that was asked for."""
    for step in range(1, TRIES + 1):
        result = yield from compress(eased(prompt, drafter, 0.5**step))
        if result.fidelity >= least:
            break
    else:
        result = drafter.draft(prompt).finish()
    return replace(result, status="relaxed", target_tokens=asked.target_tokens)


def eased(prompt: Prompt, drafter: Drafter, share: float) -> Draft:
    """A draft of which only `share` of what was to be cut is to be cut."""
    config = drafter.config.model_copy(update={"own": drafter.config.own.eased(share)})
    draft = replace(drafter, config=config).draft(prompt)
    for part in (draft.instruction, *draft.context, draft.question):
        if part.rate:
            part.rate = 1 - (1 - part.rate) * share
    draft.target_tokens = draft.origin_tokens - int((draft.origin_tokens - draft.target_tokens) * share)
    return draft


STRETCH = 256
"""Tokens of the original that are predicted at once."""
STRETCHES = 4


def drawn(prompt: Prompt, share: float) -> bool:
    """Whether a prompt is in a sample of this share: by its content, so that every run draws the same ones."""
    if share <= 0:
        return False
    content = "\0".join((prompt.instruction, *prompt.context, prompt.question))
    digest = hashlib.blake2b(content.encode(), digest_size=8, person=b"sample").digest()
    return int.from_bytes(digest, "big") < share * 2**64


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Consecutive tokens of one context string, and those of what was kept of their characters."""

    original: list[int]
    kept: list[int]


def prediction(draft: Draft, result: CompressedPrompt) -> Program[float | None]:
    """The share of the original that `result` predicts, in [0, 1]; None where there is nothing to tell it by."""
    stretches = _stretches(draft, result)
    if not stretches:
        return None
    separator = draft.ids(draft.prompt.separator)

    def score(one: _Stretch, before: list[int]) -> Score:
        return Score(Context(draft.head), one.original, [*before, *separator] if before else ())

    alone = [score(one, []) for one in stretches]
    given = [score(one, one.kept) for one in stretches]
    whole = [score(one, one.original) for one in stretches]
    answers = yield [*alone, *given, *whole]
    nats = [float(answer[1:].sum()) for answer in answers]  # a stretch's first token aside: nothing stands before it
    count = len(stretches)
    nothing, some, all_of_it = (sum(nats[at : at + count]) for at in (0, count, 2 * count))
    return min(1.0, max(0.0, (nothing - some) / (nothing - all_of_it))) if nothing > all_of_it else None


def _stretches(draft: Draft, result: CompressedPrompt) -> list[_Stretch]:
    size = max(2, min(STRETCH, draft.drafter.window // 2))
    places = [
        (index, begin)
        for index, part in enumerate(draft.context)
        if part.flexible
        for begin in range(0, len(part.encoding), size)
        if len(part.encoding) - begin > 1
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(STRETCHES, len(places))).round().astype(int))
    return [_stretch(draft, result, places[at], size) for at in chosen.tolist()]


def _stretch(draft: Draft, result: CompressedPrompt, place: tuple[int, int], size: int) -> _Stretch:
    index, begin = place
    encoding = draft.context[index].encoding
    ids = encoding.ids[begin : begin + size].tolist()
    last = begin + len(ids) == len(encoding)
    edges = int(encoding.token_starts[begin]), len(encoding.text) if last else int(encoding.token_starts[begin + size])
    return _Stretch(ids, draft.ids(cut_text(encoding.text, _within(result.kept_spans[index], edges))))


def _within(spans: Sequence[Span], edges: Span) -> list[Span]:
    """What of the spans lies between the edges."""
    clipped = ((max(start, edges[0]), min(end, edges[1])) for start, end in spans)
    return [(start, end) for start, end in clipped if start < end]
