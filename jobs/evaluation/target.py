"""`Target`: the model that is asked, seen from the evaluation. In this process or behind an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Target(Protocol):
    """A language model that reads prompts, compressed or not.

    name     as it stands in the results
    scores   whether `nll` can be had; chat endpoints give no probabilities of a given text
    """

    name: str

    @property
    def scores(self) -> bool: ...

    def nll(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """−ln p(answer | prompt) of each pair, in nats, summed over the answer's tokens."""
        ...

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt: greedy, without the prompt, cut before the first of the `stop` strings."""
        ...
