"""The GEMM view: every prunable weight is one matrix W[out, in].

Computed once, here. Nobody else reshapes weights. A linear layer is that matrix; a convolution is
that matrix after im2col with ``in = in_channels/groups * prod(kernel)``, flattened in
(channel, *kernel) order. Transposed convolutions and Hugging Face's ``Conv1D`` store it the other
way round. Experts stored as one stack [experts, out, in] are one matrix of all their outputs, like
the groups of a convolution. The functions only call methods of the tensor they are given, so that
this module imports no torch and the studio can use it for its rulers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gemm:
    """How a stored parameter is seen as W[out, in].

    `stored` is the parameter's own shape. `transposed` says that storage has inputs first (of a
    stack: each of its matrices). `groups` are a convolution's groups, or a stack's matrices, each
    of which has inputs of its own; `kernel` is a convolution's kernel size, else empty. `head`
    is the number of columns that read one attention head (where several heads of queries share one
    of keys: those of them all), 0 where the inputs are no heads.
    """

    stored: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False
    head: int = 0

    @property
    def taps(self) -> int:
        """Kernel positions per input channel (1 for a plain matrix)."""
        return prod(self.kernel)

    @property
    def stored_numel(self) -> int:
        """Number of weights."""
        return prod(self.stored)

    @property
    def stacked(self) -> bool:
        """Whether the weight is a stack of matrices, such as those of a layer's experts."""
        return len(self.stored) == 3 and not self.kernel

    @property
    def channels(self) -> int:
        """Input channels that one output sees (in_features for a plain matrix)."""
        if self.stacked:
            return self.stored[1 if self.transposed else 2]
        return self.stored[0] // self.groups if self.transposed else self.stored[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the matrix."""
        if self.stacked or self.transposed:
            return self.groups * self._outputs, self.channels * self.taps
        return self.stored[0], self.channels * self.taps

    @property
    def _outputs(self) -> int:
        """Outputs of one matrix of a stack, or of one group of a transposed convolution."""
        return self.stored[2] if self.stacked and self.transposed else self.stored[1]

    def view(self, weight: Tensor) -> Tensor:
        """Return W[out, in] of a stored weight; shares memory where strides allow it."""
        if tuple(weight.shape) != self.stored:
            raise ValueError(f"weight has shape {tuple(weight.shape)}, expected {self.stored}")
        if not self.transposed:
            return weight.reshape(self.shape)
        split = weight.reshape(self.groups, self.channels, self._outputs, self.taps)
        return split.permute(0, 2, 1, 3).reshape(self.shape)

    def store(self, matrix: Tensor) -> Tensor:
        """Inverse of `view`: W[out, in] back in the parameter's own shape, contiguous."""
        if tuple(matrix.shape) != self.shape:
            raise ValueError(f"matrix has shape {tuple(matrix.shape)}, expected {self.shape}")
        if not self.transposed:
            return matrix.reshape(self.stored).contiguous()
        split = matrix.reshape(self.groups, self._outputs, self.channels, self.taps)
        return split.permute(0, 2, 1, 3).reshape(self.stored).contiguous()

    def position(self, column: int) -> tuple[int, tuple[int, ...]]:
        """The (input channel, kernel position) that a column of W stands for."""
        channel, tap = divmod(column, self.taps)
        place = []
        for size in reversed(self.kernel):
            tap, index = divmod(tap, size)
            place.append(index)
        return channel, tuple(reversed(place))

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values that `from_json` reads back equal."""
        return {
            "stored": list(self.stored),
            "kernel": list(self.kernel),
            "groups": self.groups,
            "transposed": self.transposed,
            "head": self.head,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Gemm:
        """Read what `to_json` wrote."""
        stored, kernel = tuple(data["stored"]), tuple(data["kernel"])
        # Files written before heads were known lack them.
        return cls(stored, kernel, data["groups"], data["transposed"], data.get("head", 0))
