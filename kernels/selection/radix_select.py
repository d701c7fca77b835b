"""The lowest scores of many tensors together, as masks: scored, ranked, written on the device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch, launchable
from ..cuda.source import Source, scalar
from ..formats.bits import pack_bits, unpack_bits
from .threshold import Part, all_but_lowest, lowest_counts

SCORES = ("given", "magnitude", "product")
"""What is ranked: the tensors as they are, |w|, or |w · g| with a second tensor for each."""

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("radix_sample", "radix_collect", "radix_count", "radix_mask", "radix_trim"),
    tuple(
        {"T": dtype, "SCORE": str(score)}
        for dtype in ("float", "half", "bfloat16")
        for score in range(len(SCORES))
    ),
)

_THREADS = 512
_CHUNK = 1 << 14
_BINS = 2048
# From so many chunks on a sample pays. It takes one entry in so many, and one in so many may lie
# between its bounds.
_SAMPLE_FROM = 64
_SPARSEST_SAMPLE = 256
_LISTED = 4


def lowest_of_all(
    tensors: Sequence[Tensor],
    count: int,
    others: Sequence[Tensor] | None = None,
    *,
    score: str = "given",
    keep: bool = False,
    packed: bool = False,
) -> list[Tensor]:
    """Return bool masks in the tensors' shapes, True at the `count` lowest scores of all together.

    `tensors` are floating, of any shapes, on one device, without NaN. `score` says what of them is
    ranked (see `SCORES`); "product" takes `others`, in the same shapes. Scores are float32. Ties go
    to earlier tensors, and within one to lower flat indices. With `keep` the masks are True
    elsewhere: at what stays. With `packed` each is packed as by `formats.bits.pack_bits`.

    On a GPU nothing waits for the host. Raises ValueError for a `count` that there is not and for
    tensors that do not fit `score`.
    """
    total = sum(tensor.numel() for tensor in tensors)
    if not 0 <= count <= total:
        raise ValueError(f"cannot choose {count} of {total} entries")
    if score not in SCORES or (score == "product") != (others is not None):
        raise ValueError(f"no score {score!r} of {'one' if others is None else 'two'} tensors each")
    if others is not None and [w.shape for w in tensors] != [g.shape for g in others]:
        raise ValueError("the tensors to multiply differ in their shapes")
    tensors = [tensor.detach() for tensor in tensors]
    others = None if others is None else [other.detach() for other in others]
    if total and launchable(*tensors):
        return lowest_of_all_cuda(tensors, count, others, score=score, keep=keep, packed=packed)
    parts = [_part(w, None if others is None else others[i], score) for i, w in enumerate(tensors)]
    filled = [part for part in parts if part.count]
    counts = iter(lowest_counts(filled, count) if len(filled) > 1 else [count])
    masks = []
    for tensor, part in zip(tensors, parts, strict=True):
        stays = all_but_lowest(part, next(counts) if part.count else 0)
        mask = stays if packed and keep else unpack_bits(stays, part.count)
        mask = mask if keep else mask.logical_not_()
        masks.append((mask if keep else pack_bits(mask)) if packed else mask.view(tensor.shape))
    return masks


def _part(weight: Tensor, other: Tensor | None, score: str) -> Part:
    flat, factors = weight.reshape(-1), None if other is None else other.reshape(-1)

    def scores(at: slice | Tensor) -> Tensor:
        found = flat[at].float()
        if factors is not None:
            found = found * factors[at].float()
        return found if score == "given" else found.abs()

    return Part(len(flat), scores, len(flat))


def lowest_of_all_cuda(
    tensors: Sequence[Tensor],
    count: int,
    others: Sequence[Tensor] | None = None,
    *,
    score: str = "given",
    keep: bool = False,
    packed: bool = False,
    chunk: int = _CHUNK,
    threads: int = _THREADS,
    sample_from: int = _SAMPLE_FROM,
) -> list[Tensor]:
    """`lowest_of_all` by the kernels.

    Blocks of `threads` take `chunk` entries at a time, a multiple of 32. From `sample_from` chunks
    on a sample is taken first.
    """
    device, dtype = tensors[0].device, _common([*tensors, *(others or ())])
    values = [tensor.to(dtype).contiguous() for tensor in tensors]
    factors = None if others is None else [other.to(dtype).contiguous() for other in others]
    masks = [_mask(w, packed) for w in values]
    total = sum(w.numel() for w in values)
    if count in (0, total):
        ones = (count > 0) != keep
        return [_fill(mask, ones, w.numel()) for mask, w in zip(masks, values, strict=True)]

    starts = [0, *accumulate(-(-w.numel() // chunk) for w in values)]
    chunks = starts[-1]
    segments = _segments(values, factors, masks, starts)
    # 16-bit values fill only the upper bits of a key; their products do not.
    passes = 3 if dtype == torch.float32 or factors is not None else 2
    blocks = min(chunks, _blocks(device))
    room = -(-chunks // blocks) * chunk // _LISTED
    zeros = partial(torch.zeros, dtype=torch.int64, device=device)
    sample, histograms, state, between = zeros(_BINS), zeros(3 * _BINS), zeros(4, 2), zeros(3)
    state[0, 1] = count - 1
    sampled = chunks >= sample_from
    keys = torch.empty(blocks * room if sampled else 0, dtype=torch.int32, device=device)
    listed = torch.empty(blocks, dtype=torch.int32, device=device)
    ties = torch.empty(chunks, dtype=torch.int32, device=device)
    run = partial(
        launch,
        SOURCE,
        grid=(blocks,),
        block=(threads,),
        variant={"T": scalar(dtype), "SCORE": str(SCORES.index(score))},
    )
    tiles, found = (segments, chunks, chunk), (between, keys, room, listed)
    if sampled:
        run("radix_sample", args=(*tiles, max(1, chunk // _SPARSEST_SAMPLE), sample))
        run("radix_collect", args=(*tiles, sample, state, total, *found))
    for done in range(passes):
        run("radix_count", args=(*tiles, histograms, state, done, *found))
    run("radix_mask", args=(*tiles, histograms, state, passes, ties, int(keep)))
    run("radix_trim", args=(*tiles, state, passes, ties.cumsum(0), int(keep)))
    return masks


def _mask(values: Tensor, packed: bool) -> Tensor:
    size = (-(-values.numel() // 8),) if packed else values.shape
    return torch.empty(size, dtype=torch.uint8 if packed else torch.bool, device=values.device)


def _segments(
    values: list[Tensor], factors: list[Tensor] | None, masks: list[Tensor], starts: list[int]
) -> Tensor:
    """The kernels' `Segment` for each tensor, and one after the last; int64, on the device."""
    rows = []
    for i, (w, mask) in enumerate(zip(values, masks, strict=True)):
        other = 0 if factors is None else factors[i].data_ptr()
        whole, bits = (mask.data_ptr(), 0) if mask.dtype == torch.bool else (0, mask.data_ptr())
        rows.append((w.data_ptr(), other, whole, bits, w.numel(), starts[i]))
    rows.append((0, 0, 0, 0, 0, starts[-1]))
    return _sent(torch.tensor(rows), values[0].device)


def _blocks(device: torch.device) -> int:
    """As many blocks as run at once."""
    if device.type != "cuda":
        return 2
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device, without waiting for what runs there."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _common(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype that all have, if there is a kernel for it, otherwise float32."""
    dtypes = {tensor.dtype for tensor in tensors}
    one = dtypes.pop()
    return torch.float32 if dtypes or one == torch.float64 else one


def _fill(mask: Tensor, ones: bool, entries: int) -> Tensor:
    """All True or all False, in the shape of `mask`; the bits that fill up the last byte are 0."""
    if mask.dtype == torch.bool:
        return mask.fill_(ones)
    mask.fill_(255 if ones else 0)
    if ones and entries % 8:
        mask[-1] = (1 << entries % 8) - 1
    return mask
