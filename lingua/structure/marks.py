"""What in a conversation is no text to the model: marks as long as they look like one, and what is said to be encoded.

The tables of `forms` say which keys may hold them; prose under such a key is text. What base64 holds is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lingua.structure import forms

_ID = re.compile(r".*(?:_id|_ids|Id|Ids|ID)")
_WORD, _WORDS, _ADDRESS, _TOKEN = 128, 64, 4096, 32
"""Most characters of a mark that is one word, a date, a URL or a token of `logprobs`: longer ones are text."""
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts without spaces, in which a sentence looks like one word."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; *[\w-]+=[\w.\"-]+)*")
_DATED = (
    r"(?:[+-]?\d[\d:.,/TZ+-]*(?:st|nd|rd|th|[ap]m)?,?|at|[ap]\.?m\.?|utc|gmt|[ecmp][ds]t|ce[s]?t|bst"
    r"|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?[.,]?"
    r"|(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)[.,]?)"
)
_DATE = re.compile(rf"(?=.*\d){_DATED}(?:\s+{_DATED})*", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{60,76}\r?\n)*[A-Za-z0-9+/_-]*={0,2}\s*")
"""In one line, or in lines as mail has them."""
_DATA_URL = re.compile(
    r"data:[a-z]+/[\w.+-]+(?:;[\w-]+=[\w.\"-]+)*;base64,[A-Za-z0-9+/_-]*={0,2}", re.ASCII | re.IGNORECASE
)
_MEDIA = ("media_type", "mime_type", "mediaType", "mimeType")


def is_no_text(key: object, text: str, *, aside: bool, coded: bool) -> bool:
    """Whether a string is no text to the model: encoded where that is said, or a mark that looks like one."""
    if key in forms.SPOKEN:
        return False
    if key in forms.SEALED and text.isascii() and len(text.split()) < 2:
        return True
    if _DATA_URL.fullmatch(text) or (coded and key in forms.ENCODED and _BASE64.fullmatch(text)):
        return True
    return aside and _looks_like_a_mark(key, text.strip())


def _looks_like_a_mark(key: object, text: str) -> bool:
    """One word of bounded length, a URL, a date, or a media type."""
    if len(text.split()) > 1:
        return len(text) <= _WORDS and bool(_DATE.fullmatch(text) or _MEDIA_TYPE.fullmatch(text))
    if len(text) > _WORD:
        return len(text) <= _ADDRESS and _URL.fullmatch(text) is not None
    return not _UNSPACED.search(text) or (key == "token" and len(text) <= _TOKEN)


def is_encoded(holder: Mapping[str, Any]) -> bool:
    """Whether an object says that it holds base64: by its type, or a media type that is none of text."""
    kind = holder.get("type")
    if isinstance(kind, str) and re.search("base64|encrypted|redacted", kind):
        return True
    media = next((one for one in map(holder.get, _MEDIA) if isinstance(one, str)), "text/")
    return _MEDIA_TYPE.fullmatch(media) is not None and not media.startswith("text/")


def is_mark(key: object, value: Any) -> bool:
    """Whether a value is about a text, or may be a mark: none that holds objects is one by its key alone."""
    items = value if isinstance(value, (list, tuple)) else [value]
    nested = any(isinstance(item, (Mapping, list, tuple)) for item in items)
    named = key in forms.MARKS or key in forms.SEALED or _ID.fullmatch(str(key)) is not None
    return key in forms.ASIDE or (named and not nested)
