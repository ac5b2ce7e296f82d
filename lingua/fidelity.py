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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex

from lingua.draft import Draft, Part
from lingua.frequency import self_information
from lingua.tokens import Encoding, Ints
from lingua.units import Bools, Floats
from lingua.words import CAPITAL, CAPITALS, SMALL, WORD, Runs, keys, lexicon

Doubles = npt.NDArray[np.float64]

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
        words, names = _words(encodings)
        numbers = {found for one in encodings for found in _NUMBER.findall(one.text)}
        return cls(words, numbers, names)

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


def _words(encodings: Sequence[Encoding]) -> tuple[dict[str, float], set[str]]:
    """The information of each distinct word, of marks if there are no words; and the names among the words."""
    if not encodings:
        return {}, set()
    known = lexicon()
    read = [known.read(one.text) for one in encodings]
    said = [_said(*part) for part in zip(encodings, _information(encodings), read, strict=True)]
    key, worth, traits, named = (np.concatenate(column) for column in zip(*said, strict=True))
    words = (traits & WORD) > 0
    chosen = words if words.any() else ~words
    numbers, first, place = np.unique(key[chosen], return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they are met, so that ties are not broken by what was read before
    information = np.bincount(place, worth[chosen]) / np.bincount(place)
    marked = [np.bincount(place, flags[chosen])[order] > 0 for flags in (traits & SMALL, traits & CAPITAL, named)]
    found = [known.keys[number] for number in numbers[order].tolist()]
    values = dict(zip(found, information[order].tolist(), strict=True))
    return values, _names(values, *marked) if words.any() else set()


def _said(encoding: Encoding, information: Floats, runs: Runs) -> tuple[Ints, Doubles, Ints, Bools]:
    """The words and marks of a text [n]: key, information, traits, and whether each is written as a name is.

    A word is worth its tokens, the white space before it included.
    """
    ends = np.cumsum(runs.size)
    said = np.flatnonzero(runs.key >= 0)
    traits, ends, size = runs.traits[said], ends[said], runs.size[said]
    named = ((traits & WORD) > 0) & ((traits & CAPITAL) > 0) & (size > 1)
    words = np.flatnonzero(traits & WORD)
    before = np.full(len(said), len(encoding.text))
    before[words[1:]] = ends[words[:-1]]
    for at in np.flatnonzero(named & ((traits & CAPITALS) == 0)).tolist():
        named[at] = _runs_on(encoding.text[before[at] : ends[at] - size[at]])
    return runs.key[said], _worth(encoding, information, ends), traits, named


def _names(words: Mapping[str, float], small: Bools, capital: Bools, named: Bools) -> set[str]:
    """Words that are capitalised wherever they stand and once as a name is; of words without case the rarest."""
    tells = bool(small.any())  # in capitals throughout, case tells nothing
    written = list(words)
    names = {written[at] for at in np.flatnonzero(named & ~small).tolist()} if tells else set()
    caseless = np.flatnonzero(~(small | capital)) if tells else np.arange(len(written))
    rarest = sorted((word for at in caseless if not (word := written[at]).isnumeric()), key=lambda word: -words[word])
    return names | set(rarest[: len(rarest) // RARE])


def _worth(encoding: Encoding, information: Floats, ends: Ints) -> Doubles:
    """The information of the tokens from the end of one word or mark to that of the next, nats."""
    per_atom = np.bincount(encoding.atom, information, len(encoding.bounds) - 1)
    total = np.concatenate([[0.0], np.cumsum(per_atom)])
    worth: Doubles = np.diff(np.interp(ends, encoding.bounds, total), prepend=0.0)
    return worth


def _runs_on(between: str) -> bool:
    """Whether a sentence goes on over what stands between two words; nothing at all: there is no word before."""
    return between == " " or _RUNS_ON.fullmatch(between) is not None
