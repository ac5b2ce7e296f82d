"""How many keep decisions another way of computing changes: the price of a faster one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jobs.benchmarking.contenders import KeptSpans
from lingua.prompt import Prompt, Span


def changed_share(prompts: Sequence[Prompt], ours: Sequence[KeptSpans], theirs: Sequence[KeptSpans]) -> float:
    """Share of the context's characters that one keeps and the other does not, over prompts that both compressed."""
    changed = total = 0
    for prompt, one, other in zip(prompts, ours, theirs, strict=False):
        for text, kept, also in zip(prompt.context, one, other, strict=False):
            changed += int((_mask(text, kept) != _mask(text, also)).sum())
            total += len(text)
    return changed / max(1, total)


def _mask(text: str, spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(text), bool)
    for begin, end in spans:
        mask[begin:end] = True
    return mask
