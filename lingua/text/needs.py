"""What each sentence of a text needs to be understood: who it is about, its heading, its question, what leads its list.

Rules of reading, not a parser: how a sentence opens and ends, the mark of its item, its place among lines. The words
that they know are those of `phrases`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import regex

from lingua.prompt import Bools, Ints
from lingua.text.lines import CLOSES, ITEM, layout, plain
from lingua.text.phrases import either, phrases
from lingua.text.sentences import ENDS_SENTENCE, sentence_edges
from lingua.text.speakers import speeches
from lingua.text.words import remembered

_LEFT = regex.compile(r"(?r)(?<! --> [\d:.,]*)[\p{L}\p{N}]\s*")
"""How a line ends that goes on in items below it."""
_MARKED = either(
    r"(?:#{1,6}[^\S\n]|<h[1-6]\b)[^\n]*\Z",
    r"\[[\w. -]{1,40}\]\Z",  # the section of a file of settings
    r"[^\n]+\n[^\S\n]*([-=~])\1{2,}\s*\Z",  # underlined
)
"""A line that is a heading, whatever it says."""
_ALONE = regex.compile(r"[^\S\n]*+\n[^\S\n]*+\n")
_TEXT = rf"(?![^\n]*[?？]\s*?\n)[^\n]*(?:{ENDS_SENTENCE}(?:\W|\[\d+\])*?|[:：][^\S\n]*)(?:\n|\Z)"
_NO_TEXT = r"[^\n]*?(?:[\d|]|\S(?:[^\S\n]{2,}|\t|[^\S\n][-–—][^\S\n])\S)"
_LEADS_ON = either(
    rf"[^\n]*\n(?:{ITEM.pattern}|{_TEXT})",  # above items or a paragraph
    r"\p{Lu}[^\p{Ll}\d\n]+(?=\n[^\n]*\p{Ll})[^\S\n]*\n",  # in capitals
    r"\p{Lu}[\p{L}.'’-]*(?:[^\S\n]\p{Lu}[\p{L}.'’-]*){0,3}[^\S\n]*\n",  # like a name
    rf"\p{{Lu}}[\p{{L}}'’-]+(?:,?[^\S\n][\p{{L}}'’-]+)*(?=\n{_NO_TEXT})[^\S\n]*\n",  # of letters alone
)
_NO_HEADING = either(
    r"[.!?…。！？；;,，；][\"”’)\]]*\s*\Z",
    r"\A(?:[-*+•–]\s|`{3}|~{3}|[<|])|\A\P{L}+\Z",
    r"\S\s*\n\s*\S",  # several lines
    r"\w{30}|://|[={}]|\w[_(]|_\w|\S(?:[^\S\n]{3}|\t)|\A(?:import|from)\s",  # code or data
)
"""A line by itself; one that heads what is right below; and what is no heading though it is short."""
_OPENED = r"[^\w\"“'‘]*"
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_ADVERBIAL = (
    rf"(?i:{phrases('leads')}|then|later|finally|eventually|afterwards|soon|once)"
    rf"(?:,?\s(?:[\p{{Ll}}\p{{N}}-]+|{_MONTHS})(?<!\b(?:that|who|which))){{0,6}}?,?\s"
)
_THEIRS = rf"(?:(?:{phrases('places')})\s)?(?:his|her|its|their)\b"
_REFERS = regex.compile(rf"{_OPENED}(?:(?i:{_THEIRS}|{phrases('refers')})|{_ADVERBIAL}(?:he|she|they)\b)")
"""How a sentence opens that tells only with an earlier one whom it is about."""
_EXPLETIVE = either(
    r"\W*It\s+(?:is|was|has been|seems|appears|became|will be|can be|may be)\s+(?:\w+\s+){0,2}?"
    r"(?:that|whether|how|why)\b",
    r"\W*It\s+(?:is|was|has become|became)\s+(?:\w+ly\s+)?(?:more\s+)?(?:important|possible|necessary|difficult|hard"
    r"|easy|impossible|essential|useful|likely|common|best|better|time)\b",
    r"\W*It\s+(?:takes?|took)\b",
    r"\W*(?:Es (?:gibt|gab)|Il (?:y a|est|faut))\b",
)
"""And with an *it* that means nothing."""
_PARTED = r"(?:all|both|each|many|most|none|one|some|several|two|three|because) of|(?:due|prior|thanks|in addition) to"
_THOSE = (
    rf"(?:{_PARTED}|like|unlike|among|through|{phrases('places')}) (?:this|these|those|that|them|such)"
    r"(?! (?:who|paper|article|study|section|chapter|book|report|review|work))\b"
)
_FOLLOWS = either(
    rf"[–—=≈→⇒]\s|{_OPENED}(?i:{_THOSE}|{phrases('follows')})",
    r"[^.!?\n]{0,200}\b(?:if|when) (?:this|that) (?:happens|occurs|is the case)\b",
)
"""And of which it says something of the one right before."""
_SAID = regex.compile(r"\W*(?:“[^“”]+”|«[^«»]+»|„[^„“]+“|\"[^\"]+\")\W*")
"""What is all in quotation marks: who says it stands before."""
_NOTED = regex.compile(r"(?<=[\w)])(\*{1,3}|[†‡])(?![\w*])")
_NOTE = regex.compile(r"(\*{1,3}|[†‡])(?=\w)(?![^\n]*\*)")
"""What a word is marked with on which there is a note; and how the note opens."""
_CALLED = regex.compile(
    r"(?:\(?\p{Ll}\)|\P{L}*)\s*(?:(?:\p{Lu}[\p{L}'’-]*+|and|of|or|the|to|for|in|on|by|with|&|und|et|y)[,;]?"
    r"(?:[^\S\n]+|(?=\.))){1,7}\.[^\S\n]+(?=\S)"
)
_ANSWERS = regex.compile(rf"[*_]{{0,2}}(?:{phrases('answers', '')})\s?\d{{0,3}}[*_]{{0,2}}[:：]")
_NARROWS = regex.compile(r"\s*[\p{L} ]{1,30}[:：]\s+[\p{Ll}\p{N}]")
"""The title of an item before its first sentence; how an answer opens; and a label that goes on in the words behind it,
of which all that follows them may be no part."""
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
    subject, begun, noted = 0, -1, dict[str, int]()
    for at, one in enumerate(read):
        note = _NOTE.match(one.body) if one.line else None
        noted.update(dict.fromkeys(_NOTED.findall(one.body), at))
        begun = at if one.item or note else one.under if one.under >= 0 else -1 if one.line else begun
        refers = _REFERS.match(one.body) is not None
        if note:
            needs[at] = noted.get(note[1], needs[at])
        elif needs[at] == at and not one.opens:
            if refers and not (heads[at] or _EXPLETIVE.match(one.body)):
                needs[at] = subject
            elif not heads[at] and (_FOLLOWS.match(one.body) or (not one.line and _SAID.fullmatch(one.body))):
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
            said[said == np.arange(at, following)] = at if _NARROWS.match(text, begin) else first
            needs[at] = first if needs[at] == at else needs[at]
        asked, last = first, end
