"""The records that flow through the engine: `Prompt` in, `CompressedPrompt` or `Rejected` out.

A prompt is the paper's x = (instruction, demonstrations, question) (arXiv 2310.05736, section 3); the demonstrations,
documents or turns are the strings of `context`. All records are frozen, compare by value and know nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lingua.errors import PromptError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
"""What the engine counts, chooses and scores in."""

Status = Literal["compressed", "passthrough", "kept", "over_budget", "relaxed"]
Span = tuple[int, int]
"""A half-open range of characters [start, end) of one original string."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to compress.

    context         any sequence of strings (one string counts as a single document)
    context_rates   for each string of `context` the share of its tokens to keep, or None for the configured one; if
                    given, the strings are pieces of a structure: none is dropped by a coarse step
    separator       stands between the non-empty parts in the joined text
    keep_some       whether every string of `context` that has text keeps some of it, as where none may become empty

    Raises PromptError (``wrong_type``, ``wrong_rate``) when a field cannot be used.
    """

    instruction: str = ""
    context: Sequence[str] = ()
    question: str = ""
    separator: str = "\n\n"
    context_rates: Sequence[float | None] = ()
    keep_some: bool = False

    def __post_init__(self) -> None:
        context = (self.context,) if isinstance(self.context, str) else self.context
        if not isinstance(context, Sequence) or isinstance(context, bytes):
            raise _wrong_type("context", context, "a list of strings")
        for name in ("instruction", "question", "separator"):
            object.__setattr__(self, name, checked_text(name, getattr(self, name)))
        checked = (checked_text(f"context[{at}]", item) for at, item in enumerate(context))
        object.__setattr__(self, "context", tuple(checked))
        object.__setattr__(self, "context_rates", _rates(self.context_rates, len(context)))
        if not isinstance(self.keep_some, bool):
            raise _wrong_type("keep_some", self.keep_some, "true or false")

    @property
    def text(self) -> str:
        """The prompt as a model sees it: the non-empty parts joined by `separator`."""
        return join_parts((self.instruction, *self.context, self.question), self.separator)


class Facts(NamedTuple):
    """How many distinct numbers and names a text holds, and how many of them its compression kept."""

    numbers: int = 0
    numbers_kept: int = 0
    names: int = 0
    names_kept: int = 0


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class CompressedPrompt:
    """What is left of a prompt.

    text               instruction, kept context and question, joined as a model sees them
    context            the compressed strings, one for each index in `kept_context`, in that order
    kept_context       indices into the original context, in the order in which they stand in `text`
    kept_spans         for each string of the *original* context, the kept character ranges (empty: dropped)
    origin_tokens, compressed_tokens     of the joined texts, counted in the target tokenizer
    target_tokens      the promise asked for, in the same tokens
    status             ``compressed``; ``passthrough``: it was within its budget, nothing was touched;
                       ``kept``: nothing in it may be cut (or it has no text), so all of it was kept;
                       ``over_budget``: what may not be cut exceeds the target, so only that was kept; of a prompt
                       of which nothing fits that says something, the shortest unit or clause;
                       ``relaxed``: at the target it kept less than `min_fidelity`, so more was kept, or all
    fidelity           share of the original's information, numbers and names that is left (`lingua.budget.fidelity`)
    predicted          how well it predicts the original, where that was sampled (`lingua.budget.fidelity`)
    facts              the numbers and names of a prompt that was cut, in counts
    order              with `keep_order`: what makes its text at any budget (`lingua.assemble`)
    """

    text: str
    instruction: str
    context: tuple[str, ...]
    question: str
    kept_context: tuple[int, ...]
    kept_spans: tuple[tuple[Span, ...], ...]
    origin_tokens: int
    compressed_tokens: int
    target_tokens: int
    status: Status = "compressed"
    fidelity: float = 1.0
    predicted: float | None = None
    facts: Facts = NO_FACTS
    order: str | None = None

    @property
    def rate(self) -> float | None:
        """Kept share of the original tokens; None for a prompt without any."""
        return self.compressed_tokens / self.origin_tokens if self.origin_tokens else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A prompt that could not be compressed: a short countable `reason` and a sentence for people."""

    reason: str
    detail: str


Outcome = CompressedPrompt | Rejected


def join_parts(parts: Iterable[str], separator: str) -> str:
    """Join the non-empty parts."""
    return separator.join(part for part in parts if part)


def checked_text(name: str, value: object) -> str:
    """A text as a plain string, as those of other classes may print in any way. PromptError where it is none."""
    if not isinstance(value, str):
        raise _wrong_type(name, value, "a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        fault = f"{name} holds a lone surrogate at {error.start}: not valid text"
        raise PromptError("invalid_unicode", fault) from None
    return str.__str__(value)


def _rates(rates: object, strings: int) -> tuple[float | None, ...]:
    if not isinstance(rates, Iterable):
        raise _wrong_type("context_rates", rates, "a list of shares")
    rates = tuple(rates)
    if rates and len(rates) != strings:
        raise PromptError("wrong_rate", f"context_rates has {len(rates)} entries for {strings} context strings")
    for position, rate in enumerate(rates):
        if rate is not None and not (isinstance(rate, (int, float, np.floating)) and 0 <= rate <= 1):
            raise PromptError("wrong_rate", f"context_rates[{position}] = {rate!r} is not a share between 0 and 1")
    return rates


def _wrong_type(name: str, value: object, wanted: str) -> PromptError:
    return PromptError("wrong_type", f"{name} must be {wanted}, not {type(value).__name__}")
