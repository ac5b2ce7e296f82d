"""What the lines of a text are: which end a sentence, are data, or say nothing without an earlier one.

A line ends a sentence where its writer broke it, and goes on in the next one where the margin did. Rows of a table,
which one mark cuts in as many cells, stand under its head: what is above a rule, else a first row without figures. What
is indented or quoted further stands under the line that leads it, in code under any. Fences follow CommonMark, also
within lists and quotations, an open one running to the end.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby, pairwise, takewhile
from operator import attrgetter
from typing import NamedTuple

import regex

from lingua.prompt import Span
from lingua.text.folds import ROW, Fold, folds, pages
from lingua.text.words import remembered

BLOCK = 1_500
"""Characters of a fenced block at most that is one sentence whatever stands in it."""
_BREAKS = "\r\x0b\x0c\x85\u2028\u2029"
_ODD = re.compile("\r(?!\n)|[\x0b\x0c\x85\u2028\u2029]")
CONTAINERS = r"[ \t]*(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]+|>)*"
_FENCE = re.compile(CONTAINERS + r"(`{3,}(?=[^`]*\Z)|~{3,})")
_ITEM = re.compile(r"(?:[-*+•–]|(?:\d{1,3}|[a-zA-Z])[.)])\s")
_LED = r"|(?i::(?:\s*</\w+>)+|</(?:h[1-6]|dt|caption|summary)>|</th>\s*</tr>(?:\s*</thead>)?)"
_LEADS = re.compile(rf"(?:[:：](?: [|>][+-]?)?|[\[{{(]|<(?!/|br|hr|img|input|meta|link)\w[^<>]*(?<!/)>{_LED})\s*\Z")
CLOSES = re.compile(r"\s*(?:[\]})]+(?:\s*[;,])?|</[\w:.-]+>|`{3,}|~{3,}|\"{3}|'{3})\s*")
_RESUMES = re.compile(r"[\]})]|</|(?:else|elif|except|finally|catch)\b")
"""How lines end that lead those below, with a colon, or as they open a bracket or a tag; lines that close one; and how
those begin that need one as far to the left."""
_ENDED = regex.compile(r"(?r)[:：.!?…؟।。．！？][\"'”’»」)\]*_]*(?:</\w{1,9}>)*\s*")
_OPEN = regex.compile(r"(?r)(?:(?<=\p{L}\s)\p{Ll}{1,3}|[,،、，-])\s*")
_SMALL = regex.compile(r"[\"'“‘«(\[]{0,2}\p{Ll}")
"""How a line ends that goes on, with a short small word, a comma or a hyphen; and how one begins that goes on so."""
_WRAPPED, _FILLED, _NARROW = 20, 0.8, 50
"""Characters of a line at least that the margin broke, what it fills of the longest with the next word, and characters
of the longest of lines that are a list, if no mark ends any."""
_DATED = re.compile(r"[^\w\s]?(?:\d[-/.:,T ]?){8}|Exception in thread |(?:DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL)[: ]")
_BEGINS = re.compile(rf"[|#<]|{_ITEM.pattern}|{_DATED.pattern}")
_DATA = re.compile(
    r"\S++\Z|\W*+\Z|(?:- )?(?![A-Z])[\w\"'$@./-]++\s?[:=](?:\s|\Z)|[\w.]++\(|#|//|--\s|(?:def|class|import|return)\s"
)
_COMMENT = re.compile(r"\s*(?:#[\s!\[]|//|--\s|/\*.*\*/)")
"""What lines of a log begin with, such that go on with none; and of data: a key and its value, a call, a word alone."""
_QUERY = re.compile(r"\s*(?:SELECT|UPDATE|DELETE|INSERT|MERGE|WITH|select|update|delete from|insert into)(?:\s|\Z)")
_CLAUSES = (
    "select|from|where|set|and|or|on|using|values|(?:(?:natural|left|right|full|inner|outer|cross) ){0,2}join|group by"
    "|having|window|order by|limit|offset|fetch|union|except|intersect|when|then|else|end|returning|into|update|insert"
)
_CLAUSE = re.compile(rf"\s*(?:{_CLAUSES}|{_CLAUSES.upper()})\b|[ \t]+(?![-*•] )\S|[(),]|--")
"""How a query of SQL begins, and any other line of one."""
CUE = re.compile(r"(?:\d\d:)?\d\d:\d\d[.,]\d{3} --> [^\n]*")
_EXAMPLE = re.compile(r"\s*<(example|exemplar|demonstration|sample|shot|qa)\b[^<>]*>")
_DECORATES = re.compile(r"\s*@[\w.]+(?:\(.*\))?\s*\Z")
_MARKS, _RULE = "|\t;,", re.compile(r"(?=.*-)[ \t|:+=-]+\Z")
_QUOTED, _CELL = re.compile(r'"[^"]*"'), re.compile(r'(?:\A|[,;\t])"(?:[^"]|"")*\Z')
_NO_TITLES = re.compile(r"[={}]|\w[(\[]|\d,\d|[.!?:;]\Z")
"""What cuts lines in cells; quoted cells, and one that goes on in the next line; and what is no row of titles."""
ITEM = regex.compile(
    r"(?m)(?:^[^\S\n]*(?:[-*+•–◦▪●‣]|\d{1,3}(?:\.\d{1,2}){0,3}[.)]|\d{1,2}(?:\.\d{1,2}){1,3}(?=[^\S\n]+[“\"]?(?:\p{Lu}\p{Ll}|\p{Lu}{3}|A\s))|[IVXLC]{1,6}[.)]|\p{Ll}\)|\((?:\p{Ll}|\d\d?|[ivx]{2,4})\))[^\S\n]+|(?<=[。！？])\s*\d{1,3}[.．])(?=\S)"
)
_OPENS = re.compile("[\n。！？]")
"""The mark of an item, where a sentence begins, and none within it; and behind what it, or who speaks, can stand."""
PARAGRAPH = regex.compile(r"\n\r*\n")
_DAY, _HALF = r"(?:\d{1,4}[-./]\d\d?[-./]\d{2,4}[ T,]{1,2})?", r"(?:[^\S\n]?[AaPp]\.?[Mm]\b\.?)?"
CLOCK = rf"[^\w\n]{{0,3}}{_DAY}\d{{1,2}}[:.]\d\d(?:[:.]\d\d)?{_HALF}[^\w\n]{{0,3}}"
STAMPED = regex.compile(
    r"[^\S\n]*(?:[\p{Lu}\p{Han}@][\w.'’-]{0,20}(?:[^\S\n](?:[\p{Lu}(][\w.'’)-]{0,15}|\d|d[aeiu]|v[ao]n|bin)){0,4}"
    rf"|[^\s:]{{1,30}}(?=[^\S\n][—–]))(?:[^\S\n][^\w\n]{{1,4}}|[^\S\n])(?:(?:Today|Yesterday) at )?{_DAY}"
    rf"\d{{1,2}}:\d\d(?::\d\d)?{_HALF}[^\w\n]?(?=[^\S\n]*(?:\n|\Z))"
)
"""What parts paragraphs; a time of day, alone and with who speaks then in a line by itself."""
BEFORE = regex.compile(r"(?r)\s{0,200}(?:(?<=\s)[\"“‘«(\[])?")
"""White space behind a sentence, with what opens the next one."""


class TextLine(NamedTuple):
    """A line without its break; `start` is where the break before it begins, `end` where the next line does."""

    text: str
    start: int
    begin: int
    end: int
    nested: int | None = None  # brackets or elements that it is in, if it stood in one line with them
    wraps: bool = False  # it is a tag of an element that only wraps others

    @property
    def body(self) -> int:
        """The character behind its indentation and the marks that quote it."""
        return self.begin + len(self.text) - len(self.text.lstrip("> \t"))

    @property
    def last(self) -> int:
        return self.begin + len(self.text.rstrip()) - 1

    @property
    def depth(self) -> int:
        """How far it is indented, an item half a step further; a quotation is deeper than all around it."""
        gap = self.text[: self.body - self.begin]
        spaces = len(gap.replace("> ", "").replace(">", "").expandtabs()) + (self.nested or 0)
        return 1_000 * gap.count(">") + 2 * spaces + (_ITEM.match(self.text, len(gap)) is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where lines end sentences, and which belong together."""

    breaks: list[int] = field(default_factory=list)  # where lines begin that go on with none, with the break
    blocks: list[Span] = field(default_factory=list)  # what is one sentence whatever stands in it, ascending and apart
    under: dict[int, int] = field(default_factory=dict)  # where lines begin that need one, and a character of that
    heads: set[int] = field(default_factory=set)  # the last characters of lines that lead others

    def add(self, line: TextLine, most: int = ROW) -> None:
        """A line that goes on with none; it is one sentence if it has at most so many characters."""
        self.breaks.append(line.start)
        if len(line.text) <= most:
            self.blocks.append((line.begin, line.begin + len(line.text)))

    def add_table(self, head: TextLine, rows: Iterable[TextLine]) -> None:
        """A head, and the rows that stand under it."""
        self.add(head)
        self.heads.add(head.last)
        for row in rows:
            self.add(row)
            self.under[row.body] = head.last

    def nest(self, lines: Iterable[tuple[TextLine, bool]], root: TextLine | None = None) -> None:
        """Lines, and whether each is data, under those that lead them; all others under the `root`."""
        outer, quoted, wrappers = list[tuple[int, int, bool]](), 0, list[int]()
        for line, data in lines:
            self.add(line, BLOCK if _EXAMPLE.match(line.text) else ROW if data else 0)
            depth, quotes = line.depth, _quotes(line.text)
            closes, leads = quotes and quoted, _LEADS.search(line.text) is not None or (quotes and not quoted)
            resumes = closes or (not line.wraps and _RESUMES.match(line.text, line.body - line.begin))
            while len(outer) > quoted and outer[-1][0] >= depth and not (resumes and outer[-1][::2] == (depth, True)):
                outer.pop()
            if line.wraps:
                if line.text.startswith("</"):
                    self.under[line.body] = wrappers.pop()
                else:
                    wrappers.append(line.body)
                continue
            outer[quoted if closes else len(outer) :] = []
            leader = outer[-1][1] if outer else root.last if root else None
            if leader is not None:
                self.under[line.body] = leader
            if outer and (closes or (resumes and outer[-1][0] == depth)):
                outer.pop()
            if leads:
                self.heads.add(line.last)
            if leads or depth % 2 or (data and not resumes):
                outer.append((depth - quotes, line.last if leads else line.body, leads))
            quoted = (not quoted) * len(outer) if quotes else quoted


def _quotes(line: str) -> bool:
    """Whether three quotation marks that begin or end a line open or close several lines."""
    body = line.strip("> \tfrbu(),;") if '"""' in line or "'''" in line else ""
    return any(body.count(mark) % 2 and mark in (body[:3], body[-3:]) for mark in ('"""', "'''"))


def plain(text: str) -> str:
    """The text with every break of a line written as one, character for character."""
    return _ODD.sub("\n", text) if any(mark in text for mark in _BREAKS) else text


@remembered
def layout(text: str) -> Layout:
    """That of a text whose breaks are `plain`."""
    found, known = Layout(), set[int]()
    lines = list(_paged(text))
    for _, block in fences(lines) if "```" in text or "~~~" in text else ():
        known.update(line.begin for line in block)
        one = _one(block)
        if len(one.text) <= BLOCK and len(block) > 1 and _FENCE.match(block[-1].text):
            found.add(one, BLOCK)
        else:
            found.add_table(block[0], ())
            filled = (line for line in chain.from_iterable(map(_unfolded, block[1:])) if line.text.strip())
            found.nest(((line, True) for line in _joined(filled, _is_comment)), block[0])
    others = list(chain.from_iterable([line] if line.begin in known else _unfolded(line) for line in lines))
    others = others if len(others) > 1 or "\n" in text else []
    groups = groupby(others, lambda one: one.begin not in known and one.text.strip("> \t") and 1 + (one.nested is None))
    found.nest(chain.from_iterable(_read(found, list(group)) for filled, group in groups if filled))
    found.blocks.sort()
    return found


def _paged(text: str) -> list[TextLine]:
    """Lines, those of a page of HTML as one."""
    lines = lines_of(text)
    for begin, end in reversed([*pages(text)]):
        first, last = (bisect_left(lines, at, key=attrgetter("begin")) for at in (begin, end))
        lines[first:last] = [_one(lines[first:last])]
    return lines


def _unfolded(line: TextLine) -> Iterator[TextLine]:
    """The lines that a long one of JSON or markup holds; of any other itself."""
    cuts = [*folds(line.text), Fold(len(line.text), 0)]
    yield from [line] * (len(cuts) == 1)
    for (begin, nested, wraps), (end, *_) in pairwise(cuts):
        if body := line.text[begin:end].strip():
            at = line.begin + line.text.index(body, begin)
            yield TextLine(body, line.begin + begin, at, line.begin + end, line.depth // 2 + nested, wraps)


def _read(found: Layout, lines: list[TextLine]) -> Iterator[tuple[TextLine, bool]]:
    """Add the tables among lines without an empty one between them; yields the others, and whether each is data."""
    if lines[0].nested is not None:
        yield from ((line, lines[0].text[0] != "<" or line.text[0] == "<") for line in lines)
        return
    rows = list(_joined(lines, _in_cell)) if len(lines) > 2 else lines
    begin = at = 0
    while at < len(rows):
        size, end = _table(rows, at) if len(rows) > 2 else (0, at)
        if size:
            yield from _plain(rows[begin:at])
            found.add_table(_one(rows[at : at + size]), rows[at + size : end])
            begin = end
        at = max(at + 1, end)
    yield from _plain(rows[begin:])


def _table(rows: Sequence[TextLine], at: int) -> tuple[int, int]:
    """How many rows are the head of a table that begins here, 0: none does; and the row behind its last one."""
    first, *others = (row.text for row in rows[at : at + 3])
    ruled = len(others) > 0 and _RULE.match(others[0]) is not None
    for mark in filter(first.__contains__, _MARKS):
        cells, below = _cells(first, mark), [_cells(other, mark) for other in others]
        if cells and (ruled or (all(below) and below.count(cells) and _are_titles(first, mark))):
            inside = (_RULE.match(rows[end].text) or _cells(rows[end].text, mark) for end in range(at + 1, len(rows)))
            return 1 + ruled, at + 1 + sum(1 for _ in takewhile(bool, inside))
    return 0, at


def _cells(row: str, mark: str) -> int:
    """How many marks part cells: none that is quoted or, of commas, that a space follows."""
    bare = (_QUOTED.sub("", row) if '"' in row else row).lstrip()
    return bare.count(mark) - (bare.count(f"{mark} ") if mark in ",;" else 0)


def _are_titles(row: str, mark: str) -> bool:
    """Whether a row can be the head of a table: no cell is a figure, unless it is a year."""
    cells = [cell.strip() for cell in row.split(mark)]
    named = all(not cell or any(map(str.isalpha, cell)) or (cell.isdigit() and len(cell) == 4) for cell in cells)
    return named and not (_NO_TITLES.search(row.strip()) or _DATED.match(row))


def _plain(lines: list[TextLine]) -> Iterator[tuple[TextLine, bool]]:
    """Lines that are no table, as far as they go on; and whether each is data."""
    coded = len(lines) > 1 and 2 * sum(_is_data(line.text) for line in lines) > len(lines)
    width = max((len(line.text) for line in lines), default=0)
    listed = len(lines) > 2 and width < _NARROW and not any(_ENDED.match(line.text) for line in lines)
    goes_on = _in_statement if coded else partial(_in_paragraph, width=0 if listed else width)
    entry = False  # of a log, which what follows without a date is of, as a stack trace
    for line in _joined(lines, goes_on):
        dated = _DATED.match(line.text) is not None
        told = dated or (entry and not _ENDED.match(line.text)) or (coded and _is_data(line.text))
        yield line._replace(nested=int(entry and not dated)), told
        entry = entry or dated


def _is_data(line: str) -> bool:
    line = line.strip()
    return line[-1:] in tuple("{}[]();\\") or " = " in line or _DATA.match(line) is not None


def _joined(lines: Iterable[TextLine], goes_on: Callable[[list[TextLine], TextLine], bool]) -> Iterator[TextLine]:
    """Lines, each with those that it goes on in."""
    run = list[TextLine]()
    for line in lines:
        if run and not (_is_open(run, line) or goes_on(run, line)):
            yield _one(run)
            run = []
        run.append(line)
    yield from [_one(run)] if run else []


def _one(lines: Sequence[TextLine]) -> TextLine:
    """Several lines as one."""
    if len(lines) == 1:
        return lines[0]
    sizes = [other.begin - one.begin for one, other in pairwise(lines)]
    parts = [(one.text.ljust(size - 1) + "\n")[:size] for one, size in zip(lines, sizes, strict=False)]
    return TextLine("".join([*parts, lines[-1].text]), lines[0].start, lines[0].begin, lines[-1].end)


def _is_open(run: Sequence[TextLine], other: TextLine) -> bool:
    """Whether a query, any line of which changes all the others, an example, or what decorates or counts goes on."""
    last = run[-1].text.rstrip()
    if opened := _EXAMPLE.match(run[0].text):
        return f"</{opened[1]}>" not in last and other.end - run[0].begin <= BLOCK
    goes_on = _DECORATES.match(last) is not None or (last.isdigit() and CUE.match(other.text) is not None)
    if _QUERY.match(run[0].text) and not last.endswith(";"):
        goes_on = last.endswith((",", "(")) or bool(_CLAUSE.match(other.text) or _CLAUSE.fullmatch(last))
    return goes_on and other.end - run[0].begin <= BLOCK


def _in_cell(run: Sequence[TextLine], other: TextLine) -> bool:
    """Whether a quoted cell goes on in another line."""
    opened = _CELL.search(run[0].text) and sum(line.text.count('"') for line in run) % 2
    return bool(opened) and other.end - run[0].begin <= BLOCK and not _quotes(run[0].text)


def _is_comment(run: Sequence[TextLine], other: TextLine) -> bool:
    """Whether what ends a run says something of the line of code right below."""
    last, gap = run[-1], other.body - other.begin
    below = last.end == other.begin and last.body - last.begin == gap and not _RESUMES.match(other.text, gap)
    return below and _COMMENT.match(last.text) is not None and other.end - run[0].begin <= ROW


def _in_statement(run: Sequence[TextLine], other: TextLine) -> bool:
    """Whether a comment, or a bracket that is open within a line of code, holds another, that indented further."""
    text = run[-1].text.rstrip()
    if text.endswith(("(", "[", "{")) or other.end - run[0].begin > ROW or other.depth <= run[0].depth:
        return _is_comment(run, other)
    opened = [sum(line.text.count(mark) for line in run) for mark in "([{)]}"]
    return sum(opened[:3]) > sum(opened[3:])


def _in_paragraph(run: Sequence[TextLine], other: TextLine, width: int) -> bool:
    """Whether a sentence runs through the break between two lines, the longest being `width`; 0: they are a list."""
    one, begun = run[-1].text.rpartition("\n")[2], other.text.lstrip("> \t")
    if not begun.strip("-=~ \t"):
        return True  # it underlines a heading
    apart = (one.isupper() and not begun.isupper()) or any(end.match(one) for end in (_ENDED, STAMPED, CUE))
    if apart or _BEGINS.match(begun) or _quotes(one) or _quotes(begun):
        return False
    if _OPEN.match(one) or (width and _SMALL.match(begun)):
        return True
    return len(one) >= _WRAPPED and len(one) + 1 + len(begun.split(None, 1)[0]) > _FILLED * width > 0


def lines_of(text: str) -> list[TextLine]:
    lines = list[TextLine]()
    start = begin = 0
    for line in text.split("\n"):
        body = line.rstrip("\r")
        lines.append(TextLine(body, start, begin, min(begin + len(line) + 1, len(text))))
        start, begin = begin + len(body), begin + len(line) + 1
    return lines if lines[-1].text else lines[:-1]


def fences(lines: Sequence[TextLine]) -> Iterator[tuple[Span, list[TextLine]]]:
    """Each fenced block: its range, from the break before it on, and its lines."""
    block, fence = list[TextLine](), ""
    for line in lines:
        found = _FENCE.match(line.text)
        if not block and found is not None:
            block, fence = [line], found[1]
        elif block:
            block.append(line)
            body = line.text.strip(" \t>")
            if len(body) >= len(fence) and not body.strip(fence[0]):
                yield (block[0].start, line.end), block
                block = []
    if block:
        yield (block[0].start, block[-1].end), block


def opening(pattern: regex.Pattern[str], text: str) -> Iterator[regex.Match[str]]:
    """What is found where a line begins; at every character it would be looked for in vain."""
    return filter(None, (pattern.match(text, at) for at in (0, *(found.end() for found in _OPENS.finditer(text)))))
