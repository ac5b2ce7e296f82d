"""Which words of a text did its compression keep: the annotation of LLMLingua-2 (arXiv 2403.12968, section 3.2 f.).

A teacher asked to drop words still changes some: it inflects, reorders, invents. So each word of the compression is
looked for near the place of the one before it, ahead first, as it is and then by its stem; a word of the original is
labelled once. Two rates tell how far the result can be trusted: the *variation rate*, the share of the compression's
words that the original does not have, and the *alignment gap*, how many more of them the original has than were found
where they should stand. The paper's lemmatizer is replaced by a rule that needs no language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jobs.training.labels_records import Labelled, words_of
from lingua.words import terms

WINDOW = 150
"""Words ahead in which a word of the compression is looked for; half as many behind."""
_STEM = 4
_ENDING = 3


def align(text: str, compressed: str, origin: str = "") -> Labelled:
    """The words of `text` with 1 for those that `compressed` kept and 0 for the others, and how well that went."""
    words = words_of(text)
    known = [(term, number) for number, word in enumerate(words) for term in terms(word)]
    original, shorter = [term for term, _ in known], terms(compressed)
    found = set(matches(original, shorter))
    kept = {known[place][1] for place in found}
    scores = tuple(float(number in kept) for number in range(len(words)))
    hits = sum(term in vocabulary for vocabulary in [set(original)] for term in shorter)
    variation = 1 - hits / len(shorter) if shorter else 0.0
    gap = (hits - len(found)) / len(original) if original else 0.0
    return Labelled(words, scores, origin, variation, gap)


def matches(original: Sequence[str], shorter: Iterable[str], window: int = WINDOW) -> Iterator[int]:
    """Places in `original` of the words of `shorter`, in their order; words that are nowhere near are left out."""
    free = [True] * len(original)
    last = -1
    for term in shorter:
        places = [place for place in _near(last, len(original), window) if free[place]]
        place = next((one for one in places if original[one] == term), None)
        if place is None:
            place = next((one for one in places if same_stem(original[one], term)), None)
        if place is not None:
            free[place] = False
            last = place
            yield place


def _near(last: int, size: int, window: int) -> Iterator[int]:
    """Ahead of the last match, nearest first; then behind it."""
    yield from range(last + 1, min(size, last + 1 + window))
    yield from range(last - 1, max(-1, last - 1 - window // 2), -1)


def same_stem(one: str, other: str) -> bool:
    """Whether two words differ by their endings alone (*open*, *opened*); never true of numbers."""
    alike = [left == right for left, right in zip(one, other, strict=False)]
    stem = [*alike, False].index(False)
    rest = max(len(one), len(other)) - stem
    return stem >= _STEM and rest <= _ENDING and not any(sign.isdigit() for sign in one[stem:] + other[stem:])


def best(records: Sequence[Labelled], variation: float, gap: float) -> list[Labelled]:
    """What the paper's filters leave: without the share `variation` of highest variation rate, and then without the
    share `gap` of what is left with the widest alignment gap. Where all are equally good, none goes."""
    chosen = _without_worst(records, [record.variation for record in records], variation)
    return _without_worst(chosen, [record.gap for record in chosen], gap)


def _without_worst(records: Sequence[Labelled], faults: Sequence[float], share: float) -> list[Labelled]:
    if not records:
        return []
    limit = np.quantile(np.asarray(faults), 1 - share, method="lower")
    return [record for record, fault in zip(records, faults, strict=True) if fault <= limit]
