"""Key paths of JSON, such as ``items[].name``, and what they ask for: `Rules`, followed step by step from the root.

A path is steps joined by dots: a key, ``*`` (any key or element), ``[]`` (any element), ``[2]`` (one element) and
``**`` (any number of steps, also none). A key that holds ``. [ ] * "`` is written as a JSON string: ``"a.b".c``. A rule
holds for the value at its path and for all below it. Where several match, the more specific one decides: compared from
the last step back, a key or index before ``[]`` before ``*`` before ``**``. What no rule matches is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from lingua.structured.pieces import Action, require_actions

WORDS = ("keep", "compress", "drop")
_STEP = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")|\[(?P<index>\d*)\]|(?P<wild>\*\*?)|(?P<key>[^.\[\]*"]+)')
_RANK = {"**": 0, "*": 1, "[]": 2}
Step = str | int
"""A wildcard (``*``, ``**``, ``[]``), an index, or a key written as ``.key``."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is left to match of a path, its action, and a rank that orders the rules which match the same value."""

    steps: tuple[Step, ...]
    action: Action
    rank: tuple[tuple[int, ...], str]

    @property
    def matches(self) -> bool:
        """Whether nothing is left but what may be skipped."""
        return all(step == "**" for step in self.steps)

    def after(self, name: Step) -> Iterator[_Rule]:
        """The rule once a key or element is entered: with ``**`` it may stand in several places."""
        for number, step in enumerate(self.steps):
            if _matches(step, name):
                yield replace(self, steps=self.steps[number if step == "**" else number + 1 :])
            if step != "**":
                return


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of each string of a JSON value.

    alive    the rules that the way from the root to here has followed, with what is left of each
    names    the steps that stand in any rule: only these tell keys and elements apart
    drops    whether any rule drops something
    """

    alive: frozenset[_Rule]
    names: frozenset[Step]
    drops: bool

    @classmethod
    def of(cls, rules: Mapping[str, object]) -> Rules:
        """From paths to rates or ``keep``, ``compress``, ``drop``. Raises ValueError naming the rule."""
        written = [(path, parse_path(path), action) for path, action in require_actions(rules, WORDS).items()]
        made = [_rule(path, steps, action) for path, steps, action in written]
        made += [_rule(path, (*steps, "**"), action) for path, steps, action in written if steps[-1] != "**"]
        drops = any(rule.action == "drop" for rule in made)
        return cls(frozenset(made), frozenset(step for rule in made for step in rule.steps), drops)

    @property
    def action(self) -> Action:
        """What the most specific of the rules that match here asks for."""
        return _action(self.alive)

    def enter(self, step: str | int) -> Rules:
        """The rules as they stand at a key or element of this value."""
        name: Step = step if isinstance(step, int) else "." + step
        if name not in self.names:
            name = "[]" if isinstance(step, int) else "*"
        return _entered(self, name)


@lru_cache(maxsize=1 << 12)
def _action(alive: frozenset[_Rule]) -> Action:
    best = max((rule for rule in alive if rule.matches), key=lambda rule: rule.rank, default=None)
    return "keep" if best is None else best.action


@lru_cache(maxsize=1 << 12)
def _entered(rules: Rules, name: Step) -> Rules:
    return replace(rules, alive=frozenset(one for rule in rules.alive for one in rule.after(name)))


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
