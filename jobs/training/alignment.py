"""Distribution alignment (LLMLingua, arXiv 2310.05736, section 4.3): a small model learns to see text as a target does.

`respond`: the target writes responses, group by group. `train`: the small model is measured, trained on the responses,
measured again and written. Each can be killed and started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cluster.output.folder import RunFolder
from jobs.generation import Writer, answered, written
from jobs.training.labels import open_endpoint, teacher_digest
from jobs.training.rows import Example, digest_of, read_examples, split
from jobs.training.settings import AlignConfig
from jobs.training.surprisal import Seen, Tokens, collate, keeps_apart, loss, measure, pack, read, tokenize
from jobs.training.trainer import Lesson, card, learn, public_name, publish, save
from jobs.training.workers import Groups, Rank, folder_of
from lingua.errors import ConfigError
from lingua.models.load import Loader, choose_dtype
from lingua.models.source import resolve
from lingua.text.tokens import SourceTokenizer

RESPONSES = "responses"
BATCH = {"cuda": 32, "cpu": 16}
"""Prompts that a model in process continues at once."""


# ---- responses


def respond(config: AlignConfig, rank: Rank) -> None:
    """Write this worker's share of the missing responses."""
    folder = folder_of(config)
    prompts = [example.before for example in read_examples(config, folder.storage)]

    def start() -> Callable[[Sequence[str]], list[str]]:
        writer = LocalWriter(config, rank) if config.endpoint is None else open_endpoint(config, str(config.target))
        return partial(response_lines, writer, config)

    Groups(folder, RESPONSES).make(prompts, config.group, rank, start)


def response_lines(writer: Writer, config: AlignConfig, prompts: Sequence[str]) -> list[str]:
    """Prompts with their responses, as lines of JSON; "" where the target refuses a prompt."""
    respond_to = partial(writer.generate, max_tokens=config.response_tokens, stop=config.stop)
    texts = answered(prompts, respond_to, lambda *_: "")
    rows = ({"prompt": prompt, "response": text} for prompt, text in zip(prompts, texts, strict=True))
    return [json.dumps(row, ensure_ascii=False) for row in rows]


class LocalWriter:
    """Draws responses from a model of transformers, batch by batch, from one seed per call."""

    def __init__(self, config: AlignConfig, rank: Rank) -> None:
        self._config, loader = config, Loader(resolve(str(config.target)), rank.device)
        self._tokenizer, self._model = loader.tokenizer(), loader.causal()

    def generate(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """What follows each prompt, cut before the first of the `stop` strings."""
        torch.manual_seed(self._config.seed)
        rows, heat = [self._tokenizer(prompt).input_ids for prompt in prompts], self._config.temperature
        drawn = {"do_sample": True, "temperature": heat, "top_k": 0, "top_p": 1.0} if heat > 0 else {}
        at_once = BATCH.get(self._model.device.type, BATCH["cpu"])
        return written(self._model, self._tokenizer, rows, stop, at_once, max_new_tokens=max_tokens, **drawn)


# ---- training


def train(config: AlignConfig, rank: Rank) -> None:
    """Train the small model and write it, with its card; the result last."""
    folder = folder_of(config)
    trained, held = split(_examples(config, folder), config.held_out)
    loader, dtype = Loader(resolve(config.model)), choose_dtype(config.dtype, torch.device(rank.device))
    target = _target_sees(config, folder, held, rank) if rank.leads else []
    model = _student(config, loader).to(rank.device)
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    window = min(config.sequence_tokens, most or config.sequence_tokens)
    tokenizer = SourceTokenizer(loader.tokenizer())

    def fit(model: Any) -> dict[str, Any]:
        together = zip(_seen(model, held, tokenizer, window, dtype), held, target, strict=True)
        if not (rows := [(one, example.response, other) for one, example, other in together if one is not None]):
            raise ConfigError("sequence_tokens: too short for the held-out rows; raise it")
        return measure(rows)

    if not (tokens := [one for one in tokenize(trained, tokenizer, window) if one is not None]):
        raise ConfigError(f"sequence_tokens = {window}: too short for the texts before the responses; raise it")
    before = folder.once("_before.json", lambda: fit(model)) if rank.leads else None
    losses = learn(_lesson(config, model, tokens, window), config, folder, rank, bf16=dtype == torch.bfloat16)
    if rank.leads:
        model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
        model = model.to(loader.load(AutoConfig).dtype or torch.float32).eval().requires_grad_(False)  # as it came
        after = fit(model)
        result = {**_counts(config, trained, held, tokens), "before": before, "after": after, "losses": losses}
        text = card("aligned", config, result, base=public_name(config.model), table=table(result))
        publish(folder, partial(save, model, loader, text), result)


def _examples(config: AlignConfig, folder: RunFolder) -> list[Example]:
    """The rows with their responses, without those to which the target said nothing. After `respond`."""
    if config.target is None:
        return read_examples(config, folder.storage)
    found = (Example(row["prompt"], row["response"]) for row in Groups(folder, RESPONSES).read())
    return [example for example in found if example.response.strip()]


def _seen(
    model: Any, examples: Sequence[Example], tokenizer: SourceTokenizer, window: int, dtype: torch.dtype
) -> list[Seen | None]:
    """The responses as a model sees them; None for those that its window does not reach."""
    tokens = tokenize(examples, tokenizer, window)
    values = iter(read(model, [one for one in tokens if one is not None], dtype))
    return [None if one is None else Seen(one.ends, next(values)) for one in tokens]


def _target_sees(config: AlignConfig, folder: RunFolder, held: Sequence[Example], rank: Rank) -> list[Seen | None]:
    """The held-out responses as the target sees them, kept in the folder; an endpoint does not tell."""
    if config.target is None or config.endpoint is not None:
        return [None] * len(held)

    def look() -> list[Any]:
        loader = Loader(resolve(str(config.target)), rank.device, "float32")
        tokenizer = SourceTokenizer(loader.tokenizer())
        seen = _seen(loader.causal(), held, tokenizer, config.sequence_tokens, torch.float32)
        return [None if one is None else (one.ends.tolist(), one.surprisal.tolist()) for one in seen]

    rows = folder.once(f"{RESPONSES}/_surprisal.json", look)
    return [None if row is None else Seen(np.asarray(row[0]), np.asarray(row[1])) for row in rows]


def _lesson(config: AlignConfig, model: Any, tokens: Sequence[Tokens], window: int) -> Lesson:
    packs = [[tokens[number] for number in numbers] for numbers in pack(list(map(len, tokens)), window, config.seed)]
    apart = keeps_apart(model)
    return Lesson(
        model=model,
        items=packs,
        lengths=[sum(map(len, one)) for one in packs],
        collate=lambda some: collate([example for one in some for example in one], apart),
        loss=loss,
        step=config.step_sequences,
        at_once=1,
        schedule="cosine",
        decay=0.0,
    )


def _counts(config: AlignConfig, trained: Sequence[Example], held: Sequence[Example], tokens: Any) -> dict[str, Any]:
    return {
        "model_digest": resolve(config.model).digest,
        "target_digest": teacher_digest(config),
        "rows": len(tokens),
        "skipped_rows": len(trained) - len(tokens),
        "tokens": sum(map(len, tokens)),
        "response_tokens": sum(len(one.ends) for one in tokens),
        "train_digest": digest_of(trained),
        "held_out_digest": digest_of(held),
    }


# ---- the small model


def _student(config: AlignConfig, loader: Loader) -> Any:
    """The small model in float32, whole or frozen behind LoRA."""
    model = loader.load(AutoModelForCausalLM, dtype=torch.float32)
    if config.method == "full":
        return model
    from peft import LoraConfig, get_peft_model  # takes seconds, for nothing where all weights are trained

    torch.manual_seed(config.seed)  # the first matrices are drawn, and must be the same on all workers
    rank = config.lora_rank
    return get_peft_model(model, LoraConfig("CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


# ---- what is told of it

ROWS = (
    ("perplexity", "perplexity of the target's text", "{:.2f}"),
    ("bits_per_byte", "bits per byte of it", "{:.3f}"),
    ("agreement", "rank agreement of surprisal with the target's", "{:.3f}"),
)


def table(result: dict[str, Any]) -> str:
    """Before and after, as a Markdown table."""
    lines = ["| on held-out rows | before | after |", "|---|---|---|"]
    for key, title, form in ROWS:
        values = [result[when][key] for when in ("before", "after")]
        shown = ["not measured" if value is None else form.format(value) for value in values]
        lines.append(f"| {title} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines)
