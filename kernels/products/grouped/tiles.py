"""How the group-wise products are cut into tiles, and values as their vector loads need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LANE_BYTES = 16
# A split of the sum costs writing and reading its part; below this many steps it can't pay.
_FEWEST_STEPS = 8


@dataclass(frozen=True)
class Tile:
    """A compiled tile: `outs` by `columns`, `words` of 4 bytes of k a step, on `threads`.

    `shared` is what it needs of dynamic shared memory, in bytes.
    """

    outs: int
    columns: int
    words: int
    threads: int
    macros: Mapping[str, str]
    shared: int = 0


def simt_tile(edge: int, each: int) -> Tile:
    """A square tile of float arithmetic with `each` x `each` sums a thread."""
    macros = {"BM": str(edge), "BN": str(edge), "TM": str(each), "TN": str(each)}
    return Tile(edge, edge, 8, (edge // each) ** 2, macros)


def mma_tile(outs: int, columns: int, down: int, across: int) -> Tile:
    """A tile on tensor cores, by `down` x `across` warps."""
    macros = {"BM": str(outs), "BN": str(columns), "WARPS_M": str(down), "WARPS_N": str(across)}
    words = 16
    rows = words + 4  # as padded in grouped_mma.cuh
    shared = 2 * 4 * (outs * rows + max(columns * rows, words * (columns + 8)))
    return Tile(outs, columns, words, 32 * down * across, macros, shared)


SIMT_TILES = (simt_tile(128, 8), simt_tile(64, 4))
MMA_TILES = (mma_tile(256, 128, 4, 2), mma_tile(128, 128, 2, 4), mma_tile(64, 64, 2, 2))


@dataclass(frozen=True)
class Cut:
    """A tile and into how many parts the sum over k is split."""

    tile: Tile
    splits: int

    def blocks(self, outs: int, columns: int) -> int:
        """Tiles of `outs` by `columns`."""
        return -(-outs // self.tile.outs) * -(-columns // self.tile.columns)


def cut(
    tiles: Sequence[Tile], outs: int, columns: int, steps: int, groups: int, device: torch.device
) -> Cut:
    """The largest tile that still gives each multiprocessor a block; else the smallest, split.

    `steps` are those of the smallest tile along k. Tiles much wider than the outputs are passed by.
    """
    processors = _multiprocessors(device)
    for tile in tiles:
        found = Cut(tile, 1)
        wasteful = tile is not tiles[-1] and outs <= tile.outs // 2
        if not wasteful and found.blocks(outs, columns) * groups >= processors:
            return found
    blocks = max(1, Cut(tiles[-1], 1).blocks(outs, columns) * groups)
    splits = max(1, min(2 * processors // blocks, steps // _FEWEST_STEPS))
    return Cut(tiles[-1], splits)


def aligned_rows(values: Tensor) -> Tensor:
    """The values [out, kept] with each row on a multiple of 16 bytes; a copy only if they are not.

    What `columns` packs is so already.
    """
    size, (out, kept) = values.element_size(), values.shape
    starts = values.data_ptr() % _LANE_BYTES or values.stride(0) * size % _LANE_BYTES
    if kept == 0 or (values.stride(1) == 1 and not starts):
        return values
    lane = _LANE_BYTES // size
    storage = values.new_empty(out, -(-kept // lane) * lane)
    storage[:, :kept] = values
    return storage[:, :kept]


def check_dtypes(x: Tensor, values: Tensor, bias: Tensor | None) -> None:
    """Raise ValueError unless all are of one dtype, as the kernels read them."""
    others = [values.dtype] if bias is None else [values.dtype, bias.dtype]
    if any(dtype != x.dtype for dtype in others):
        raise ValueError(f"x is {x.dtype}, but values and bias are {others}")


def has_tensor_cores(device: torch.device) -> bool:
    """Whether the mma sources run there: sm_80 and above, and the tests' emulation."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # the tests' emulation
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
