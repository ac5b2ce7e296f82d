"""How much of a text its compression keeps, measured without labels and without a model, for every row.

Three shares of what the strings that may be cut held, looked for in the whole compressed text:

information   of the self-information of their distinct words (`frequency.self_information`: rare words weigh
              more; a word that occurs twice counts once)
numbers       of their distinct numbers; half a number is none
names         of their distinct names. Where letters have case: words that are capitalised wherever they stand, and once
              inside a sentence (in German the nouns are among them). Where they have none, the tenth of the words with
              the most information stands in.

One figure, `Fidelity.overall`, weighs them ½, ¼, ¼: information covers any text, names and numbers are what answers are
made of and count again. What a text has none of leaves its weight to the others. It says what is still there, not
whether it can still be read: for that, `prediction` asks a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import regex

from lingua.draft import Draft, Part
from lingua.frequency import self_information
from lingua.tokens import Encoding
from lingua.units import Floats
from lingua.words import keys, runs

WEIGHTS = {"information": 0.5, "numbers": 0.25, "names": 0.25}
RARE = 10
"""One word in so many counts as a name where letters have no case."""
_NUMBER = regex.compile(r"\p{Nd}+(?:[.,:/\-'’٫٬]\p{Nd}+)*")
_RUNS_ON = regex.compile(r"(?=.)[,'’\-–]?[^\S\r\n]*")
"""What may stand between two words of one sentence."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Kept shares, each in [0, 1]; None: the original has nothing of the kind."""

    information: float | None
    numbers: float | None
    names: float | None

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
    numbers: Set[str]
    names: Set[str]

    @classmethod
    def of(cls, encodings: Iterable[Encoding]) -> Original:
        """Of texts together, as the compressor's tokenizer cuts them."""
        encodings = [one for one in encodings if len(one)]
        seen = _Seen()
        for one, information in zip(encodings, _information(encodings), strict=True):
            seen.read(one, information)
        numbers = {found for one in encodings for found in _NUMBER.findall(one.text)}
        return cls(seen.words(), numbers, seen.names())

    @classmethod
    def of_draft(cls, draft: Draft) -> Original:
        """Of the strings of a prompt that the settings allow to be cut."""
        return cls.of(part.encoding for part in (draft.instruction, *draft.context, draft.question) if cuttable(part))

    def kept_in(self, compressed: str) -> Fidelity:
        """How much of it a compressed text still holds."""
        left = keys(compressed)
        total = sum(self.words.values())
        kept = sum(value for word, value in self.words.items() if word in left)
        information = kept / total if total > 0 else None
        return Fidelity(information, _share(self.numbers, set(_NUMBER.findall(compressed))), _share(self.names, left))


def cuttable(part: Part) -> bool:
    """Whether a part counts: one that must stay cannot lose anything, one that is to be dropped is not missed."""
    return not part.whole and part.rate != 0


def _share(wanted: Set[str], found: Set[str]) -> float | None:
    return len(wanted & found) / len(wanted) if wanted else None


def _information(encodings: Sequence[Encoding]) -> Iterator[Floats]:
    """The self-information of each token of each text, the texts read as one."""
    if not encodings:
        return iter(())
    values = self_information(np.concatenate([one.ids for one in encodings]))
    return iter(np.split(values, np.cumsum([len(one) for one in encodings])[:-1]))


@dataclass(slots=True)
class _Word:
    """A distinct word: its information added up over `times`; how it was written.

    small    once with a small first letter
    capital  once with a capital one
    name     once with a capital where no sentence begins, or with two capitals
    """

    information: float = 0.0
    times: int = 0
    small: bool = False
    capital: bool = False
    name: bool = False


@dataclass(slots=True)
class _Seen:
    """The distinct words of some texts, and their marks, which count where there is no word."""

    found: dict[str, _Word] = field(default_factory=dict)
    marks: dict[str, _Word] = field(default_factory=dict)

    def read(self, encoding: Encoding, information: Floats) -> None:
        """Take the words of a text in; a word is worth its tokens, the white space before it included."""
        text, read = encoding.text, runs(encoding.text)
        ends = list(accumulate(run.size for run in read))
        said = [(run, end) for run, end in zip(read, ends, strict=True) if run.key]
        before = len(text)
        for (run, end), worth in zip(said, _worth(encoding, information, [end for _, end in said]), strict=True):
            word = _noted(self.found if run.word else self.marks, run.key, worth)
            if not run.word:
                continue
            word.small |= run.small
            if run.capital:
                word.capital = True
                if not word.name and run.size > 1:
                    word.name = run.capitals > 1 or _runs_on(text[before : end - run.size])
            before = end

    def words(self) -> dict[str, float]:
        """The information of each distinct word, of marks if there are no words."""
        return {word: one.information / one.times for word, one in (self.found or self.marks).items()}

    def names(self) -> set[str]:
        """Capitalised words; of words without case the rarest."""
        tells = any(one.small for one in self.found.values())  # in capitals throughout, case tells nothing
        names = {word for word, one in self.found.items() if tells and one.name and not one.small}
        caseless = [word for word, one in self.found.items() if not (tells and (one.small or one.capital))]
        words = self.words()
        rarest = sorted((word for word in caseless if not word.isnumeric()), key=lambda word: -words[word])
        return names | set(rarest[: len(rarest) // RARE])


def _worth(encoding: Encoding, information: Floats, ends: Sequence[int]) -> list[float]:
    """The information of the tokens from the end of one word or mark to that of the next, nats."""
    per_atom = np.bincount(encoding.atom, information, len(encoding.bounds) - 1)
    total = np.concatenate([[0.0], np.cumsum(per_atom)])
    worth: list[float] = np.diff(np.interp(ends, encoding.bounds, total), prepend=0.0).tolist()
    return worth


def _runs_on(between: str) -> bool:
    """Whether a sentence goes on over what stands between two words; nothing at all: there is no word before."""
    return between == " " or _RUNS_ON.fullmatch(between) is not None


def _noted(known: dict[str, _Word], key: str, information: float) -> _Word:
    word = known.get(key)
    if word is None:
        word = known[key] = _Word()
    word.information += information
    word.times += 1
    return word
