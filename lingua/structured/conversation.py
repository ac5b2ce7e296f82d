"""Where the texts of a conversation stand, whatever form it is written in: `read`, by the tables of `forms`.

Every string is found once, with one of three fates: it may be ``cut``; it is to ``keep``: text to the model that is
never changed; or it is ``opaque``: ids, signatures, images, which no budget counts, as `marks` tells them from prose. A
string under a key that is in no table is kept. A role, a type or a part that is in none is an error that names it, for
its text would be passed over in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lingua.errors import PromptError
from lingua.structured import forms
from lingua.structured.exact import dumps, loads
from lingua.structured.forms import Use, is_encoded, is_mark, is_no_text

Fate = Literal["cut", "keep", "opaque"]
Step = str | int
Path = tuple[Step, ...]
LONG = 100
"""Characters from which on a string in a tool's JSON is prose, not a value, and a key is a text that counts."""
BESIDE = ("name", "additional_kwargs")
"""Keys that say nothing of what a message is: others must be known, or all of its text would be kept without a word."""


@dataclass(frozen=True, slots=True)
class FoundText:
    """One text. path: keys and indices that lead to it; message: its number, -1 before all messages."""

    text: str
    fate: Fate
    path: Path
    role: str
    message: int

    @property
    def where(self) -> str:
        return _named(self.path)


@dataclass(frozen=True, slots=True)
class _At:
    """A place within a conversation, and whose words stand there."""

    path: Path
    role: str
    message: int

    def enter(self, *steps: Step) -> _At:
        return _At((*self.path, *steps), self.role, self.message)

    def said_by(self, role: str) -> _At:
        return _At(self.path, role, self.message)

    def found(self, text: str, fate: Fate) -> Iterator[FoundText]:
        yield FoundText(text, fate, self.path, self.role, self.message)

    def wrong(self, wanted: str, value: object) -> PromptError:
        return PromptError("wrong_type", f"{_named(self.path)} must be {wanted}, not {type(value).__name__}")

    def unknown(self, what: str, holder: Mapping[str, Any]) -> PromptError:
        return PromptError("unknown_form", f"{_named(self.path)} {what}; its keys: {_keys(holder)}")


def read(value: Any) -> Iterator[FoundText]:
    """Every string of a conversation. Raises PromptError: ``wrong_type``, ``unknown_form``."""
    if not isinstance(value, Mapping):
        yield from _messages(value, ())
        return
    name = next((name for name in forms.LISTS if isinstance(value.get(name), (list, tuple))), None)
    if name is None:
        wanted = f"a list, or an object that holds one under {', '.join(map(repr, forms.LISTS))}"
        raise PromptError("wrong_type", f"messages must be {wanted}; the object's keys: {_keys(value)}")
    before, behind = _At((), "system", -1), _At((), "user", len(value[name]))
    yield from _fields({key: one for key, one in value.items() if key not in (name, "message")}, forms.ENVELOPE, before)
    yield from _messages(value[name], (name,))
    if "message" in value:  # Cohere: what the user says now
        yield from _blocks(value["message"], behind.enter("message"))


def role_of(name: str) -> str | None:
    """The role that a name stands for: ``user``, ``assistant``, ``system``, …; None: it is not known."""
    return forms.ROLES.get(name.lower())


def _messages(messages: Any, path: Path) -> Iterator[FoundText]:
    if not isinstance(messages, (list, tuple)):
        raise PromptError("wrong_type", f"messages must be a list, not {type(messages).__name__}")
    for number, message in enumerate(messages):
        at = _At((*path, number), "", number)
        if not isinstance(message, Mapping):
            raise at.wrong("an object with a 'role'", message)
        yield from _message(message, at)


def _message(message: Mapping[str, Any], at: _At) -> Iterator[FoundText]:
    """The texts of one message, whatever its form."""
    inner = next((key for key in ("data", "kwargs", "message") if _wraps(message, key)), None)
    holder, inside = (message, at) if inner is None else (message[inner], at.enter(inner))
    role = _role(message, holder, at)
    if role is None:
        yield from _part(message, at.said_by("assistant"), forms.ITEMS)
        return
    if inner is not None:
        outer = {key: value for key, value in message.items() if key != inner}
        yield from _fields(outer, {"id": "mark"}, at.said_by(role))
    table = forms.MESSAGE
    if _are_copies(holder.get("additional_kwargs"), holder):
        table = {**table, "additional_kwargs": {"tool_calls": "copies", "function_call": forms.COPY}}
    if role_of(role) == "call":
        table = {**table, **dict.fromkeys(forms.CONTENTS, "whole")}
    found = list(_fields(holder, table, inside.said_by(role)))
    if not any(key in table and key not in BESIDE for key in holder) and any(one.fate == "keep" for one in found):
        raise inside.unknown(f"holds no text that is known: none of {', '.join(map(repr, forms.CONTENTS))}", holder)
    yield from found


def _wraps(message: Mapping[str, Any], key: str) -> bool:
    """Whether the message itself lies under this key, as LangChain writes it, and logs do."""
    inner = message.get(key)
    if not isinstance(inner, Mapping) or "role" in message:
        return False
    return {"data": "type" in message, "kwargs": "lc" in message, "message": "role" in inner}[key]


def _are_copies(extra: Any, holder: Mapping[str, Any]) -> bool:
    """Whether LangChain's `additional_kwargs` hold the provider's copy of the message's own calls, and no others."""
    own = [holder.get("tool_calls"), holder.get("invalid_tool_calls")]
    given = [one.get("args") for calls in own if isinstance(calls, list) for one in calls if isinstance(one, Mapping)]
    if not given or not isinstance(extra, Mapping):
        return False
    calls = extra.get("tool_calls")
    if not isinstance(calls, (list, tuple)):
        calls = [] if calls is None else [calls]
    copies = [one.get("function") if isinstance(one, Mapping) else one for one in calls]
    if "function_call" in extra:
        copies.append(extra["function_call"])
    return all(_arguments(one) in given for one in copies)


def _arguments(call: Any) -> Any:
    """What a provider's call is given, read if it is JSON text."""
    text = call.get("arguments") if isinstance(call, Mapping) else None
    if not isinstance(text, str):
        return call
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return text


def _role(message: Mapping[str, Any], holder: Mapping[str, Any], at: _At) -> str | None:
    """The role of a message; None for an item of OpenAI's Responses that has none."""
    for key in ("role", "from"):
        if isinstance(role := holder.get(key), str):
            return role
        if role is not None:
            raise at.enter(key).wrong("a string", role)
    kind = holder.get("type", message.get("type"))
    if "lc" in message and isinstance(path := message.get("id"), (list, tuple)) and path:
        kind = path[-1]
    if not isinstance(kind, str):
        fault = f"{_named(at.path)} must be an object with a 'role'; its keys: {_keys(message)}"
        raise PromptError("wrong_type", fault)
    short = re.sub("message(chunk)?$", "", kind.lower())
    if role_of(short) not in (None, "call"):
        return short
    if kind in forms.ITEMS:
        return None
    raise at.unknown(f"has no 'role', and its type {kind!r} is not known", message)


def _fields(holder: Mapping[str, Any], table: Mapping[str, Use], at: _At) -> Iterator[FoundText]:
    """The texts of an object: keys of the table as it says, marks aside, all others kept."""
    for key, value in holder.items():
        if isinstance(key, str) and len(key) >= LONG:
            yield from at.enter(key).found(key, "keep")
        use = table.get(key) or ("mark" if is_mark(key, value) else "strings")
        yield from _read(use, value, at.enter(key))


def _read(use: Use, value: Any, at: _At) -> Iterator[FoundText]:
    if isinstance(use, str):
        return _USES[use](value, at)
    return _fields(value, use, at) if isinstance(value, Mapping) else _strings(value, at)


def _text(value: Any, at: _At) -> Iterator[FoundText]:
    if isinstance(value, str):
        yield from at.found(value, "cut")
    elif value is not None:
        raise at.wrong("a string", value)


def _blocks(value: Any, at: _At) -> Iterator[FoundText]:
    """What is said: a string, parts (strings among them), a single part, or null."""
    if value is None or isinstance(value, str):
        yield from _text(value, at)
    elif isinstance(value, Mapping):
        listed = isinstance(value.get("parts"), (list, tuple))
        yield from _fields(value, {"parts": "blocks"}, at) if listed else _part(value, at, forms.PARTS)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            inside = at.enter(number)
            if not (part is None or isinstance(part, (str, Mapping))):
                raise inside.wrong("an object", part)
            yield from _part(part, inside, forms.PARTS) if isinstance(part, Mapping) else _text(part, inside)
    else:
        raise at.wrong("a string, a list of parts or null", value)


def _part(part: Mapping[str, Any], at: _At, types: Mapping[str, Use]) -> Iterator[FoundText]:
    """One part, told by its ``type`` or, where there is none, by its keys."""
    kind = part.get("type")
    if isinstance(kind, str):
        if kind not in types:
            raise at.unknown(f"has the type {kind!r}, which is not known", part)
        yield from _read(types[kind], part, at)
        return
    thought = part.get("thought") is True
    found = list(_fields(part, {**forms.MEMBERS, "text": "strings"} if thought else forms.MEMBERS, at))
    if not any(key in forms.MEMBERS for key in part) and any(one.fate == "keep" for one in found):
        raise at.unknown("is no part that is known", part)
    yield from found


def _object(value: Any, at: _At) -> Iterator[FoundText]:
    """What a tool answered, as any JSON: its prose may be cut, the rest is kept as JSON text."""
    at = at.said_by("tool")
    if isinstance(value, str):
        yield from _text(value, at)
    elif isinstance(value, (Mapping, list, tuple)):
        apart: list[FoundText] = []
        yield from at.found(_compact(_without_prose(value, at, apart)), "keep")
        yield from apart


def _without_prose(value: Any, at: _At, apart: list[FoundText], coded: bool = False) -> Any:
    """The value with its long strings emptied; they go to `apart`."""
    if isinstance(value, Mapping):
        coded = is_encoded(value)
        return {key: _without_prose(item, at.enter(key), apart, coded) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_prose(item, at.enter(number), apart, coded) for number, item in enumerate(value)]
    if not isinstance(value, str) or len(value) < LONG:
        return value
    encoded = is_no_text(_key(at.path), value, aside=False, coded=coded)
    if not encoded and value.isascii() and len(value.split()) < 2:
        return value
    apart.extend(at.found(value, "opaque" if encoded else "cut"))
    return ""


def _whole(value: Any, at: _At) -> Iterator[FoundText]:
    if value is not None and not isinstance(value, (bool, int, float)):
        yield from at.found(value if isinstance(value, str) else _compact(value), "keep")


def _listed(use: Mapping[str, Use]) -> Callable[[Any, _At], Iterator[FoundText]]:
    """One object with these keys, or a list of such."""

    def each(value: Any, at: _At) -> Iterator[FoundText]:
        if not isinstance(value, (list, tuple)):
            yield from _read(use, value, at)
        else:
            for number, item in enumerate(value):
                yield from _read(use, item, at.enter(number))

    return each


def _source(value: Any, at: _At) -> Iterator[FoundText]:
    """Where a document comes from: text that stands there, or what no budget counts."""
    if not isinstance(value, Mapping):
        yield from _strings(value, at)
        return
    kind = value.get("type")
    if kind is not None and kind not in forms.SOURCES:
        raise at.unknown(f"has the type {kind!r}, which is not known", value)
    spoken: Mapping[str, Use] = {"data": "text"} if kind == "text" else {}
    yield from _fields(value, {**dict.fromkeys(value, "opaque"), "text": "text", "content": "blocks", **spoken}, at)


def _strings(value: Any, at: _At) -> Iterator[FoundText]:
    """All strings within a value of any form: kept, but for marks and what is encoded. A text of its own is neither."""
    yield from at.found(value, "keep") if isinstance(value, str) else _walk(value, at, aside=False, coded=False)


def _walk(value: Any, at: _At, *, aside: bool, coded: bool) -> Iterator[FoundText]:
    """All strings within, in order; without recursion, as any depth may be met.

    aside    whether what looks like a mark is one
    coded    whether base64 is no text
    """
    waiting: list[tuple[_At, Any, bool, bool]] = [(at, value, aside, coded)]
    while waiting:
        at, value, aside, coded = waiting.pop()
        if isinstance(value, str):
            no_text = is_no_text(_key(at.path), value, aside=aside, coded=coded)
            yield from at.found(value, "opaque" if no_text else "keep")
        elif isinstance(value, Mapping):
            kind = value.get("type")
            media = isinstance(kind, str) and forms.PARTS.get(kind) == "opaque"
            aside, coded = aside or media, coded or media or is_encoded(value)
            inner = [(at.enter(key), item, aside or is_mark(key, item), coded) for key, item in value.items()]
            waiting.extend(reversed(inner))
            texts = [key for key in value if isinstance(key, str) and len(key) >= LONG]
            waiting.extend((at.enter(key), key, False, False) for key in texts)
        elif isinstance(value, (list, tuple)):
            waiting.extend((at.enter(number), value[number], aside, coded) for number in reversed(range(len(value))))


_USES: Mapping[str, Callable[[Any, _At], Iterator[FoundText]]] = {
    "text": _text,
    "blocks": _blocks,
    "result": lambda value, at: _blocks(value, at.said_by("tool")),
    "object": _object,
    "whole": _whole,
    "strings": _strings,
    "calls": _listed(forms.CALL),
    "answers": _listed(forms.ANSWER),
    "source": _source,
    "opaque": partial(_walk, aside=True, coded=True),
    "mark": partial(_walk, aside=True, coded=False),
    "copies": _listed({"function": forms.COPY}),
    "copied": lambda value, at: at.found(value, "opaque") if isinstance(value, str) else _strings(value, at),
}


def _key(path: Path) -> Step:
    """The key under which a value stands, alone or in a list."""
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def _compact(value: Any) -> str:
    """JSON text without spaces, as a model is given arguments."""
    try:
        return dumps(value, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise PromptError("wrong_type", f"a value of type {type(value).__name__} is not JSON: {error}") from None


def _keys(holder: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, holder)) or "none"


def _named(path: Path) -> str:
    """A path in words: ``messages[3].content[0].text``."""
    steps = path if path and isinstance(path[0], str) else ("messages", *path)
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:]
