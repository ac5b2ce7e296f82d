"""A naive transcription of LLMLingua's algorithms 1 and 2 (arXiv 2310.05736), cache-free, on plain forwards.

It shares no code with the engine: lists of token ids, one forward of the untouched model per question, one token per
unit, nothing that must be kept. Where the paper's formulas do not add up it follows the documented repairs: lengths add
up to the target, separators are paid for, each segment keeps the k most surprising tokens and passes on its remainder;
the demonstrations' rate is rounded down to a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch


@dataclass
class Settings:
    """k, the segment length, τ_ins and τ_que; the start token, and the separator between parts as ids."""

    k: float
    segment: int
    instruction_rate: float
    question_rate: float
    start: int
    separator: list[int]


@dataclass
class Reader:
    """A model read token by token; `seen` slides like the engine's window, over what was kept."""

    model: Any
    start: int
    window: int

    def surprisal(self, seen: list[int], text: list[int]) -> list[float]:
        """Surprisal of `text` after the start token and `seen`; forgets the beginning of `seen` for good if need be."""
        if len(text) > self.window // 2:
            return self._in_pieces(list(seen), text)
        self._slide(seen, len(text))
        with torch.no_grad():
            logits = self.model(torch.tensor([[self.start, *seen, *text]])).logits[0].double()
        predicted = torch.log_softmax(logits, -1)
        first = len(seen)
        return [-float(predicted[first + position, token]) for position, token in enumerate(text)]

    def _in_pieces(self, seen: list[int], text: list[int]) -> list[float]:
        values: list[float] = []
        while text:
            piece, text = text[: self.window // 2], text[self.window // 2 :]
            values += self.surprisal(seen, piece)
            seen += piece
        return values

    def _slide(self, seen: list[int], more: int) -> None:
        if 1 + len(seen) + more > self.window:
            newest = min(self.window // 2, self.window - more) - 1
            del seen[: len(seen) - newest]


def budgets(lengths: tuple[int, int, int], room: float, settings: Settings) -> tuple[float, float, float]:
    """(2) and (3): what instruction, demonstrations and question may keep, of these lengths, in `room` tokens."""
    instruction, demonstrations, question = lengths
    for_instruction = settings.instruction_rate * instruction
    for_question = settings.question_rate * question
    for_demonstrations = max(0.0, room - for_instruction - for_question)
    spare = for_demonstrations - demonstrations
    if spare > 0:
        for_demonstrations = demonstrations
        both = max(1, instruction + question)
        for_instruction = min(instruction, for_instruction + spare * instruction / both)
        for_question = min(question, for_question + spare * question / both)
    return for_instruction, for_demonstrations, for_question


def algorithm_1(
    reader: Reader, parts: tuple[list[int], list[list[int]], list[int]], target: int, settings: Settings
) -> list[int]:
    """Demonstrations in descending perplexity until the next would exceed k times their share; as they stood."""
    instruction, demonstrations, question = parts
    total = sum(map(len, demonstrations))
    room = target - _separators(parts) * len(settings.separator)
    final = budgets((len(instruction), total, len(question)), room, settings)[1]
    if len(demonstrations) < 2 or total <= settings.k * final:
        return list(range(len(demonstrations)))
    perplexity = []
    for demonstration in demonstrations:
        values = reader.surprisal([], demonstration)
        perplexity.append(sum(values) / len(values))
    taken, length = list[int](), 0
    for index in sorted(range(len(demonstrations)), key=lambda index: -perplexity[index]):
        if length >= final and length + len(demonstrations[index]) > settings.k * final:
            break
        taken.append(index)
        length += len(demonstrations[index])
    return sorted(taken)


def algorithm_2(
    reader: Reader, parts: tuple[list[int], list[list[int]], list[int]], target: int, settings: Settings
) -> list[list[bool]]:
    """The keep mask of each part, in order: instruction, demonstrations, question."""
    instruction, demonstrations, question = parts
    total = sum(map(len, demonstrations))
    room = target - _separators(parts) * len(settings.separator)
    shares = budgets((len(instruction), total, len(question)), room, settings)
    lengths = (len(instruction), total, len(question))
    rates = [min(1.0, share / length) if length else 1.0 for share, length in zip(shares, lengths, strict=True)]
    rates[1] = _step(rates[1])
    seen: list[int] = []
    masks, purse = [], 0.0
    everything = [(instruction, rates[0]), *((one, rates[1]) for one in demonstrations), (question, rates[2])]
    for text, rate in everything:
        mask = [False] * len(text)
        if seen and text:
            seen += settings.separator
        if rate == 1:
            mask = [True] * len(text)
            seen += text
        else:
            for begin, end in _segments(len(text), settings.segment):
                values = reader.surprisal(seen, text[begin:end])
                purse += rate * (end - begin)
                best = sorted(range(begin, end), key=lambda place: (-values[place - begin], place))
                for place in best[: math.floor(purse)]:
                    mask[place] = True
                purse -= sum(mask[begin:end])
                seen += [token for place, token in enumerate(text[begin:end], begin) if mask[place]]
        masks.append(mask)
    return masks


def _step(rate: float) -> float:
    """The largest multiple of the step that is not above `rate`; a power of two has 32 steps to the next one."""
    step = 2.0 ** math.floor(math.log2(rate)) / 32 if rate else 1.0
    return rate // step * step


def _segments(length: int, size: int) -> list[tuple[int, int]]:
    number = -(-length // size)
    edges = [math.ceil(length * step / number) for step in range(number + 1)] if number else []
    return list(pairwise(edges))


def _separators(parts: tuple[list[int], list[list[int]], list[int]]) -> int:
    instruction, demonstrations, question = parts
    return max(0, sum(map(bool, [instruction, *demonstrations, question])) - 1)
