"""The gate `min_fidelity`: a prompt that lost too much is compressed less, and says so (``relaxed``).

Whatever was to be cut is halved, and halved again: of a rate of 0.3 that leaves 0.65, 0.825, 0.91. What still lost too
much is then left as it was. The gate counts over `rate` and `target_token`, over the rates of a structure's pieces, and
over `keep_threshold`, which is halved instead; what is to be dropped stays dropped. Each try costs about a compression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lingua.draft import Draft, Drafter
from lingua.prompt import CompressedPrompt, Prompt
from lingua.score import Program

TRIES = 3

Compress = Callable[[Draft], Program[CompressedPrompt]]
"""The program of a draft whose budget is set; its result says its fidelity."""


def relaxed(
    prompt: Prompt, drafter: Drafter, least: float, compress: Compress, asked: CompressedPrompt
) -> Program[CompressedPrompt]:
    """The same prompt with a fidelity of at least `least`; `asked` is its result at the budget that was asked for."""
    for step in range(1, TRIES + 1):
        result = yield from compress(eased(prompt, drafter, 0.5**step))
        if result.fidelity >= least:
            break
    else:
        result = drafter.draft(prompt).finish()
    return replace(result, status="relaxed", target_tokens=asked.target_tokens)


def eased(prompt: Prompt, drafter: Drafter, share: float) -> Draft:
    """A draft of which only `share` of what was to be cut is to be cut."""
    config = drafter.config
    if config.keep_threshold is not None:
        lower = config.model_copy(update={"keep_threshold": config.keep_threshold * share})
        drafter = replace(drafter, config=lower)
    draft = drafter.draft(prompt)
    for part in (draft.instruction, *draft.context, draft.question):
        if part.rate:
            part.rate = 1 - (1 - part.rate) * share
    draft.target_tokens = draft.origin_tokens - int((draft.origin_tokens - draft.target_tokens) * share)
    return draft
