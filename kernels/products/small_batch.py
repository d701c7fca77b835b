"""How the ELL and the N:M product (small_batch.cuh) are cut into blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Shared memory for x in a block: two such blocks fit a multiprocessor from sm_80 on.
_SHARED = 96 << 10
_RUN = 8  # values that a lane reads at once
_MOST_WARPS = 16


@dataclass(frozen=True)
class Cut:
    """One launch: `tile` samples per block (0: x stays where it lies), `lanes` threads per row."""

    tile: int
    lanes: int
    grid: tuple[int, int]
    block: tuple[int]
    shared: int

    @property
    def suffix(self) -> str:
        """What the kernel's name ends in."""
        return str(self.tile or "direct")


def cut(out: int, width: int, x: Tensor) -> Cut:
    """The launch for `out` rows of `width` kept entries and x [batch, in]."""
    batch, ins = x.shape
    processors, most = _device(x.device)
    column = (ins + ins // 16 + 1) * x.element_size()
    fitting = [tile for tile in (1, 2, 4, 8) if column * tile <= most]
    tile = next((tile for tile in fitting if tile >= batch), fitting[-1] if fitting else 0)
    lanes = next((lanes for lanes in (8, 16) if lanes * _RUN >= width), 32)
    warps = -(-out * lanes // 32)
    in_block = min(_MOST_WARPS, max(1, -(-warps // (2 * processors))))
    blocks = min(-(-warps // in_block), 2 * processors)
    return Cut(tile, lanes, (blocks, -(-batch // (tile or 8))), (32 * in_block,), column * tile)


def rows(x: Tensor) -> Tensor:
    """View x [..., in] as [batch, in], ready for vector loads."""
    return aligned(
        x.reshape(-1, x.shape[-1]) if x.numel() else x.new_empty(_samples(x), x.shape[-1])
    )


def aligned(part: Tensor) -> Tensor:
    """The tensor, contiguous and on a multiple of 16 bytes, as vector loads need it."""
    part = part.contiguous()
    return part if part.data_ptr() % 16 == 0 else part.clone()


def _samples(x: Tensor) -> int:
    return torch.Size(x.shape[:-1]).numel()


def _device(device: torch.device) -> tuple[int, int]:
    """Multiprocessors, and bytes of shared memory that a block may take for x."""
    if device.type != "cuda":  # the tests' emulation
        return 1, _SHARED
    properties = torch.cuda.get_device_properties(device)
    return properties.multi_processor_count, min(_SHARED, properties.shared_memory_per_block_optin)
