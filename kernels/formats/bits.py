"""Packing booleans and small integers into as few bits as they need; narrow index types."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..compiled.jit import ready

_AT_ONCE = 1 << 20
_STRETCH = 1 << 14  # its indices fit into a core's cache
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def pack_bits(flags: Tensor) -> Tensor:
    """Pack booleans of any shape, flattened, into uint8 [ceil(n / 8)], lowest bit first."""
    flat = flags.reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    return _pack_on_device(flat)


def _pack_on_device(flat: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(flat.to(torch.uint8), (0, -flat.numel() % 8))
    places = torch.arange(8, dtype=torch.uint8, device=flat.device)
    return (padded.view(-1, 8) << places).sum(dim=1, dtype=torch.uint8)


def pack_structure(crow: Tensor, columns: Tensor, ins: int) -> Tensor:
    """`pack_bits` of the mask [out, in] that is True at the entries of a CSR structure, int32.

    Nothing of the mask's size is made.
    """
    if columns.device.type == "cpu" and ready():
        from ..compiled.topology import packed

        return packed(crow.contiguous(), columns.contiguous(), ins)
    out = len(crow) - 1
    lines = torch.arange(out, device=crow.device).repeat_interleave(crow.diff())
    places = lines * ins + columns
    bits = torch.zeros((out * ins + 7) // 8, dtype=torch.uint8, device=columns.device)
    return bits.scatter_add_(0, places >> 3, (1 << (places & 7)).to(torch.uint8))


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """Inverse of `pack_bits`: the first `count` booleans, 1-d.

    Raises ValueError if `packed` does not have the length that `count` flags take.
    """
    if packed.dtype != torch.uint8 or packed.shape != ((count + 7) // 8,):
        raise ValueError(f"{count} bits do not take {packed.dtype} {tuple(packed.shape)}")
    if packed.device.type == "cpu":
        bits = np.unpackbits(packed.numpy(), count=count, bitorder="little")
        return torch.from_numpy(bits.view(np.bool_))
    return _unpack_on_device(packed, count)


def _unpack_on_device(packed: Tensor, count: int) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(1) >> places) & 1).bool().reshape(-1)[:count]


def bits_for(count: int) -> int:
    """Bits that an index below `count` takes, at least one."""
    return max(1, (count - 1).bit_length())


def pack_integers(values: Tensor, bits: int) -> Tensor:
    """Pack integers below 2**bits, flattened, into uint8, lowest bit first, without gaps."""
    dtype = torch.uint8 if bits <= 8 else torch.int64
    places = torch.arange(bits, dtype=dtype, device=values.device)
    # A multiple of eight at a time: the parts' bytes then join without gaps.
    parts = values.reshape(-1, 1).split(_AT_ONCE)
    return torch.cat([pack_bits(((part.to(dtype) >> places) & 1).bool()) for part in parts])


def unpack_integers(packed: Tensor, bits: int, count: int) -> Tensor:
    """Inverse of `pack_integers`: `count` integers as int64, 1-d. Raises ValueError as above."""
    flags = unpack_bits(packed, bits * count).view(count, bits)
    places = torch.arange(bits, device=packed.device)
    return (flags.long() << places).sum(dim=1)


def take(values: Tensor, flags: Tensor) -> Tensor:
    """``values[flags]``, 1-d; on the CPU in small stretches, as an index of all would be large."""
    if values.device.type != "cpu":
        return values[flags]
    # As integers: NumPy knows no bfloat16.
    whole = as_integers(values.detach().reshape(-1)).numpy()
    chosen = flags.reshape(-1).numpy()
    stretches = [slice(start, start + _STRETCH) for start in range(0, whole.size, _STRETCH)]
    parts = [whole[part][np.flatnonzero(chosen[part])] for part in stretches]
    return torch.from_numpy(np.concatenate([whole[:0], *parts])).view(values.dtype)


def as_integers(values: Tensor) -> Tensor:
    """The same memory seen as integers of the same width."""
    return values.view(_INTEGERS[values.element_size()])


def narrow(indices: Tensor, limit: int) -> Tensor:
    """Non-negative integers up to `limit` in the narrowest of uint8, uint16, int32 and int64."""
    for dtype, highest in ((torch.uint8, 2**8), (torch.uint16, 2**16), (torch.int32, 2**31)):
        if limit < highest:
            return indices.to(dtype)
    return indices.to(torch.int64)


def to_int32(indices: Tensor, limit: int) -> Tensor:
    """Indices below `limit` as int32, for products. Raises ValueError if `limit` is too large."""
    if limit > 2**31:
        raise ValueError(f"indices up to {limit} do not fit 32 bits")
    return indices.to(torch.int32)


def stable_order(indices: Tensor, limit: int) -> Tensor:
    """The stable ``argsort`` of 1-d `indices` below `limit`, int64."""
    if indices.device.type == "cpu" and limit <= 2**16:
        # NumPy sorts 16 bits by radix.
        order = indices.to(torch.uint16).numpy().argsort(kind="stable")
        return torch.from_numpy(order)
    return indices.to(torch.int64 if limit > 2**31 else torch.int32).argsort(stable=True)
