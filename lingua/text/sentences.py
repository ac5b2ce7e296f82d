"""Where sentences and clauses begin, in every script: `sentencex` for sentences, rules for clauses."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise

import numpy as np
import regex
import sentencex

from lingua.prompt import Ints, Span
from lingua.text.lines import BEFORE, ITEM, PARAGRAPH, layout, opening, plain
from lingua.text.phrases import either, phrases
from lingua.text.speakers import speeches
from lingua.text.words import code_points, members, remembered, uncut, unmarked, word_edges

CLAUSE_WORDS = 3
"""Words of a clause at least: what a comma parts off in fewer stays with what stands before."""
SEPARATES = r"[,;،؛၊、，；–—]"
ENDS_SENTENCE = r"[.!?…؟।。．！？]"
_PAIRS = "|".join(rf"\{a}[^\{a}\{b}]{{1,300}}\{b}" for a, b in ("()", "[]", "“”", "（）", "「」", "«»"))
_ENCLOSED = regex.compile(rf"{_PAIRS}|(?<!\w)\"[^\"\n]{{1,300}}\"")
_BRACKETS = either(
    r"(?<=[\p{L}\p{N}\p{Po}\p{Pf}%])[^\S\n]+\([^()\[\]{}=<>|\\]{4,300}\)(?=[\s.,;:!?]|\Z)(?!\s*[{=]|(?<=\.[^\S\n]+\([^()]+\))\.)",
    r"（[^（）]{2,300}）",
)
RESTRICTS = rf"(?i:{phrases('restricts')})"
"""What says that something does not hold, or when, where and how far alone it does."""
_BOUND = either(
    r"(?!\D*\d{4}(?:\D+\d{4})*\D*\Z)\P{L}*",  # figures that are no years
    r"\W*\p{Lu}[\p{L}\p{N}-]*[\p{Lu}\p{N}][\p{L}\p{N}-]*\W*|\W*\p{Ll}+\W*",  # an abbreviation, or a small word, alone
    rf".*\b{RESTRICTS}.*",
)
"""Brackets that may be dropped from a sentence, not those of code; and what such hold that may not be."""
_SPACE = regex.compile(r"(?r)\s{0,200}")
_WITHIN = either(
    rf"(?r)\b(?:{phrases('abbreviates', '')})\.",
    r"(?:\A|\n|:\s)\s{0,9}\d{1,3}\.|(?:\A|\n)\s{0,9}\[\d{1,3}\]",  # the number of an item or a note
)
"""How what no sentence ends behind does end."""
_GLUED = either(
    r"(?<=[\w)\]]\.)(?:[_\p{Ll}\p{N}]|\*+\s*?(?:\n|\Z))",
    r"\s*[,;]|(?<=!)\[|(?<=\")\"+\s*\n",
    r"(?<=[:;](?:\s(?i:and|or|und|oder))?)[^\S\n]+\((?:\p{L}|\d\d?|[IVX]{2,4})\)\s",  # an item within a sentence
    r"(?<=\b\p{Ll}+\.\p{Ll}+\.)\p{Lu}\p{L}",  # an address without its scheme
    r"(?<=\b[ap]\.m\.)\s+\p{Lu}{2,4}\b",  # the zone of a time
    r"(?<=\b\d\d?\.)[^\S\n]+(?:Jan|Feb|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez)(?:\.|\p{Ll}*\b)",
    rf"(?<=[\p{{L}}\p{{N}})][.!])[^\S\n]+(?:{phrases('excepts')})[^.!?,;:\n]{{1,40}}[.!]",
)
"""What goes on with the sentence before it."""
_SMALL = regex.compile(r"(?<=[.!?\]])[^\S\n]+[^\p{L}\p{N}\n]{0,2}+\p{Ll}(?!\))")
"""A small letter goes on with the sentence, unless its writer has none but small ones."""
_LETTERS = regex.compile(r"[\p{L}\p{N}]+")
_ENGLISH = regex.compile(rf"\b(?i:{phrases('english')})")
"""What a text in English holds, in which alone clauses are told apart."""
LEADS = regex.compile(rf"(?i:{phrases('leads')})")
_LED = regex.compile(rf"\W*(?:{LEADS.pattern})")
_NAMED = regex.compile(r"[^\p{L}\p{N}\r\n]*[\p{Lu}\p{N}]")
LOOSE = either(LEADS.pattern, phrases("loosens"))
_NEEDED = either(phrases("supposes"), phrases("completes"))
"""Without a clause that opens with these the rest says something else."""
_LIMITS = regex.compile(rf"\W*(?:(?:and|but|yet) (?:then )?)?(?!but\b){RESTRICTS}")
"""And such that open with what restricts the rest."""
_AND_TO = regex.compile(r"\W*(?:and|or) to\b")
"""How the second of two infinitives opens: it goes with a stretch that is the first."""
_LEANS = either(LOOSE.pattern, phrases("supposes"))
"""And with these it is no main clause."""
_SUBORDINATE = rf"\b(?:and|but|or|yet|so)\s+(?:{phrases('subordinates')})[^,]*,"
HANGS = either(
    rf"\b(?:{phrases('hangs')})(?:\s(?:still|also|now|then|never|always|often|later))?\s*(?:,(?:[^,]*,)?\s*)?\Z",
    rf"{_SUBORDINATE}(?:\s+(?:and\s+(?:the\s+)?)?\p{{Lu}}[^,]{{0,40}},)*\s*\Z",
    r"\beither\b(?!.*\bor\b)|\bneither\b(?!.*\bnor\b)|\b(?:both|between)\b(?!.*\band\b)|\bnot only\b(?!.*\bbut\b)",
    r"\b(?:rang|var)(?:ed|es|ies|ing|ied|ying)\sfrom\b(?!.*\bto\b)",
    flags=regex.DOTALL,
)
_DESCRIBES = regex.compile(r"\b(?:an?|the|its|his|her|their|our|more|most|very)\s+[\p{Ll}\p{N}-]+\s*,\s*\Z")
"""How a stretch ends that goes on behind its comma: what follows an inserted clause, or a second adjective. And what
opens the first of two things that go together, where the other is not there yet."""
_JOINS = regex.compile(r"and|but|or|nor|yet|so|then")
_CLOSES = regex.compile(r"\b(?:and|or)\s[^,]*?\s(?:in|on|at|by|to|into|for|with|from|as|through|about|\p{Ll}{3,}ing)\b")
"""How the last thing of a list ends that says something of all of them: the list stays whole."""
_SUBJECT = regex.compile(rf"\W*\w+\s+(?:{phrases('subjects')}|\p{{Lu}}|\p{{N}})")
_RELATIVE = regex.compile(r"\b(?:who|which|that|whose|where)\b")
_ACTED_ON = (
    r"\s+(?:in|on|at|by|for|to|with|as|from|that|an?|the|his|her|its|their|not|up|out|off|over|only|both|\p{Lu}|\p{N})"
)
_FINITE = rf"{phrases('states')}|{phrases('may_state', f'(?={_ACTED_ON})')}"
_STATES = regex.compile(rf"\b(?<!-)(?=\p{{Ll}})(?:(?:{_FINITE})(?![\w-])|\p{{Ll}}+n['’]t\b)")
_COUNTED = r"(?<!\b(?:some|many|most|all|both|each|several|few)\s\p{Ll}+)"
_VERB = either(_STATES.pattern, rf"\b(?<!-)(?!hundred|indeed)\p{{Ll}}{{2,}}ed{_COUNTED}(?![\w-])")
"""Finite verbs of English, the frequent ones; those that are nouns as often, before what follows a verb."""
ACTS = regex.compile(rf"\s*(?:\p{{Ll}}+ly\s+)?(?:{_VERB.pattern})")
"""What opens with a verb."""
_GOES_ON = regex.compile(rf",{ACTS.pattern}")
"""The verb of the main clause behind an inserted one that is too short to stand alone."""
_TAGS = re.compile(r"(?:[^\S\n]*</\w{1,20}>)+")  # of `re`: `regex` looks for "</" up to the end of the text first
_PARTICIPLE = regex.compile(r"\p{Ll}{2}ing\b")
SHORT, SEEN_AT_ONCE = 100, 2_000
"""Characters of a line of data at most, such as *Warranty: 3 years (battery 1 year)*, which without a verb stays whole;
and of a paragraph that `sentencex` is shown: its work grows with their square."""


@remembered
def sentence_edges(text: str) -> Ints:
    """Characters at which sentences begin, ascending, not to be written to; white space belongs to the later one.

    A line that does not go on in the next ends one, the item of a list begins one, and a row of a table or a block of
    code is one. So is who speaks, if it is several sentences.
    """
    text = plain(text)
    items, lines = [found.span() for found in opening(ITEM, text)], layout(text)
    ends = list(accumulate(map(len, _sentences(unmarked(text, items)))))[:-1]
    ends = [tags.end() if (tags := _TAGS.match(text, end)) else end for end in [*ends, *(at for at, _ in items)]]
    ends += chain.from_iterable(lines.blocks)
    last = len(text.rstrip())
    edges = {BEFORE.match(text, 0, edge).start() for edge in {*ends} if 0 < edge < last}
    breaks = {_SPACE.match(text, 0, edge).start() for edge in lines.breaks if edge < last}
    small = [edge for edge in edges if _SMALL.match(text, edge)]
    within = {edge for edge in edges if _WITHIN.match(text, 0, edge) or _GLUED.match(text, edge)}
    within |= {*small * (2 * len(small) <= len(edges))}
    turns = speeches(text)
    found = uncut(np.array(sorted({0, *edges - within, *breaks, *(turn[0] for turn in turns)})), lines.blocks)
    said = [label for _, label, end in turns if np.diff(found.searchsorted([label, end]))]
    return uncut(np.array(sorted({*found.tolist(), *said})), lines.blocks) if said else found


def _sentences(text: str) -> Iterator[str]:
    """What `sentencex` finds. It reads paragraphs by themselves, so a long one can be shown to it in windows."""
    begin = last = 0
    for end, following in [*(found.span() for found in PARAGRAPH.finditer(text)), (len(text), len(text))]:
        if end - last > SEEN_AT_ONCE:
            yield from _segment(text[begin:last])
            yield from _in_windows(text, (last, end))
            begin = end
        last = following
    yield from _segment(text[begin:])


def _in_windows(text: str, paragraph: Span) -> Iterator[str]:
    """The last sentence of a window may go on behind it, and is read again. One that fills a window is cut.

    Code, tables and data have such ones: they are cut at a line break, else behind a space.
    """
    begin, end = paragraph
    while end - begin > SEEN_AT_ONCE:
        window = text[begin : begin + SEEN_AT_ONCE]
        cut = window.rfind("\n", SEEN_AT_ONCE // 2) + 1 or window.rfind(" ", SEEN_AT_ONCE // 2) + 1 or SEEN_AT_ONCE
        found = _segment(window)[:-1] or [window[:cut]]
        yield from found
        begin += sum(map(len, found))
    yield from _segment(text[begin:end])


def _segment(text: str) -> list[str]:
    """What `sentencex` finds; where it fails, which marks of several bytes make it do, what it finds in each line."""
    try:
        found: list[str] = sentencex.segment("en", text)  # whose abbreviations it knows; marks are those of all scripts
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust: no Exception, and named by no module
            raise
        found = []
    lines = [] if sum(map(len, found)) == len(text) else text.splitlines(keepends=True)
    return [one for line in lines for one in (_segment(line) if line != text else [line])] or found


@dataclass(frozen=True, slots=True, eq=False)
class Clauses:
    """What of a text's sentences may be dropped so that the rest is still a sentence that the text says."""

    begins: Ints  # characters at which stretches [s] begin, ascending, all sentences among them
    piece: Ints  # the piece [p] that each stretch is of: a clause goes on behind brackets and inserted clauses
    host: Ints  # the piece without which each piece says nothing, of a lower number; itself where it needs none
    later: Ints  # those of `begins` that do not begin a piece

    @classmethod
    def of(cls, text: str, sentences: Ints, needs: Ints) -> Clauses:
        """Of a text whose sentences begin at these characters and need an earlier one each, or itself (`needs` [s])."""
        cuts = _cuts(text := plain(text), sentences) if _ENGLISH.search(text) else []
        owners, hosts, roots, leaders = dict[int, int](), dict[int, int](), list[list[int]](), list[int]()
        for start, end in pairwise([*sentences.tolist(), len(text)]):
            edges = [start, *cuts[bisect_right(cuts, start) : bisect_left(cuts, end)], end]
            own, own_hosts = _relations([text[a:b] for a, b in pairwise(edges)])
            hosts |= {edges[piece]: edges[host] for piece, host in own_hosts.items()}
            roots += [[edges[piece] for piece, host in own_hosts.items() if piece == host]]
            body = text[start:end]
            leads = body.rstrip("*_").endswith((":", "："))
            leaders += [edges[own[-1]] if leads else roots[-1][0]]
            owners |= {edge: edges[piece] for edge, piece in zip(edges, own, strict=False)}
            bracketed = ("(" in body or "（" in body) and (len(body) > SHORT or _VERB.search(body))
            brackets = _BRACKETS.finditer(text, start + 1, end) if bracketed else ()
            for opened, closed in (found.span() for found in brackets):
                place = bisect_left(edges, opened)
                if closed <= edges[place] != opened and not _BOUND.fullmatch(text, opened, closed):
                    hosts[opened] = owners[edges[place - 1]]
                    owners |= {opened: opened} if closed == edges[place] else {opened: opened, closed: hosts[opened]}
        for at, other in enumerate(needs.tolist()):
            if other != at:
                hosts |= dict.fromkeys(roots[at], leaders[other])
        order = sorted(hosts, key=lambda piece: (piece if hosts[piece] <= piece else hosts[piece] + 0.5, piece))
        number = {piece: place for place, piece in enumerate(order)}
        begins = sorted(owners)
        pieces, needed = [number[owners[at]] for at in begins], [number[hosts[piece]] for piece in order]
        later = [at for at in begins if owners[at] != at]
        return cls(*(np.asarray(one, np.int64) for one in (begins, pieces, needed, later)))


def _cuts(text: str, sentences: Ints) -> list[int]:
    """Characters at which clauses may begin: behind a comma, a semicolon, a dash.

    Not within brackets, quotation marks, code or a date, nor where it or what stands before has fewer than
    `CLAUSE_WORDS`. Where several semicolons part a list, they alone do.
    """
    words, points = word_edges(text), code_points(text + " ")
    starts = words[1:]
    ended = members(SEPARATES)[points[starts - 1]] & ~members(r"\p{N}")[points[starts + 1]]
    wanted = uncut(uncut(starts[ended], [found.span() for found in _ENCLOSED.finditer(text)]), layout(text).blocks)
    begun = np.append(words.searchsorted(sentences), len(words))
    place = words.searchsorted(wanted)
    own = begun.searchsorted(place, side="right") - 1
    listed = members(r"[;；]")[points[wanted - 1]]
    among = listed | (np.bincount(own, listed, len(begun))[own] < 2)
    place, own = place[among], own[among]
    edges = [0]
    for at, begin, end in zip(place.tolist(), begun[own].tolist(), begun[own + 1].tolist(), strict=True):
        closes = end - at < CLAUSE_WORDS
        if at - max(edges[-1], begin) >= CLAUSE_WORDS:
            edges += [at] * (not closes)
        elif edges[-1] > begin and _NAMED.match(text, words[edges[-1]]):  # goes with what it tells more of
            edges[-1:] = [] if closes or _LED.match(text, words[begin]) else [at]
    return [int(words[at]) for at in edges[1:]]


@dataclass(eq=False)
class _Clause:
    """What the first word and the verbs of a stretch tell of it; each is found when it is first asked for."""

    text: str
    before: str | None  # the stretch before it, None if there is none
    earlier: str  # the one before that

    opener = cached_property(lambda own: found.group() if (found := _LETTERS.search(own.text)) else "")
    joins = cached_property(lambda own: bool(_JOINS.fullmatch(own.opener)))  # a conjunction opens it
    apart = cached_property(lambda own: own.joins or (own.before or "").rstrip().endswith((";", "；")))
    says = cached_property(lambda own: _VERB.search(own.text) is not None)  # a finite verb, or a participle, is in it
    states = cached_property(lambda own: _STATES.search(own.text) is not None)  # a verb is that is no participle
    tells = cached_property(lambda own: own.says and not _LEANS.fullmatch(own.opener.casefold()))  # and may not go
    acts = cached_property(lambda own: ACTS.match(own.text) is not None)  # a verb opens it
    small = cached_property(lambda own: own.opener[:1].islower())
    loose = cached_property(lambda own: bool(LOOSE.fullmatch(own.opener)) and not own.bound)  # may go whatever it says
    stands = cached_property(lambda own: _SUBJECT.match(own.text) is not None)  # with a subject of its own
    subject = cached_property(lambda own: not own.loose and own.says and (not own.joins or own.stands))
    opposes = cached_property(lambda own: own.opener in ("but", "yet") and not own.says and own.stands)

    @property
    def bound(self) -> bool:
        listed = self.text.partition(self.opener)[2][:1] == ","
        return listed or bool(_NEEDED.fullmatch(self.opener)) or _GOES_ON.search(self.text) is not None

    @property
    def hangs(self) -> bool:  # what stands before leaves it open: an auxiliary, a preposition, an adjective
        before = self.before or ""
        adds = not (self.loose or self.joins) and self.opener.islower() and _DESCRIBES.search(before) is not None
        denied = self.opener == "but" and re.search(r"\bnot\b", before) is not None
        return adds or denied or HANGS.search(self.earlier + before) is not None

    def role(self, main: _Clause, said: bool, beside: bool) -> str:
        """What it is in its sentence; the first line that holds counts.

        Told by itself, by the beginning of the main clause, by whether that said something (has its verb), and whether
        the stretch before is of it.

        main        a clause with a subject of its own, behind one: needs that if it cannot open a sentence
        led         the main clause behind an adverbial, which may then go if this can open a sentence
        predicate   of the main clause that has none yet, or goes on behind what was inserted
        more        of what stands before: without it that says something else, or nothing tells what it is
        loose       may go, and so may a `second` predicate or the next thing of a list
        """
        if said and self.opener == "so" and self.subject:
            return "predicate"
        if not self.before or (said and self.apart and (self.subject or self.opposes)):
            return "main"
        if beside and not (said or self.small) and LEADS.fullmatch(main.opener) and self.subject:
            return "led"
        if not said and self.joins and LEADS.fullmatch(main.opener):
            return "more"
        if not self.loose and ((not said and self.states) or (not beside and self.acts)):
            return "predicate"
        if self.hangs or _NEEDED.fullmatch(self.opener) or _LIMITS.match(self.text):
            return "more"
        if self.loose:
            return "loose"
        return "second" if said and (self.joins or not _VERB.search(_RELATIVE.split(self.text)[0])) else "more"


def _relations(stretches: list[str]) -> tuple[list[int], dict[int, int]]:
    """Of each stretch of a sentence the piece that it is of, and of each piece the one it says nothing without.

    Pieces are numbered as the stretches that they begin with. A rule of English (`role`), not a parser. Where no verb
    is found, as in most other languages, the sentence stays whole.
    """
    if len(stretches) != 2 and all(one.rstrip().endswith((";", "；")) for one in stretches[:-1]):
        return list(range(len(stretches))), dict.fromkeys(range(len(stretches)), 0)
    own, host, seconds = list[int](), dict[int, int](), set[int]()
    main, said = 0, False
    read = list(map(_Clause, stretches, [None, *stretches], ["", "", *stretches]))
    for at, new in enumerate(read):
        last = own[-1] if own else 0
        # of a main clause that is one stretch, with another one behind it, it does not matter: no verb is looked for
        said = said or (at > main and read[main].tells)
        role = new.role(read[main], said, last == main)
        first = main
        if role == "main":
            own[main:] = own[main:] if said else [main] * (at - main)
            main, said = at, False
        elif role == "led":
            host[main], main, said = at, at, True
        elif role == "predicate":
            said = True
        own.append({"predicate": main, "more": last}.get(role, at))
        if role == "second":
            while new.says and not read[last].says and host[last] != last:
                last = host[last]
            alike = new.says == read[last].says and (new.says or not _PARTICIPLE.search(read[last].text))
            earlier = range(1, at) if _AND_TO.match(new.text) else ()
            infinitives = [own[one] for one in earlier if read[one].opener == "to"]
            host[at] = infinitives[-1] if infinitives else host[last] if last in seconds and alike else last
            seconds.add(at)
            if not new.says and _CLOSES.search(new.text):
                listed = {at, *(one for one in seconds if host[one] == host[at])}
                own = [host[at] if one in listed else one for one in own]
        elif own[-1] == at:
            host[at] = last if role == "loose" else first if role == "main" and new.small else at
    whole = len(own) > main + 1 and not (said or read[main].tells)
    own[main:] = [main] * (len(own) - main) if whole else own[main:]
    return own, {piece: own[host[piece]] for piece in sorted(set(own))}
