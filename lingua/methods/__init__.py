"""The published methods, one file each, by the name that `method:` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lingua.draft import Draft
from lingua.engine import Program
from lingua.methods.llmlingua import llmlingua

Needs = Literal["causal", "encoder", "nothing"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method's program, and what answers its scores: a causal model, an encoder, or nothing (it asks for none)."""

    program: Callable[[Draft], Program[None]]
    needs: Needs


METHODS: dict[str, Method] = {
    "llmlingua": Method(llmlingua, "causal"),
}
