"""Text that a causal model of transformers writes after prompts, cut before the first stop string: for all jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from lingua.errors import PromptError

T = TypeVar("T")
R = TypeVar("R")
PLAIN_ATTENTION = "sdpa"
PADDING = 1.25
"""How much longer than its shortest prompt a batch's longest may be."""


class Writer(Protocol):
    """Whatever continues prompts: a model in process, or one behind an endpoint."""

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt, without the prompt, cut before the first of the `stop` strings."""


@contextmanager
def plain_attention(model: Any) -> Iterator[Any]:
    """The model with attention that all of transformers knows, while inside: packed rows have one of their own."""
    before = model.config._attn_implementation
    model.set_attn_implementation(PLAIN_ATTENTION)
    try:
        yield model
    finally:
        model.set_attn_implementation(before)


def cut(text: str, stop: Iterable[str]) -> str:
    """`text` before the first of the stop strings."""
    places = [place for one in stop if one and (place := text.find(one)) >= 0]
    return text[: min(places, default=len(text))]


def answered(
    items: Sequence[T], ask: Callable[[Sequence[T]], list[R]], refused: Callable[[T, PromptError], R]
) -> list[R]:
    """What `ask` says of all items at once; where it refuses one, of each alone, and `refused` of those."""
    try:
        return ask(items)
    except PromptError as error:  # which one it was shows alone
        if len(items) == 1:
            return [refused(items[0], error)]
        return [one for item in items for one in answered([item], ask, refused)]


def written(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], stop: Sequence[str], at_once: int, **sampling: Any
) -> list[str]:
    """What follows each row of ids, greedily unless `sampling` (arguments of transformers' `generate`) says otherwise.

    `at_once` rows of similar length at most are continued together, padded on the left.
    """
    import torch  # takes seconds, for nothing where an endpoint writes

    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    strings, ends = [one for one in stop if one], tokenizer.eos_token_id or 0
    stopping = {"stop_strings": strings, "tokenizer": tokenizer} if strings else {}
    texts = [""] * len(rows)
    for batch in batches([len(row) for row in rows], at_once):
        width = len(rows[batch[0]])
        gaps = [width - len(rows[index]) for index in batch]
        ids = [[ends] * gap + list(rows[index]) for index, gap in zip(batch, gaps, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        with torch.inference_mode():
            found = model.generate(
                input_ids=torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                pad_token_id=ends,
                **{**greedy, **stopping, **sampling},
            )
        for index, new in zip(batch, found[:, width:], strict=True):
            texts[index] = cut(tokenizer.decode(new, skip_special_tokens=True), stop)
    return texts


def batches(lengths: Sequence[int], at_once: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, the longest first, so that what does not fit fails at once."""
    batch = list[int]()
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) == at_once or lengths[batch[0]] > PADDING * lengths[index]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
