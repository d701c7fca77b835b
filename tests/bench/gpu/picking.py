"""The dispatcher's pick against every form that it had to choose from, timed anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from secateur.kernels.dispatch.candidates import candidates
from secateur.kernels.dispatch.dispatcher import Dispatcher
from secateur.kernels.dispatch.race import DENSE, Form, race
from secateur.kernels.selection.kernel_patterns import choose, learn
from secateur.kernels.selection.select import keep_n_of_m
from secateur.tests.bench.gpu.grouped import Conv
from secateur.tests.bench.gpu.setting import Broken, Case, Json, Setting, reason, trimmed

Mask = Callable[[Tensor, Setting], Tensor]

LINEARS = ((1024, 1024), (4096, 4096))
BATCHES = (1, 16, 256, 4096)
CONVOLUTIONS = (
    Conv("ResNet", 64, 64, 3, 1, 56),
    Conv("ResNet", 256, 256, 3, 1, 14),
    Conv("VGG", 512, 512, 3, 1, 28),
)
CONV_BATCHES = (1, 32)
# The dispatcher decides on this share of a row's time; the rest is for timing all forms again.
_DECIDING = 0.4


def _elements(density: float) -> Mask:
    return lambda weight, setting: setting.scattered(*weight.shape, density)


def _lines(dim: int, density: float) -> Mask:
    """Whole rows (0) or columns (1)."""

    def mask(weight: Tensor, setting: Setting) -> Tensor:
        kept = setting.columns(weight.shape[dim], density)
        return kept.unsqueeze(1 - dim).expand(weight.shape)

    return mask


def _blocks(side: int, density: float) -> Mask:
    def mask(weight: Tensor, setting: Setting) -> Tensor:
        out, ins = weight.shape
        kept = setting.scattered(-(-out // side), -(-ins // side), density)
        return kept.repeat_interleave(side, 0).repeat_interleave(side, 1)[:out, :ins]

    return mask


def _runs(n: int, m: int) -> Mask:
    return lambda weight, _: keep_n_of_m(weight.abs(), n, m)


def _by_filter(weight: Tensor, _: Setting) -> Tensor:
    """One of eight 4-of-9 patterns for each filter."""
    kernels = weight.view(len(weight), -1, 9).square()
    library = learn(kernels.flatten(0, 1), 4, 8)
    return choose(kernels.sum(dim=1), library).repeat(1, kernels.shape[1])


PATTERNS: Mapping[str, Mask] = {
    "element 60 %": _elements(0.4),
    "element 90 %": _elements(0.1),
    "column 50 %": _lines(1, 0.5),
    "column 75 %": _lines(1, 0.25),
    "row 50 %": _lines(0, 0.5),
    "block 32x32 80 %": _blocks(32, 0.2),
    "2:4": _runs(2, 4),
}
CONV_PATTERNS: Mapping[str, Mask] = {
    "element 90 %": _elements(0.1),
    "column 50 %": _lines(1, 0.5),
    "column 75 %": _lines(1, 0.25),
    "row 50 %": _lines(0, 0.5),
    "2:4": _runs(2, 4),
    "pattern of each filter": _by_filter,
}


def cases(setting: Setting, topic: str) -> list[Case]:
    """Linear layers and convolutions in turn, so that one that is left out is of either kind."""
    shapes = [(64, 96)] if setting.quick else LINEARS
    convs = [Conv("tiny", 16, 16, 3, 1, 9)] if setting.quick else CONVOLUTIONS
    linears = [
        (f"{out}x{ins}, batch {batch}, {pattern}", partial(linear, out, ins, batch), mask)
        for batch in trimmed(BATCHES, setting, 2)
        for out, ins in shapes
        for pattern, mask in PATTERNS.items()
    ]
    convolutions = [
        (f"{shape}, batch {batch}, {pattern}", partial(conv, shape, batch), mask)
        for batch in trimmed(CONV_BATCHES, setting)
        for shape in convs
        for pattern, mask in CONV_PATTERNS.items()
    ]
    found = []
    for number, (name, make, mask) in enumerate(_mixed(linears, convolutions)):
        half = torch.bfloat16 if number % 2 else torch.float16
        for dtype in (torch.float32,) if number % 3 == 0 else (half,):
            words = f"{name}, {str(dtype).removeprefix('torch.')}"
            found.append(Case(topic, words, partial(pick, make, mask, dtype)))
    return found


def _mixed(one: list, other: list) -> list:
    """The two lists as one, each spread evenly over it."""
    places = [((i + 0.5) / len(part), item) for part in (one, other) for i, item in enumerate(part)]
    return [item for _, item in sorted(places, key=lambda each: each[0])]


def linear(out: int, ins: int, batch: int, setting: Setting) -> tuple[nn.Module, Tensor]:
    return nn.Linear(ins, out, device=setting.device), setting.randn(batch, ins)


def conv(shape: Conv, batch: int, setting: Setting) -> tuple[nn.Module, Tensor]:
    layer = nn.Conv2d(shape.ins, shape.out, shape.kernel, **shape.walk, device=setting.device)
    return layer, setting.randn(batch, shape.ins, shape.size, shape.size)


def pick(
    make: Callable[[Setting], tuple[nn.Module, Tensor]],
    mask: Mask,
    dtype: torch.dtype,
    setting: Setting,
    seconds: float,
) -> Json:
    """What the dispatcher picks for a layer with zeros, and what every form takes after that."""
    with torch.inference_mode():
        module, x = make(setting)
        matrix = module.weight.flatten(1)
        module.weight.copy_((matrix * mask(matrix, setting)).view_as(module.weight))
        module, x = module.to(dtype).eval(), x.to(dtype)
        choice = Dispatcher(seconds=_DECIDING * seconds).choose(module, x)
        forms, failed = {DENSE: Form(DENSE, module, (x,), {})}, {}
        found = candidates(module)
        for path in found:
            try:
                form = found[path]
                form(x)
                setting.settle()
                forms[path] = Form(path, form, (x,), {})
            except Broken:
                raise
            except Exception as error:
                setting.settle()
                failed[path] = reason(error)
        rest = (1 - _DECIDING) * seconds
        times = race(forms.values(), seconds=rest, device=setting.device.type)
        setting.settle()
    return {
        "kind": "pick",
        "picked": choice.path,
        "ms": {path: [each.median_ms, each.q1, each.q3, each.n] for path, each in times.items()},
        "tried": dict(choice.tried),
        "failed": failed,
    }
