"""Key paths of JSON, such as ``items[].name``, and what they ask for: `Rules`, followed step by step from the root.

A path is steps joined by dots: a key, ``*`` (any key or element), ``[]`` (any element), ``[2]`` (one element) and
``**`` (any number of steps, also none). A key that holds ``. [ ] * "`` is written as a JSON string: ``"a.b".c``. A rule
holds for the value at its path and for all below it. Where several match, the more specific one decides: compared from
the last step back, a key or index before ``[]`` before ``*`` before ``**``. What no rule matches is kept.

Paths are matched as a set of positions within the rules that moves along (Thompson's construction), so that depth and
``**`` cost nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from lingua.structured.pieces import Action, require_actions

WORDS = ("keep", "compress", "drop")
_STEP = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")|\[(?P<index>\d*)\]|(?P<wild>\*\*?)|(?P<key>[^.\[\]*"]+)')
_RANK = {"**": 0, "*": 1, "[]": 2}
Step = str | int
"""A wildcard (``*``, ``**``, ``[]``), an index, or a key written as ``.key``."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """One path and its action; `rank` orders the rules that match the same value."""

    steps: tuple[Step, ...]
    action: Action
    rank: tuple[tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of each string of a JSON value.

    alive    the places (rule, steps done) that the way from the root to here has reached
    names    the steps that stand in any rule: only these tell keys and elements apart
    action   what the most specific of the rules that match here asks for
    """

    rules: tuple[_Rule, ...]
    alive: frozenset[tuple[int, int]]
    names: frozenset[Step]
    _known: dict[tuple[frozenset[tuple[int, int]], Step], Rules] = field(repr=False, compare=False)
    action: Action = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alive", self._with_skipped(self.alive))
        matching = [self.rules[rule] for rule, done in self.alive if done == len(self.rules[rule].steps)]
        best = max(matching, key=lambda rule: rule.rank, default=None)
        object.__setattr__(self, "action", best.action if best is not None else "keep")

    @classmethod
    def of(cls, rules: Mapping[str, object]) -> Rules:
        """From paths to rates or ``keep``, ``compress``, ``drop``. Raises ValueError naming the rule."""
        written = [(path, parse_path(path), action) for path, action in require_actions(rules, WORDS).items()]
        made = [_rule(path, steps, action) for path, steps, action in written]
        made += [_rule(path, (*steps, "**"), action) for path, steps, action in written if steps[-1] != "**"]
        names = frozenset(step for rule in made for step in rule.steps)
        return cls(tuple(made), frozenset((number, 0) for number in range(len(made))), names, {})

    def enter(self, step: str | int) -> Rules:
        """The rules as they stand at a key or element of this value."""
        name: Step = step if isinstance(step, int) else "." + step
        if name not in self.names:
            name = "[]" if isinstance(step, int) else "*"
        place = (self.alive, name)
        if place not in self._known:
            self._known[place] = replace(self, alive=frozenset(self._advanced(name)))
        return self._known[place]

    def _advanced(self, name: Step) -> Iterable[tuple[int, int]]:
        for rule, done in self.alive:
            steps = self.rules[rule].steps
            if done < len(steps) and _matches(steps[done], name):
                yield rule, done if steps[done] == "**" else done + 1

    def _with_skipped(self, places: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """The places, and those behind a ``**`` that matches nothing."""
        found = set(places)
        for rule, done in tuple(found):
            steps = self.rules[rule].steps
            while done < len(steps) and steps[done] == "**":
                done += 1
                found.add((rule, done))
        return frozenset(found)


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ValueError with the position of what cannot be read."""
    steps: list[Step] = []
    position = 0
    while position < len(path) or not steps:
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f'path {path!r}: no key, *, **, [] or [0] at character {position}; quote keys: "a.b"')
        steps.append(_step(match))
        position = match.end()
        if path.startswith(".", position):
            position += 1
            if position == len(path):
                raise ValueError(f"path {path!r} ends with a dot")
        elif position < len(path) and path[position] != "[":
            raise ValueError(f"path {path!r}: a dot is missing at character {position}")
    return tuple(steps)


def key_path(key: str) -> str:
    """The path of one key, whatever characters it holds."""
    return json.dumps(key)


def _step(match: re.Match[str]) -> Step:
    if match["quoted"] is not None:
        return "." + str(json.loads(match["quoted"]))
    if match["index"] is not None:
        return int(match["index"]) if match["index"] else "[]"
    return match["wild"] or "." + match["key"]


def _rule(path: str, steps: tuple[Step, ...], action: Action) -> _Rule:
    ranks = tuple(_RANK.get(step, 3) if isinstance(step, str) else 3 for step in reversed(steps))
    return _Rule(steps, action, (ranks, path))


def _matches(pattern: Step, name: Step) -> bool:
    """Whether a step of a path matches a key or an element; those that no path names are ``*`` and ``[]``."""
    if pattern == "[]":
        return name == "[]" or isinstance(name, int)
    return pattern in ("*", "**") or pattern == name
