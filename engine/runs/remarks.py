"""What is to be said of finished masks: what went that should not, and what should and did not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from ..info import ModelInfo
from ..masks import Masks
from ..plan import Rule


def remarks(
    info: ModelInfo, masks: Masks, rules: Mapping[str, Rule], requested: Mapping[str, float]
) -> Iterator[str]:
    """Sentences for the person; `rules` and `requested` sparsities by layer path."""
    yield from _untouched(info, masks, rules, requested)
    yield from _lost_answers(info, masks, rules)


def _untouched(
    info: ModelInfo, masks: Masks, rules: Mapping[str, Rule], requested: Mapping[str, float]
) -> Iterator[str]:
    """Where a pattern's least step is more than a layer was to lose: one note for each pattern."""
    found: dict[str, list[str]] = {}
    for path, rule in rules.items():
        mask = masks.layers.packed[path]
        if requested[path] > 0 and not rule.pattern.whole and mask.kept == mask.numel:
            found.setdefault(pattern_word(rule), []).append(path)
    for word, paths in found.items():
        pattern, gemm = rules[paths[0]].pattern, info.layer(paths[0]).gemm
        step = f"the least that {word} can take there is more"
        if pattern.free and gemm is not None:
            units = pattern.pool(torch.empty(gemm.shape, device="meta"), gemm).numel()
            step = f"{word} can take one of {units} units there at least, which is too much"
            if units == 1:
                step = f"for {word} it is one unit, which has to stay"
        yield (
            f"{_named(paths)} lost nothing though {requested[paths[0]]:.1%} was asked for: {step}"
        )


def _lost_answers(info: ModelInfo, masks: Masks, rules: Mapping[str, Rule]) -> Iterator[str]:
    """Where outputs are empty that the model gives out, such as a classifier's classes."""
    lost: dict[str, int] = {}
    for path, rule in rules.items():
        layer = info.layer(path)
        if rule.pattern.removes and layer.fixed == "the model's output" and not layer.branch:
            empty = int((~masks.layers[path].any(dim=1)).sum())
            if empty:
                lost[path] = empty
    if lost:
        first, empty = next(iter(lost.items()))
        outputs = len(masks.layers[first])
        yield (
            f"{_named(list(lost))} lost {empty} of {outputs} outputs though the model gives them "
            "out, so these answers are empty now; ends: dense keeps the first and the last layer "
            "whole"
        )


def _named(paths: Sequence[str]) -> str:
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def pattern_word(rule: Rule) -> str:
    """The pattern in its short form."""
    word = rule.pattern.to_plan()
    return word if isinstance(word, str) else str(word["kind"])
