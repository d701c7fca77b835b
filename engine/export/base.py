"""What every export format is, and what an export says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..levels import SharedBytes
    from ..masks import Committed, Masks
    from ..models.model import Model


@dataclass(frozen=True)
class TensorRow:
    """One tensor of an export: how it is stored, and the bytes it takes and took when dense."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str
    bytes: int
    dense_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class Exported:
    """A finished export. `bytes` is the file's size, `dense_bytes` what the dense weights take.

    `max_difference` is the largest absolute difference that reading it back showed: of any weight,
    or for ONNX of any output against the masked model in torch. `notes` are sentences for the
    person, such as what could not be made smaller. `shared` says what sharing weights among levels
    costs, where the file has several.
    """

    path: Path
    format: str
    bytes: int
    dense_bytes: int
    tensors: tuple[TensorRow, ...]
    max_difference: float
    equal: bool
    notes: tuple[str, ...] = ()
    shared: SharedBytes | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as the command line prints them; ``shared`` only with nested levels."""
        data = {
            **vars(self),
            "path": str(self.path),
            "tensors": [row.to_json() for row in self.tensors],
            "notes": list(self.notes),
        }
        shared = data.pop("shared")
        return data if shared is None else {**data, "shared": shared.to_json()}


@dataclass(frozen=True)
class Draft:
    """What a format wrote, before it was read back."""

    tensors: tuple[TensorRow, ...]
    notes: tuple[str, ...] = ()
    shared: SharedBytes | None = None


@dataclass(frozen=True)
class Difference:
    """How what was read differs from what should be there; `text` says where, in words."""

    max_difference: float
    equal: bool
    text: str = ""


@dataclass
class Source:
    """What is exported: a model, its masks, and its weights with the masks committed."""

    model: Model
    masks: Masks

    @cached_property
    def state(self) -> Committed:
        """The state dict with zeros, each tensor made when it is got."""
        return self.masks.committed(self.model)

    @property
    def tied(self) -> dict[str, str]:
        """Names of `state` that are the same tensor as an earlier one, and which that is."""
        return self.state.tied


class Exporter(ABC):
    """One export format."""

    @abstractmethod
    def write(self, source: Source, path: Path) -> Draft:
        """Write the file. Raises BadInput if the format can't hold the model."""

    @abstractmethod
    def compare(self, source: Source, path: Path) -> Difference:
        """Read the file back from the disk and compare it with its source."""
