"""Clauses and sentences of a part: what coherent methods keep or drop as a whole, and how a cut sentence is closed.

Of a sentence any clauses may go; between two kept spans that were not neighbours a mark of punctuation always stands.
A kept clause has its own; where the rest of its sentence is dropped, the mark that ends the sentence takes its place.
So no two spans run into a sentence that the text does not say, and nothing is written that the text does not have.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import regex

from lingua.prompt import Bools, Floats, Ints
from lingua.text.lines import CLOSES, ITEM, layout, plain, speeches
from lingua.text.sentences import ACTS, ENDS_SENTENCE, LEADS, SEPARATES, Clauses, sentence_edges
from lingua.text.words import among, ascending, code_points, members, remembered

NEW, REPEATED = 6.0, 0.3
"""What the first mention of a name or number counts, and a later one: of its evidence."""
_CLAUSE = regex.compile(rf"(?r)(\s*{SEPARATES})\s*")
_ENDED = regex.compile(rf"(?r)(\s*{ENDS_SENTENCE})[\"'”’»」)\]]*\s*")
"""Their marks; behind the one that ends a sentence quotation marks and brackets may be closed."""
_LEFT = regex.compile(r"(?r)(?<! --> [\d:.,]*)[\p{L}\p{N}]\s*")
_MARKED = regex.compile(r"(?:#{1,6}[^\S\n]|<h[1-6]\b)[^\n]*\Z|\[[\w. -]{1,40}\]\Z|[^\n]+\n[^\S\n]*([-=~])\1{2,}\s*\Z")
_ALONE = regex.compile(r"[^\S\n]*+\n[^\S\n]*+\n")
_TEXT = rf"(?![^\n]*[?？]\s*?\n)[^\n]*(?:{ENDS_SENTENCE}(?:\W|\[\d+\])*?|[:：][^\S\n]*)(?:\n|\Z)"
_NO_TEXT = r"[^\n]*?(?:[\d|]|\S(?:[^\S\n]{2,}|\t|[^\S\n][-–—][^\S\n])\S)"
_LEADS_ON = regex.compile(
    rf"[^\n]*\n(?:{ITEM.pattern}|{_TEXT})|\p{{Lu}}(?:[^\p{{Ll}}\d\n]+(?=\n[^\n]*\p{{Ll}})|[\p{{L}}.'’-]*(?:[^\S\n]\p{{Lu}}[\p{{L}}.'’-]*){{0,3}}"
    rf"|[\p{{L}}'’-]+(?:,?[^\S\n][\p{{L}}'’-]+)*(?=\n{_NO_TEXT}))[^\S\n]*\n"
)
"""How a line ends that goes on in items below it. A line that is a heading, whatever it says; one by itself; and one
above items or a paragraph or, in capitals or like a name, above any line, or of letters alone above no running text."""
_NO_HEADING = regex.compile(
    r"[.!?…。！？；;,，；][\"”’)\]]*\s*\Z|\A(?:[-*+•–]\s|`{3}|~{3}|[<|])|\w{30}|://|\S\s*\n\s*\S|\A\P{L}+\Z"
    r"|[={}]|\w[_(]|_\w|\S(?:[^\S\n]{3}|\t)|\A(?:import|from)\s"
)
_OPENED = r"[^\w\"“'‘]*(?:(?i:"
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_REFERS = regex.compile(
    rf"{_OPENED}(?:(?:in|at|on|by|for|during|after|before|from|with|under|of|to|despite|throughout|following)\s)?"
    r"(?:his|her|its|their)|he|she|it|they|er|sie|es|ihre?|seine?|ils?|elles?|ella|ellos|ellas|él|sus?|egli|lui|lei|loro|suoi?|sua|eles?|elas?|seus?|suas|он[аои]?|его|её|их|ona|oni|jego|jej)\b|[他她它]|其(?!中|实|次|余)|彼(?:女|ら)?[はがのを]|그(?:는|가|녀|들)"
    rf"|[وف]?(?:هو|هي|هما?)\s|(?i:{LEADS.pattern}|then|later|finally|eventually|afterwards|soon|once)"
    rf"(?:,?\s(?:[\p{{Ll}}\p{{N}}-]+|{_MONTHS})(?<!\b(?:that|who|which))){{0,6}}?,?\s(?:he|she|they)\b)"
)
_EXPLETIVE = regex.compile(
    r"\W*It\s+(?:(?:is|was|has been|seems|appears|became|will be|can be|may be)\s+(?:\w+\s+){0,2}?(?:that|whether|how"
    r"|why)|(?:is|was|has become|became)\s+(?:\w+ly\s+)?(?:more\s+)?(?:important|possible|necessary|difficult|hard|easy"
    r"|impossible|essential|useful|likely|common|best|better|time)|takes?|took)\b"
    r"|\W*(?:Es (?:gibt|gab)|Il (?:y a|est|faut))\b"
)
"""How sentences open that tell only with an earlier one whom they are about; and with an *it* that means nothing."""
_FOLLOWS = regex.compile(
    rf"[–—=≈→⇒]\s|{_OPENED}this|these|that|those(?! who)|such|however|nevertheless|nonetheless|therefore|thus|hence"
    r"|instead|otherwise|consequently|conversely|but|yet|the (?:latter|former|others?)|for (?:example|instance)"
    r"|in contrast|in other words|as a result|that is|at any rate|in any case|either way|since then|by then|in turn"
    r"|as such|even so|(?:(?:all|both|each|many|most|none|one|some|several|two|three|because) of|(?:due|prior|thanks|in"
    r" addition) to|despite|like|unlike|in|at|on|by|for|during|after|before|from|with|under|among|of|to|through)"
    r" (?:this|these|those|that|them|such)(?! (?:who|paper|article|study|section|chapter|book|report|review|work)))\b"
    r"|(?i:dies\w{0,2}|allerdings|jedoch|daher|deshalb|trotzdem|dennoch|aber|zudem|außerdem|danach|dabei|damit|dadurch|ensuite|puis|ce(?:tte|la|s)?|cependant|quest[oaei]|quell[oaei]|tuttavia|però|quindi|perciò|inoltre|dunque|isto|isso|ess[ae]s?|aquel[ea]s?|porém|contudo|portanto|depois|mas|это[тй]?|эт[аи]|однако|поэтому|но|затем|потом|например|jednak|dlatego|natomiast|następnie|potem|ponadto"
    r"|toutefois|mais|donc|est[aeo]s?|es[aeo]s?|sin embargo|pero|luego|además|por (?:eso|ejemplo))\b"
    r"|这|该|此|上述|其中|但|不过|然而|因此|所以|否则|例如|[こそ][のれ]|しかし|また|ただし|なお|そのため|そこで|さらに|つまり|例えば|그러나|하지만|그래서|따라서|그러므로|또한|다만|이는|이것|그것|[그이]\s|و?هذ[اه]|و?ذلك|لذلك|لكن|ولكن|وأضاف|وقال|وأكد)"
)
"""And such that say something of the one right before."""
_CALLED = regex.compile(
    r"(?:\(?\p{Ll}\)|\P{L}*)\s*(?:(?:\p{Lu}[\p{L}'’-]*+|and|of|or|the|to|for|in|on|by|with|&|und|et|y)[,;]?(?:[^\S\n]+|(?=\.))){1,7}\.[^\S\n]+(?=\S)"
)
_ANSWERS = regex.compile(
    r"[*_]{0,2}(?:A|Ans|Answer|Reply|Output|Antwort|Ausgabe|Respuesta|Salida|Réponse|Sortie|答案?|回答|输出)\s?\d{0,3}[*_]{0,2}[:：]"
)
_CATCHES = regex.compile(r"\s*(?:except|finally|\}?\s*catch)\b")
"""The title of an item before its first sentence; how an answer opens; and the branch without which `try` is none."""
DEEPEST = 20
"""Sentences of which each needs the one before at most, so that work grows as the text does."""
HEADING_WORDS, _PLAIN = 8, 8
"""Words of a heading without a mark: half as many more with a number, twice as many above a text; and its level."""


class _Sentence(NamedTuple):
    """How a sentence opens and ends."""

    body: str
    opens: bool  # it is the first of a paragraph
    line: bool  # it is the first of a line
    item: str  # the mark of an item that opens it with white space before it, one figure or letter for any; "": none
    title: int  # its level, if it is a heading, else 0
    leads: bool  # what stands behind it needs it
    under: int  # the sentence that leads its line, -1: none does


@remembered
def needed_sentences(text: str) -> tuple[Ints, Bools]:
    """Of each sentence [s] the one before it that it needs, itself where it needs none; and which only head others.

    What refers back needs what it is about, an item what leads it, an answer its question, all else its heading.
    """
    read = _unlisted(list(_read(text := plain(text))))
    needs, heads = _need_heads(read)
    subject, begun = 0, -1
    for at, one in enumerate(read):
        begun = at if one.item else one.under if one.under >= 0 else -1 if one.line else begun
        refers = _REFERS.match(one.body) is not None
        if needs[at] == at and not one.opens:
            if refers and not (heads[at] or _EXPLETIVE.match(one.body)):
                needs[at] = subject
            elif _FOLLOWS.match(one.body) and not heads[at]:
                needs[at] = at - 1
            elif begun >= 0 and not one.line:
                needs[at] = begun
        if (one.opens or not refers) and " --> " not in one.body:  # the time of a subtitle
            subject = at
    _need_speakers(text, needs, heads)
    needs = np.where(needs == np.arange(len(needs)), list(_headings(read)), needs)
    depth = np.zeros(len(needs), np.int64)
    for at in (needs < np.arange(len(needs))).nonzero()[0].tolist():
        depth[at] = (depth[needs[at]] + 1) % DEEPEST
        needs[at] = needs[at] if depth[at] else at
    return needs, heads


def _read(text: str) -> Iterator[_Sentence]:
    spoken, lines, edges = {begin for begin, *_ in speeches(text)}, layout(text), sentence_edges(text)
    marks = (lines.under, lines.under.values(), lines.heads, lines.breaks)
    below, above, *others = ((edges.searchsorted([*one], "right") - 1).tolist() for one in marks)
    under, (heads, begun) = dict(zip(below, above, strict=True)), map(set, others)
    for at, (start, end) in enumerate(pairwise([*edges.tolist(), len(text)])):
        body = text[start:end].lstrip()
        gap = text[start : end - len(body)]
        opens = not start or gap.count("\n") > 1
        item = ITEM.match(text, start + gap.rfind("\n") + 1) if opens or "\n" in gap else None
        closed = opens and text.find("\n", end, end + 3) >= 0  # or a search for it would go on to the text's end
        mark = regex.sub(r"[^\W\d]+", "a", regex.sub(r"\d+", "1", item.group())) if item else ""
        above = closed and _LEADS_ON.match(text, end - len(body))
        few = len(body.split()) <= HEADING_WORDS * (1.5 if item else 1 if start else 1 + body[:1].isupper())
        named = closed and few and (_ALONE.match(text, end) or above) and not _NO_HEADING.search(body)
        asked = above and few and body.rstrip().endswith("?")
        title = closed and start not in spoken and bool(named or asked or _MARKED.match(body))
        level = len(body) - len(body.lstrip("#")) or _PLAIN - body.isupper()
        leads = at in heads or (item is not None and _CALLED.match(text, end - len(body)) is not None)
        line = opens or item is not None or at in begun
        yield _Sentence(body, opens, line, mark, title * level, leads, min(under.get(at, -1), at - 1))


def _unlisted(read: list[_Sentence]) -> list[_Sentence]:
    """The same without headings that are items of a list: next to one with such a mark, or below two lines or more."""
    marks, apart = ["", *(one.item for one in read), ""], [*(one.opens for one in read[1:]), True]
    listed = {at for at, mark in enumerate(marks[1:-1]) if mark and apart[at] and mark in (marks[at], marks[at + 2])}
    for alone, run in groupby(range(len(read)), lambda at: read[at].title == _PLAIN and not read[at].item):
        lines = list(run)
        listed.update(lines[1:] if alone and len(lines) > 2 else ())
    return [one._replace(title=0) if at in listed else one for at, one in enumerate(read)]


def _headings(read: Sequence[_Sentence]) -> Iterator[int]:
    """The heading of each, itself where there is none; of a name the question before, of the rest of a formula that."""
    above = list[tuple[int, int]]()
    for at, one in enumerate(read):
        heads = one.title and not one.leads
        level = 1 if not at and any(two.title and not two.leads for two in read[1:2]) else one.title
        while heads and above and above[-1][0] >= level:
            above.pop()
        answers = heads and at and level >= _PLAIN - 1 and read[at - 1].body.rstrip().endswith(("?", "？"))
        goes_on = one.opens and one.body[:1].islower() and read[at - 1].body.endswith(("$$", "\\]"))
        yield at - 1 if answers or goes_on else above[-1][1] if above else at
        above += [(level, at)] * bool(heads)


def _need_heads(read: Sequence[_Sentence]) -> tuple[Ints, Bools]:
    """What is listed needs the line above its list or, as marks tell, the item it is in."""
    needs, heads = np.arange(len(read)), np.zeros(len(read), bool)
    colon, lists, leaders = -1, dict[str, int](), set[int]()
    for at, one in enumerate(read):
        leaders.add(one.under)
        if one.title or (one.opens and not one.item and at > colon + 1) or (one.leads and one.line and not one.item):
            lists.clear()
            colon = colon if one.leads and at == colon + 1 else -1
        if one.under < colon and (colon in leaders or (one.under >= 0 and (at > colon + 1 or one.body[:2] == "</"))):
            colon = -1  # indented lines were its list
        begun = one.item and not (one.opens or read[at - 1].item or read[at - 1].under >= 0)
        if colon < 0 and begun and _LEFT.match(read[at - 1].body):
            heads[at - 1], colon = True, at - 1
        if one.item:
            colon = lists.setdefault(one.item, colon)
            while next(reversed(lists)) != one.item:
                lists.popitem()
        goes_on = one.line and needs[at - 1] == colon and not CLOSES.fullmatch(read[at - 1].body.rpartition("\n")[2])
        listed = colon >= 0 and (bool(one.item) or at == colon + 1 or goes_on)
        if one.title and not one.leads:
            heads[at] = True
        elif 0 <= one.under >= colon or (listed and (one.item or not one.body.rstrip().endswith((":", "：")))):
            needs[at] = max(one.under, colon)
        if one.leads:
            heads[at], colon = True, at
    return needs, heads


def _need_speakers(text: str, needs: Ints, heads: Bools) -> None:
    sentences, asked, last = sentence_edges(text), 0, -1
    for begin, label, end in speeches(text):
        at, behind, following = np.searchsorted(sentences, [begin + 1, label, end]).tolist()
        first = at - 1
        if first and ((answers := _ANSWERS.match(text[begin:label].lstrip())) or text[begin - 1] in "?？"):
            needs[first], heads[first - 1] = first - 1, heads[first - 1] or answers is not None
            if answers and last == begin:  # what was asked, all of it
                needs[asked + 1 : first], heads[asked:first] = np.arange(asked, first - 1), True
        if behind == at < following and sentences[at] == label:
            heads[first], said = True, needs[at:following]
            said[said == np.arange(at, following)] = first
        asked, last = first, end


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The clauses [c] and the sentences [s] of units [u], and which units close them."""

    clause: Ints  # of each unit
    host: Ints  # the clause that each clause needs, before it; itself where it needs none
    begins: Ints  # characters at which sentences begin
    needs: Ints  # the sentence that each sentence needs, as clauses do
    heads: Bools  # whether a sentence only heads others
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
        return cls(
            clauses.piece[clauses.begins.searchsorted(begins, side="right") - 1],
            clauses.host,
            sentences,
            needs,
            heads & (np.bincount(needs[guests], minlength=len(needs)) > 0),
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
