"""Packing booleans and small integers into as few bits as they need; narrow index types."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def pack_bits(flags: Tensor) -> Tensor:
    """Pack booleans of any shape, flattened, into uint8 [ceil(n / 8)], lowest bit first."""
    flat = flags.reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    padded = torch.nn.functional.pad(flat.to(torch.uint8), (0, -flat.numel() % 8))
    places = torch.arange(8, dtype=torch.uint8, device=flat.device)
    return (padded.view(-1, 8) << places).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """Inverse of `pack_bits`: the first `count` booleans, 1-d.

    Raises ValueError if `packed` does not have the length that `count` flags take.
    """
    if packed.dtype != torch.uint8 or packed.shape != ((count + 7) // 8,):
        raise ValueError(f"{count} bits do not take {packed.dtype} {tuple(packed.shape)}")
    if packed.device.type == "cpu":
        bits = np.unpackbits(packed.numpy(), count=count, bitorder="little")
        return torch.from_numpy(bits.view(np.bool_))
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(1) >> places) & 1).bool().reshape(-1)[:count]


def bits_for(count: int) -> int:
    """Bits that an index below `count` takes, at least one."""
    return max(1, (count - 1).bit_length())


def pack_integers(values: Tensor, bits: int) -> Tensor:
    """Pack integers below 2**bits, flattened, into uint8, lowest bit first, without gaps."""
    places = torch.arange(bits, device=values.device)
    return pack_bits(((values.reshape(-1, 1).long() >> places) & 1).bool())


def unpack_integers(packed: Tensor, bits: int, count: int) -> Tensor:
    """Inverse of `pack_integers`: `count` integers as int64, 1-d. Raises ValueError as above."""
    flags = unpack_bits(packed, bits * count).view(count, bits)
    places = torch.arange(bits, device=packed.device)
    return (flags.long() << places).sum(dim=1)


def narrow(indices: Tensor, limit: int) -> Tensor:
    """Non-negative integers up to `limit` in the narrowest of uint8, uint16, int32 and int64."""
    for dtype, highest in ((torch.uint8, 2**8), (torch.uint16, 2**16), (torch.int32, 2**31)):
        if limit < highest:
            return indices.to(dtype)
    return indices.to(torch.int64)
