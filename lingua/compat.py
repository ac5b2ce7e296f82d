"""`PromptCompressor`: the interface of `llmlingua` 0.2.2 over this engine, so that moving over is a change of import.

Arguments (their names, order and defaults, in `integrations/llmlingua.py`) and the keys of the results are the same;
what is kept is decided here, so texts differ. `docs/moving-over.md` lists what differs on purpose. Perplexities, the
internal filters and `recover` of that class are left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lingua.compressor import Compressor
from lingua.config import CompressionConfig
from lingua.errors import PromptError
from lingua.integrations import llmlingua as peer
from lingua.integrations.llmlingua import Call, JsonCall, PromptCall, StructuredCall, takes
from lingua.prompt import CompressedPrompt, Prompt, Rejected, join_parts
from lingua.structured.json import Json, written
from lingua.structured.pieces import TextPiece, kept_texts, to_prompt
from lingua.structured.tags import parse
from lingua.text.words import slices, word_edges

GAP = "\n\n"
DOLLARS_PER_TOKEN = 0.06 / 1000
"""GPT-4's price at the time of `llmlingua` 0.2.2, which its key ``saving`` stands for."""
Result = dict[str, Any]


class PromptCompressor:
    """Compresses prompts as `llmlingua.PromptCompressor` does, with the same arguments.

    model_name         hub id, model directory, GGUF file or alias
    device_map         ``cpu``, ``cuda:1``, …; ``cuda`` and the names of strategies take a GPU if there is one
    model_config       ``torch_dtype`` (or ``dtype``) and ``trust_remote_code``, here off by default
    open_api_config    not used: there are no rankers that call paid services
    use_llmlingua2     the model is a token classifier
    llmlingua2_config  not used: batches are made by tokens, and any number of strings can be forced
    target_tokenizer   what budgets and results are counted in (not an argument of `llmlingua`)

    Raises ModelError and, with every call, ConfigError and PromptError.
    """

    def __init__(
        self,
        model_name: str = "NousResearch/Llama-2-7b-hf",
        device_map: str = "cuda",
        model_config: Mapping[str, Any] | None = None,
        open_api_config: Mapping[str, Any] | None = None,
        use_llmlingua2: bool = False,
        llmlingua2_config: Mapping[str, Any] | None = None,
        *,
        target_tokenizer: str = "cl100k_base",
    ) -> None:
        self.model_name, self.use_llmlingua2 = model_name, use_llmlingua2
        method = "llmlingua2" if use_llmlingua2 else "llmlingua"
        self._base: dict[str, Any] = {"method": method, "target_tokenizer": target_tokenizer}
        config = CompressionConfig(**self._base)
        self._compressor = Compressor(model_name, config, **peer.loading(model_name, device_map, model_config or {}))

    @takes(PromptCall)
    def compress_prompt(self, call: PromptCall) -> Result:
        """Compress context strings with an instruction and a question (`PromptCall` lists the arguments).

        Keys: compressed_prompt, compressed_prompt_list, origin_tokens, compressed_tokens, ratio, rate, saving, and
        fn_labeled_original_prompt if `return_word_label` asks for it.
        """
        if call.context_segs is not None:
            return self._structured(call, list(peer.segments(call)))
        if self.use_llmlingua2:
            call = replace(call, instruction="", question="")
        prompt = Prompt(call.instruction, call.context, call.question)
        outcome = self._compress(prompt, {**self._settings(call), **self._budget(call, prompt)})
        result = self._result(call, prompt.text, outcome.context)
        if call.return_word_label:
            result["fn_labeled_original_prompt"] = call.word_sep.join(_labels(call, outcome))
        return result

    @takes(StructuredCall)
    def structured_compress_prompt(self, call: StructuredCall) -> Result:
        """Compress context strings with ``<llmlingua, rate=…, compress=…>`` tags; every tag keeps its rate."""
        return self._structured(call, [parse(text) for text in call.context])

    @takes(JsonCall)
    def compress_json(self, call: JsonCall) -> Result:
        """Compress the strings of an object; ``compressed_prompt`` is an object with the same keys and types."""
        structure = Json.of(peer.rules(call))
        prompt = structure.decompose(call.json_data)
        prompt = replace(prompt, instruction=call.instruction, question=call.question)
        settings = call.as_call()
        rate = self._shared_rate(settings, prompt.context)
        outcome = self._compress(prompt, {**self._settings(settings), "rate": rate})
        value = structure.reassemble(call.json_data, outcome)
        return {"compressed_prompt": value, **self._figures(written(call.json_data), written(value))}

    def _structured(self, call: Call, contexts: Sequence[Sequence[TextPiece]]) -> Result:
        """The pieces of all context strings as one prompt."""
        gap = [TextPiece(GAP, 1.0)]
        pieces = [piece for context in contexts for piece in (*gap, *context)][0 if call.instruction else 1 :]
        prompt = to_prompt([*pieces, *(gap if call.question else ())])
        prompt = replace(prompt, instruction=call.instruction, question=call.question)
        rate = self._shared_rate(call, [piece.text for context in contexts for piece in context])
        outcome = self._compress(prompt, {**self._settings(call), "rate": rate})
        first = 1 if call.instruction else 0
        spans, texts = iter(outcome.kept_spans[first:]), []
        for context in contexts:
            own = tuple(next(spans) for _ in context)
            texts.append("".join(kept_texts(context, replace(outcome, kept_spans=own))))
            next(spans, None)
        return self._result(call, prompt.text, texts)

    def _compress(self, prompt: Prompt, settings: Mapping[str, Any]) -> CompressedPrompt:
        config = CompressionConfig(**{**self._base, **settings})
        (outcome,) = self._compressor.using(config).compress([prompt])
        if isinstance(outcome, Rejected):
            raise PromptError(outcome.reason, outcome.detail)
        return outcome

    def _settings(self, call: Call) -> dict[str, Any]:
        """All settings of a call but its rate or target."""
        peer.warn_of_what_has_no_effect(call)
        settings: dict[str, Any] = {} if call.use_token_level_filter else {"unit": "sentence"}
        settings |= {"force_tokens": ("\n",)} if call.keep_split else {}
        if self.use_llmlingua2:
            return settings | self._classifying(call)
        forced = call.force_context_ids if call.use_context_level_filter else range(len(call.context))
        settings |= {"force_context_ids": tuple(forced or ()), "context_budget": call.context_budget}
        settings |= {"iterative_size": call.iterative_size}
        return settings | peer.sentence_filter(call) | peer.question_aware(call)

    def _classifying(self, call: Call) -> dict[str, Any]:
        """The settings of LLMLingua-2 alone."""
        if not isinstance(call, PromptCall):
            return {}
        kept = (*call.force_tokens, *(["\n"] if call.keep_split else []))
        settings: dict[str, Any] = {"force_tokens": kept, "force_reserve_digit": call.force_reserve_digit}
        settings |= {"aggregate": call.token_to_word}
        if call.use_context_level_filter and len(call.context) > 1:
            forced = tuple(call.force_context_ids or ())
            settings |= {"context_budget": self._coarse(call), "force_context_ids": forced}
        return settings

    def _coarse(self, call: PromptCall) -> str:
        """What the coarse step of LLMLingua-2 keeps, as a multiple of the final budget."""
        origin = sum(map(self._compressor.count, call.context))
        final = call.rate * origin if call.target_token < 0 else call.target_token
        if call.target_context >= 0:
            coarse = origin * call.target_context / len(call.context)
        elif call.context_level_target_token >= 0:
            coarse = call.context_level_target_token
        elif call.context_level_rate < 1:
            coarse = origin * call.context_level_rate
        else:
            coarse = 2 * final if call.target_token >= 0 else (origin + final) / 2
        return f"*{max(1.0, coarse / max(1.0, final)):.6f}"

    def _budget(self, call: Call, prompt: Prompt) -> dict[str, Any]:
        """The rate or target; a question that is not part of the result does not count."""
        if call.concate_question or not call.question:
            return {"rate": call.rate} if call.target_token == -1 else {"target_token": int(call.target_token)}
        count = self._compressor.count
        wanted = call.rate * count(prompt.text) if call.target_token == -1 else call.target_token
        return {"target_token": int(wanted) + count(call.question)}

    def _shared_rate(self, call: Call, texts: Iterable[str]) -> float:
        """The rate of pieces of a structure without one of their own."""
        if call.target_token == -1:
            return call.rate
        return min(1.0, call.target_token / max(1, sum(map(self._compressor.count, texts))))

    def _result(self, call: Call, before: str, texts: Sequence[str]) -> Result:
        question = call.question if call.concate_question else ""
        after = join_parts((call.instruction, *texts, question), GAP)
        return {"compressed_prompt": after, "compressed_prompt_list": list(texts), **self._figures(before, after)}

    def _figures(self, before: str, after: str) -> Result:
        origin, compressed = self._compressor.count(before), self._compressor.count(after)
        share = compressed / origin if origin and compressed else 1.0
        return {
            "origin_tokens": origin,
            "compressed_tokens": compressed,
            "ratio": f"{1 / share:.1f}x",
            "rate": f"{100 * share:.1f}%",
            "saving": f", Saving ${(origin - compressed) * DOLLARS_PER_TOKEN:.1f} in GPT-4.",
        }


def _labels(call: PromptCall, outcome: CompressedPrompt) -> Iterator[str]:
    """Every word of the context with 1 if any of it is kept, else 0."""
    for text, spans in zip(call.context, outcome.kept_spans, strict=True):
        ends, end = [end for _, end in spans], 0
        for one in slices(text, word_edges(text)):
            word, end = one.strip(), end + len(one)
            span = bisect_right(ends, end - len(one.lstrip()))
            if word:
                yield f"{word}{call.label_sep}{int(span < len(spans) and spans[span][0] < end)}"
