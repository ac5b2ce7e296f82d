"""`assemble`: one prompt within a token budget from texts that were compressed before.

A corpus is compressed once; at question time its pieces are found, and as many of the best as fit stand between the
instruction and the question. Counting is the target tokenizer's, of the joined text: the budget is never exceeded.
Nothing is compressed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from lingua.errors import ConfigError, PromptError
from lingua.prompt import join_parts
from lingua.text.tokens import named_target

DEFAULT_TOKENIZER = "cl100k_base"


class Counter(Protocol):
    """Whatever counts the tokens of a text."""

    def count(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the documents, and between all parts."""

    instruction: str = ""
    question: str = ""
    separator: str = "\n\n"

    def around(self, documents: Sequence[str]) -> str:
        """The whole prompt."""
        return join_parts((self.instruction, *documents, self.question), self.separator)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A prompt of `tokens` tokens that holds the documents with the indices `used`, in their given order."""

    text: str
    used: tuple[int, ...]
    tokens: int


def assemble(
    documents: Sequence[str], budget: int, frame: Frame | None = None, tokenizer: str | Counter = DEFAULT_TOKENIZER
) -> Assembled:
    """The prompt with the first documents that fit: give the best first. One that does not fit is passed over.

    tokenizer   what the budget is counted in: a name as in `CompressionConfig.target_tokenizer`, or a counter

    Raises PromptError (``over_budget``) when instruction and question alone exceed the budget.
    """
    frame, counter = frame or Frame(), _counter(tokenizer) if isinstance(tokenizer, str) else tokenizer
    used: list[int] = []
    text, tokens = frame.around([]), counter.count(frame.around([]))
    if tokens > budget:
        raise PromptError("over_budget", f"instruction and question are {tokens} tokens, the budget is {budget}")
    for index, cost in enumerate(counter.count(frame.separator + document) for document in documents):
        if documents[index] and tokens + cost <= budget + SLACK:
            attempt = frame.around([documents[position] for position in (*used, index)])
            if (counted := counter.count(attempt)) <= budget:
                text, tokens = attempt, counted
                used.append(index)
    return Assembled(text, tuple(used), tokens)


SLACK = 8
"""Tokens by which a text may be shorter than its parts: worth an exact count of the whole."""


@lru_cache(maxsize=8)
def _counter(name: str) -> Counter:
    if name == "model":
        raise ConfigError("tokenizer = 'model' names no tokenizer here; give that of the model that reads the prompt")
    return named_target(name)
