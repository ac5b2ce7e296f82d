"""What the adapters share: found texts and a question through a compressor.

Chains call from many threads at once; `Compressor.compress` lets the calls of one model wait for each other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lingua.compressor import Compressor
from lingua.errors import PromptError
from lingua.prompt import Prompt, Rejected

LOGGER = logging.getLogger("lingua")


def compress_together(compressor: Compressor, texts: Sequence[str], question: str) -> list[tuple[int, str]]:
    """The texts as the documents of one prompt, under one budget: index and compressed text of each that is kept.

    They come in the order in which they stand in the prompt. Raises PromptError when it cannot be compressed.
    """
    if not any(texts):
        return list(enumerate(texts))
    (outcome,) = compressor.compress([Prompt(context=texts, question=question)])
    if isinstance(outcome, Rejected):
        raise PromptError(outcome.reason, outcome.detail)
    return list(zip(outcome.kept_context, outcome.context, strict=True))


def compress_each(compressor: Compressor, texts: Sequence[str]) -> list[str]:
    """Each text by itself, under its own budget. One that cannot be compressed stays as it is, with a warning."""
    prompts, refused = dict[int, Prompt](), list[PromptError | Rejected]()
    for index, text in enumerate(texts):
        try:
            prompts[index] = Prompt(context=(text,))
        except PromptError as error:
            refused.append(error)
    outcomes = dict(zip(prompts, compressor.compress(prompts.values()), strict=True))
    for one in (*refused, *(one for one in outcomes.values() if isinstance(one, Rejected))):
        LOGGER.warning("a document was left as it is (%s): %s", one.reason, one.detail)
    kept = {index: one.text for index, one in outcomes.items() if not isinstance(one, Rejected)}
    return [kept.get(index, text) for index, text in enumerate(texts)]
