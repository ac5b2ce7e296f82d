"""Clauses and sentences of a part: what coherent methods keep or drop as a whole, and how a cut sentence is closed.

Of a sentence any clauses may go; between two kept spans that were not neighbours a mark of punctuation always stands.
A kept clause has its own; where the rest of its sentence is dropped, the mark that ends the sentence takes its place.
So no two spans run into a sentence that the text does not say, and nothing is written that the text does not have.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
import regex

from lingua.prompt import Bools, Floats, Ints
from lingua.text.lines import CLOSES
from lingua.text.needs import needed_sentences
from lingua.text.sentences import ACTS, ENDS_SENTENCE, SEPARATES, Clauses, sentence_edges
from lingua.text.words import among, ascending, code_points, members, remembered

NEW, REPEATED = 6.0, 0.3
"""What the first mention of a name or number counts, and a later one: of its evidence."""
_CLAUSE = regex.compile(rf"(?r)(\s*{SEPARATES})\s*")
_ENDED = regex.compile(rf"(?r)(\s*{ENDS_SENTENCE})[\"'”’»」)\]]*\s*")
"""Their marks; behind the one that ends a sentence quotation marks and brackets may be closed."""
_LEADS = regex.compile(r"[?？:：]\W*\Z")
"""How ends what asks, leads a list or names who speaks: what stands behind it says something else without it."""
_CATCHES = regex.compile(r"\s*(?:except|finally|\}?\s*catch)\b")
"""The branch without which `try` is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The clauses [c] and the sentences [s] of units [u], and which units close them."""

    clause: Ints  # of each unit
    host: Ints  # the clause that each clause needs, before it; itself where it needs none
    begins: Ints  # characters at which sentences begin
    needs: Ints  # the sentence that each sentence needs, as clauses do
    heads: Bools  # whether a sentence only heads others
    titles: Bools  # whether each clause is a title, without which what it heads says the same
    opener: Ints  # what opened it of a sentence that only closes, a bracket or, of `try`, the branch behind; else -1
    sentence: Ints  # of each unit
    separates: Bools  # whether a unit is the mark that closes a clause
    resumes: Bools  # whether a unit is what a clause goes on with behind an inserted one, where that is its verb
    end: Ints  # the unit that is the mark that ends the unit's sentence; -1: there is none
    marked: Bools  # whether a unit's last character is a mark of punctuation

    @classmethod
    def of(cls, text: str, bounds: Ints, whole: bool) -> Pieces:
        """Of units that begin at `bounds` [u + 1]: at `piece_edges` at least. `whole`: no sentence has clauses."""
        sentences, (clauses, closing) = sentence_edges(text), _clauses(text, whole)
        begins, points, (needs, heads) = bounds[:-1], code_points(text), needed_sentences(text)
        sentence = sentences.searchsorted(begins, side="right") - 1
        separates, ends = (among(bounds, one[:, 0])[:-1] & among(bounds, one[:, 1])[1:] for one in closing)
        end = np.full(len(sentences), -1)
        end[sentence[ends]] = ends.nonzero()[0]
        guests = needs != np.arange(len(needs))
        ended = [*sentences.tolist(), len(text)]
        opener = np.full(len(needs), -1)
        for at in (guests & heads[needs]).nonzero()[0].tolist():
            if (_CATCHES.match if heads[at] else CLOSES.fullmatch)(text, ended[at], ended[at + 1]):
                opener[at] = opener[needs[at]] if opener[needs[at]] >= 0 else needs[at]
        verbs = [begin for begin in clauses.later.tolist() if ACTS.match(text, begin)]
        clause = clauses.piece[clauses.begins.searchsorted(begins, side="right") - 1]
        titles = [
            head and not _LEADS.search(text[max(0, end - 4) : end]) for head, end in zip(heads, ended[1:], strict=True)
        ]
        return cls(
            clause,
            clauses.host,
            sentences,
            needs,
            heads & (np.bincount(needs[guests], minlength=len(needs)) > 0),
            np.bincount(clause, np.asarray(titles)[sentence], len(clauses.host)) > 0,
            opener,
            sentence,
            separates,
            among(bounds, np.asarray(verbs, np.int64))[:-1],
            end[sentence],
            members(r"[\p{P}--\p{Pe}]")[points[bounds[1:] - 1]],
        )

    def hosted(self, unit: int, keep: Bools) -> bool:
        """Whether what the clause of a unit needs is kept."""
        clause = self.clause[unit]
        return self.host[clause] == clause or bool(keep[self.clause == self.host[clause]].all())

    def understood(self, keep: Bools) -> Bools:
        """Whether each unit [u] can be read with those that are kept: they hold what it needs, or that is a title."""
        whole: Bools = np.bincount(self.clause, ~keep, len(self.host)) == 0
        readable: Bools = _readable(self.host, self.titles) | whole[self.host]
        return readable[self.clause]

    def closed(self, keep: Bools, must: Bools) -> Bools:
        """The mask `keep` [u] with the mark that ends a sentence wherever its last clause is cut off or dropped.

        And without the comma before a verb, or what closes a list, once what stood between is dropped, or lines that
        head nothing of what is kept; what a kept line has opened is closed.
        """
        keep = keep & (must | ~self._idle(keep)[self.sentence])
        if (tails := self.opener >= 0).any():
            opened = np.bincount(self.sentence[keep], minlength=len(self.needs))[self.opener] > 0
            keep = np.where(tails[self.sentence], must | opened[self.sentence], keep)
        kept = keep.nonzero()[0]
        if not len(kept):
            return keep
        sentence = self.sentence[kept]
        last = kept[np.append(sentence[1:] != sentence[:-1], True)]
        cut = np.append(self.sentence[1:], -1)[last] == self.sentence[last]
        commas = last[cut & self.separates[last] & ~must[last]]
        open_ended = (last < self.end[last]) & ~must[last] & (self.separates | ~self.marked)[last]
        last = last[open_ended]
        shown = keep.copy()
        left, right = kept[:-1], kept[1:]
        joined = (self.clause[left] == self.clause[right]) & self.resumes[right] | tails[self.sentence[right]]
        shown[left[joined & self.separates[left] & (right - left > 1) & ~must[left]]] = False
        shown[commas] = False
        shown[self.end[last]] = True
        if self.separates[final := kept[-1]] and not must[final]:
            shown[final] = final + 1 == len(keep)
        return shown

    def _idle(self, keep: Bools) -> Bools:
        """Whether each sentence [s] is one that heads others, of which none is kept."""
        present, idle = np.zeros(len(self.needs), bool), np.zeros(len(self.needs), bool)
        present[self.sentence[keep & (self.heads | (self.opener < 0))[self.sentence]]] = True
        guests = np.bincount(self.needs[present], minlength=len(present))
        for head in (present & self.heads).nonzero()[0][::-1].tolist():
            host = self.needs[head]
            if guests[head] == (host == head):
                idle[head] = True
                guests[host] -= 1
        return idle


def _readable(host: Ints, titles: Bools) -> Bools:
    """Whether each clause [c] needs nothing but titles [c], and these nothing but such."""
    found = list[bool]()
    for clause, (needed, title) in enumerate(zip(host.tolist(), titles[host].tolist(), strict=True)):
        found.append(needed == clause or (title and found[needed]))
    return np.asarray(found, bool)


def piece_edges(text: str) -> Ints:
    """Characters at which sentences, clauses and the marks that close them begin or end, ascending."""
    clauses, marks = _clauses(text, False)
    return ascending(clauses.begins, *(one.ravel() for one in marks))


@remembered
def _clauses(text: str, whole: bool) -> tuple[Clauses, list[Ints]]:
    """The clauses of a text, and where what closes them begins and ends [m, 2].

    The marks of clauses and those of sentences, with the white space before.
    """
    sentences, (needs, _) = sentence_edges(text), needed_sentences(text)
    each = np.arange(len(sentences))
    clauses = Clauses(sentences, each, needs, each[:0]) if whole else Clauses.of(text, sentences, needs)
    begins, edges = clauses.begins.tolist(), sentences.tolist()
    separating = (_CLAUSE.match(text, start, end) for start, end in pairwise([*begins, len(text)]))
    ending = (_ENDED.match(text, start, end) for start, end in pairwise([*edges, len(text)]))
    found = ([one.span(1) for one in ends if one] for ends in (separating, ending))
    return clauses, [np.asarray(spans, np.int64).reshape(-1, 2) for spans in found]


@dataclass(slots=True, eq=False)
class PieceGroups:
    """Sentences or clauses [g] that are kept or dropped as a whole; a clause only together with its host."""

    host: list[int]  # the group that each needs, before it; itself where it needs none
    cost: list[int]  # target tokens that its missing units add
    plain: list[float]  # worth of its missing units, those of names and numbers as if they were repeated
    facts: list[dict[int, float]]  # the distinct names and numbers of its missing units, with what each adds where new
    known: set[int]  # the names and numbers that are kept
    kept: list[bool]  # whether it is kept

    @classmethod
    def of(cls, group: Ints, host: Ints, keep: Bools, units: tuple[Floats, Ints, Ints]) -> PieceGroups:
        """Of units in groups [u], some of which are kept; `units`: worth, target tokens and fact (-1: none) of each."""
        missing, number = (~keep).nonzero()[0], len(host)
        owner, (worth, costs, fact) = group[missing], (values[missing] for values in units)
        told = (fact >= 0).nonzero()[0]
        plain = np.bincount(owner, np.where(fact >= 0, REPEATED * worth, worth), number)
        facts: list[dict[int, float]] = [{} for _ in range(number)]
        for place, one, value in zip(owner[told].tolist(), fact[told].tolist(), worth[told].tolist(), strict=True):
            facts[place][one] = max(facts[place].get(one, 0.0), (NEW - REPEATED) * value)
        cost = np.bincount(owner, costs, number).astype(np.int64)
        kept = np.bincount(owner, minlength=number) == 0
        return cls(host.tolist(), cost.tolist(), plain.tolist(), facts, set(units[2][keep].tolist()), kept.tolist())

    def take(self, budget: int, most: int) -> None:
        """Keep the groups of most gain per token that fit into `budget` with their hosts.

        The best one may have `most`. What gains nothing stays away.
        """
        left = max(budget, most)
        guests: dict[int, list[int]] = defaultdict(list)
        for number, host in enumerate(self.host):
            guests[host].append(number)
        waiting = [(-math.inf, number) for number, kept in enumerate(self.kept) if not kept]
        while waiting:
            _, number = heappop(waiting)
            if self.kept[number]:
                continue
            found, cost = self._with_hosts(number, left)
            value = -self._gain(found) / max(1, cost)
            if cost > left or not value:
                continue
            if waiting and value > waiting[0][0]:
                heappush(waiting, (value, number))
                continue
            left = max(min(left, budget), cost) - cost
            for one in found:
                self.kept[one] = True
                self.known.update(self.facts[one])
                for guest in guests[one]:
                    heappush(waiting, (-math.inf, guest))

    def _with_hosts(self, group: int, most: int) -> tuple[list[int], int]:
        """A dropped group with what it needs of those that are dropped, as far as these cost no more, and the cost."""
        found, cost = [group], self.cost[group]
        while cost <= most and not self.kept[host := self.host[found[-1]]] and host != found[-1]:
            found.append(host)
            cost += self.cost[host]
        return found, cost

    def _gain(self, groups: Sequence[int]) -> float:
        """What keeping dropped groups adds."""
        facts = {fact: value for group in groups for fact, value in self.facts[group].items()}
        new = sum(value for fact, value in facts.items() if fact not in self.known)
        return new + sum(self.plain[group] for group in groups)
