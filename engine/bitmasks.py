"""Bool masks kept one bit a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..kernels.formats.bits import pack_bits, pack_structure, unpack_bits
from ..kernels.formats.csr import CSR


@dataclass(frozen=True, eq=False)
class BitMask:
    """A bool mask of this `shape`, of which `kept` entries are True.

    `bits` are uint8 as `pack_bits` makes them, on any device.
    """

    bits: Tensor
    shape: tuple[int, ...]
    kept: int

    @classmethod
    def of(cls, mask: Tensor) -> BitMask:
        """Pack a bool tensor."""
        bits = pack_bits(mask)
        return cls(bits, tuple(mask.shape), _ones(bits))

    @classmethod
    def at(cls, matrix: CSR) -> BitMask:
        """True at the entries of a matrix; nothing of the mask's size is made."""
        return cls(
            pack_structure(*matrix.indices32, matrix.shape[1]), matrix.shape, len(matrix.values)
        )

    def unpack(self) -> Tensor:
        """The bool tensor, new each time."""
        return unpack_bits(self.bits, self.numel).view(self.shape)

    @property
    def numel(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def density(self) -> float:
        """Share of the entries that are kept."""
        return self.kept / self.numel

    def to(self, device: torch.device | str) -> BitMask:
        """The same mask on `device`."""
        return BitMask(self.bits.to(device), self.shape, self.kept)

    def __and__(self, other: BitMask) -> BitMask:
        """What both keep; they have one shape and one device."""
        bits = self.bits & other.bits
        return BitMask(bits, self.shape, _ones(bits))


class PackedMasks(MutableMapping[str, Tensor]):
    """Bool masks by layer path, each a `BitMask` in `packed`.

    A mask is packed when it is set and unpacked whenever it is got, so that a change of what was
    got is lost. `mappings` are taken in order, later masks in place of earlier ones.
    """

    def __init__(self, *mappings: Mapping[str, Tensor | BitMask]) -> None:
        self.packed: dict[str, BitMask] = {}
        for mapping in mappings:
            given = mapping.packed if isinstance(mapping, PackedMasks) else mapping
            for path, mask in given.items():
                self[path] = mask

    def __getitem__(self, path: str) -> Tensor:
        return self.packed[path].unpack()

    def __setitem__(self, path: str, mask: Tensor | BitMask) -> None:
        self.packed[path] = mask if isinstance(mask, BitMask) else BitMask.of(mask)

    def __delitem__(self, path: str) -> None:
        del self.packed[path]

    def __contains__(self, path: object) -> bool:
        return path in self.packed

    def __iter__(self) -> Iterator[str]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)


def _ones(bits: Tensor) -> int:
    """How many bits are set."""
    if bits.device.type == "cpu":
        return int(np.bitwise_count(bits.numpy()).sum(dtype=np.int64))
    return int(torch.count_nonzero(unpack_bits(bits, 8 * len(bits))))
