"""Text that a causal model of transformers writes after prompts, cut before the first stop string: for all jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
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
    from torch.nn.utils.rnn import pad_sequence

    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    strings, ends = [one for one in stop if one], tokenizer.eos_token_id or 0
    stopping = {"stop_strings": strings, "tokenizer": tokenizer} if strings else {}
    settings = {**greedy, **stopping, **sampling}
    padded, texts = partial(pad_sequence, batch_first=True, padding_side="left"), [""] * len(rows)
    for batch in batches([len(row) for row in rows], at_once):
        tokens = [torch.tensor(rows[index], dtype=torch.long, device=model.device) for index in batch]
        ids, mask = padded(tokens, padding_value=ends), padded([torch.ones_like(one) for one in tokens])
        with torch.inference_mode():
            found = model.generate(input_ids=ids, attention_mask=mask, pad_token_id=ends, **settings)
        for index, new in zip(batch, found[:, ids.shape[1] :], strict=True):
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
