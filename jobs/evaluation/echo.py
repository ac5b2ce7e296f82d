"""Reading probabilities of a given text out of an echoed completion (`echo` with `logprobs`).

The protocol gives each token of prompt and reply a log-probability and the character at which it begins. A token counts
towards the answer when any of it lies behind the prompt: where prompt and answer meet within a token, it is the answer
that makes it that token. Tokens that share a character begin at the same place. The first token of all has no
probability and counts nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any


def echoed_nll(reply: Any, text: str, begin: int) -> float:
    """−ln p of `text[begin:]` given `text[:begin]`, in nats. ValueError when the reply does not hold it."""
    values, offsets = _tokens(reply)
    ends = [*offsets[1:], max(len(text), offsets[-1])]
    inside = (place for place, start in enumerate(offsets) if start < len(text))
    places = [place for place in inside if offsets[place] >= begin or ends[place] > begin]
    if not places:
        raise ValueError("the echo holds no token of the answer")
    missing = [place for place in places if values[place] is None and place > 0]
    if missing:
        raise ValueError(f"the echo has no probability of token {missing[0]}")
    return -sum(value for place in places if (value := values[place]) is not None)


def probe_shows_echo(reply: Any, text: str) -> bool:
    """Whether a server that was asked to echo `text` did, with probabilities of all but its first token."""
    try:
        values, offsets = _tokens(reply)
    except ValueError:
        return False
    inside = [value for value, offset in zip(values, offsets, strict=True) if 0 < offset < len(text)]
    return offsets[0] == 0 and bool(inside) and all(isinstance(value, float) and value <= 0 for value in inside)


def _tokens(reply: Any) -> tuple[list[float | None], list[int]]:
    """Log-probability and first character of each token of an echoed reply."""
    try:
        logprobs = reply.choices[0].logprobs
        values, offsets = list(logprobs.token_logprobs), list(logprobs.text_offset)
    except (AttributeError, IndexError, TypeError):
        raise ValueError("an answer without the probabilities of its tokens") from None
    if not values or len(values) != len(offsets) or any(later < sooner for sooner, later in pairwise(offsets)):
        raise ValueError("probabilities and places of the tokens do not fit together")
    return values, offsets
