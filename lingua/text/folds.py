"""Where JSON and markup (HTML, XML) in one long line would be broken, were they written on several; and how deep."""

import re
from collections.abc import Iterator

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


def folds(text: str) -> list[tuple[int, int]]:
    """Where a long line of JSON or markup, or a page, is cut in lines, ascending; and in how much each stands.

    What is short is a line, and so are several short members of JSON; what a heading or a table's head leads is deeper.
    """
    json, page = _JSON.match(text) is not None, "\n" in text
    pattern = _BRACKETS if json else _TAGS
    marks = [mark for mark in pattern.finditer(text) if mark.lastgroup] if json or page or _MARKUP.match(text) else []
    most, cuts, opened = min(ROW, len(text) // _FOLDS), [(0, -1), (0, 0)], list[tuple[str, int, int]]()
    for mark in marks if json or page or 1_000 * len(marks) > max(4_000, len(text)) else ():
        (begin, end), kind = mark.span(), mark.lastgroup or ""
        name = mark[kind].lower().translate(_PAIRS)
        if kind == "raw":
            cuts.append((begin, len(opened)))
        elif kind == "opens":
            while opened and _ENDS.fullmatch(f"{opened[-1][0]} {name}"):
                opened.pop()
            cuts += [] if json else [(begin, len(opened))]
            opened.append((name, cuts[-1][0], len(cuts)))
        elif kind == "ends":
            if name not in [one for one, *_ in opened[-100:]]:  # of more that are never ended, each would take long
                continue
            while opened[-1][0] != name:
                opened.pop()
            _, begun, known = opened.pop()
            body = text[begun:end] if end - begun <= ROW else ""
            if body and (len(body) <= most or _WHOLE.match(body)):
                cuts[known:] = []
            else:
                cuts += [(begin, len(opened)), (end, len(opened))]
            opened += [(f"/{name}", 0, 0)] * (_LEADS.match(body) is not None)
        if json and kind != "opens" and cuts[-1][0] < end <= cuts[-2][0] + most and cuts[-2][1] == cuts[-1][1]:
            cuts.pop()  # this member fits into the line of the one before
        cuts.append((end, len(opened)))
    return cuts[1:] if len(cuts) > 2 else []


def pages(text: str) -> Iterator[Span]:
    """Where HTML stands on several lines, from the beginning of its first to the end of its last."""
    for found in _PAGE.finditer(text) if "</" in text else ():
        end = max((closed.start() + 1 for closed in _CLOSED.finditer(text, *found.span())), default=0)
        if "\n" in text[found.start() : end]:
            yield found.start(), end
