"""Where JSON and markup (HTML, XML) in one long line would be broken, were they written on several; and how deep."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lingua.prompt import Span

ROW, _FOLDS = 300, 20
"""Characters of a line at most that is one sentence whatever stands in it; in how many lines a long one is cut."""
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+'
_NUMBER = r"(?:-?\d[\d.eE+-]*+|true|false|null)(?=[\]},\s]|\Z)"
_JSON = re.compile(rf"(?s)(?=.{{{ROW + 1}}})\s*+(?=[\[{{])(?:[\[\]{{}},:\s]|{_STRING}|{_NUMBER})*+\Z")
_BRACKETS = re.compile(rf"(?s){_STRING}|(?P<opens>[\[{{])|(?P<ends>[\]}}])(?:\s*,)?|(?P<parts>,)")
_PAIRS = str.maketrans("]}", "[{")
"""A long line of JSON, which may break off; and what it is cut at, outside of strings."""
_RAW = r"(?i:<!--(?s:.*?)(?:-->|\Z)|<(?:script|style)\b(?s:.*?)(?:</(?:script|style)>|\Z))"
_BLOCKS = (
    "address|article|aside|blockquote|body|center|dd|details|div|dl|dt|fieldset|figure|footer|form|h[1-6]|head|header"
    "|html|li|main|menu|nav|ol|p|pre|section|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_PAGE = re.compile(
    rf"(?im)^ {{0,3}}<(?:!doctype|{_BLOCKS})\b(?:{_RAW}|<pre\b(?s:.*?)(?:</pre>|\Z)|[^\n]"
    r"|\n(?![^\S\n]*\n[^\S\n]*[^<\s]|[^\S\n]*(?:`{3}|~{3})))*+"
)
_CLOSED = re.compile(r">[^\S\n]*(?=\n|\Z)")
"""HTML on several lines, in which breaks say nothing: up to a paragraph without a tag, or to a fence; and how lines end
that it may end with."""
_MARKUP = re.compile(r"\s*+<[?!]?\w[^<>]*>[^<>]*<")
_INLINE = "a|abbr|b|bd[io]|big|br|cite|code|em|font|hr|i|img|input|kbd|label|link|mark|meta|q|s|samp|small|span|strike"
_NAME = rf"(?!(?i:{_INLINE}|strong|su[bp]|svg|time|tt|u|var|wbr)(?![\w:.-]))[a-zA-Z][\w:.-]*"
_TAGS = re.compile(
    rf"(?P<raw>{_RAW})|(?P<parts>(?=<(?i:br|hr)\b))|<(?:(?P<opens>{_NAME})|/(?P<ends>{_NAME}))[^<>]*(?<!/)>"
)
_ENDS = re.compile(
    r"(li|p|tr|option) \1|p (?:h\d|[uod]l|table|div|pre|li|t[rdh])|d[dt] d[dt]|t[dh] t[dhr]|/dt dt"
    r"|/h[1-6] h1|/h[2-6] h2|/h[3-6] h3|/h[4-6] h4|/h[56] h5|/h6 h6"
)
_LEADS = re.compile(r"(?is)<(?:h[1-6]|dt|caption|summary)\b|<t(?:r|head)\b(?=.*<th)(?!.*<td)")
_WHOLE = re.compile(r"(?is)<(?:t[rdh]|thead|h[1-6]|dt|title|caption|summary)\b|.*:\s*</\w+>\Z")
"""How markup begins; tags but those within a line; which open element, or one that leads (`/`), ends where which opens;
what leads those behind it; and what is never cut unless it is longer than a `ROW`."""


WRAPPERS = ("html", "head", "body", "div", "main", "center", "tbody")
"""Elements that say nothing where no text stands in them but in other elements."""


class Fold(NamedTuple):
    """Where a line begins."""

    begin: int
    nested: int  # brackets or elements that it is in
    wraps: bool = False  # it is a tag of an element that only wraps others


@dataclass(slots=True)
class _Element:
    """An open bracket or element; a name that begins with / is that of one that leads those behind it."""

    name: str
    begin: int
    folds: int  # how many there were when it had opened
    told: bool = False  # whether text stands in it, but in others


def folds(text: str) -> list[Fold]:
    """Where a long line of JSON or markup, or a page, is cut in lines, ascending.

    What is short is a line, and so are several short members of JSON; what a heading or a table's head leads is deeper.
    """
    json, page = _JSON.match(text) is not None, "\n" in text
    pattern = _BRACKETS if json else _TAGS
    marks = [mark for mark in pattern.finditer(text) if mark.lastgroup] if json or page or _MARKUP.match(text) else []
    if not (json or page or 1_000 * len(marks) > max(4_000, len(text))):
        return []
    found, last = _Folding(text, json), 0
    for mark in marks:
        (begin, end), kind = mark.span(), mark.lastgroup or ""
        name = mark[kind].lower().translate(_PAIRS)
        if found.opened and text[last:begin].strip():
            found.opened[-1].told = True
        last = end
        if kind == "raw":
            found.cut(begin)
        elif kind == "opens":
            found.open(name, begin)
        elif kind == "ends" and not found.close(name, begin, end):
            continue
        if json and kind != "opens":
            found.join(end)
        found.cut(end)
    return found.cuts[1:] if len(found.cuts) > 2 else []


class _Folding:
    """The folds of a text, and what is open, as its marks are read."""

    def __init__(self, text: str, json: bool) -> None:
        self._text = text
        self._most = min(ROW, len(text) // _FOLDS)
        self._json = json
        self.cuts = [Fold(0, -1), Fold(0, 0)]
        self.opened = list[_Element]()

    def cut(self, begin: int, wraps: bool = False) -> None:
        self.cuts.append(Fold(begin, len(self.opened), wraps))

    def open(self, name: str, begin: int) -> None:
        while self.opened and _ENDS.fullmatch(f"{self.opened[-1].name} {name}"):
            self.opened.pop()
        if not self._json:
            self.cut(begin)
        self.opened.append(_Element(name, self.cuts[-1].begin, len(self.cuts)))

    def close(self, name: str, begin: int, end: int) -> bool:
        """Whether there was such an element to close."""
        if name not in [one.name for one in self.opened[-100:]]:  # of more never ended ones, each would take long
            return False
        while self.opened[-1].name != name:
            self.opened.pop()
        closed = self.opened.pop()
        body = self._text[closed.begin : end] if end - closed.begin <= ROW else ""
        if body and (len(body) <= self._most or _WHOLE.match(body)):
            self.cuts[closed.folds :] = []
        else:
            wraps = name in WRAPPERS and not closed.told
            self.cuts[closed.folds - 1] = self.cuts[closed.folds - 1]._replace(wraps=wraps)
            self.cut(begin, wraps)
            self.cut(end)
        if _LEADS.match(body):
            self.opened.append(_Element(f"/{name}", 0, 0))
        return True

    def join(self, end: int) -> None:
        """The member that ends here with the one before, if they fit into one line."""
        before, own = self.cuts[-2:]
        if own.begin < end <= before.begin + self._most and before.nested == own.nested:
            self.cuts.pop()


def pages(text: str) -> Iterator[Span]:
    """Where HTML stands on several lines, from the beginning of its first to the end of its last."""
    for found in _PAGE.finditer(text) if "</" in text else ():
        end = max((closed.start() + 1 for closed in _CLOSED.finditer(text, *found.span())), default=0)
        if "\n" in text[found.start() : end]:
            yield found.start(), end
