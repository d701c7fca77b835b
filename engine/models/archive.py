"""What our safetensors files say of themselves, and reading them back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..gemm import Gemm
from ..levels import index_of
from ..paths import local_path
from .header import read_header

if TYPE_CHECKING:
    from torch import Tensor

    from .model import Model

KEY = "secateur"
VERSION = 1


@dataclass(frozen=True)
class About:
    """The JSON under the metadata key ``secateur``.

    `layout` is ``"dense"`` (tensors under the model's own names), ``"compressed"`` (tensors that
    `tensors` describes under ``NAME.PART``, the others under their own names) or ``"nested"`` (the
    same, and in ``NAME.levels`` at which of the `levels`, rising sparsities, each weight is kept).
    `address`, `arch` and `config` say how to build the module. `tied` maps the names that are not
    in the file to the one they share.
    """

    layout: str
    address: str
    arch: str | None = None
    config: dict[str, Any] | None = None
    tied: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    levels: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, model: Model, layout: str, tied: dict[str, str], **more: Any) -> About:
        """Describe a file of `model`. Of a path only the name: the rest is this machine's."""
        path = local_path(model.address)
        address = path.resolve().name if path.exists() else model.address
        return cls(layout, address, model.arch, model.config, tied, **more)

    def metadata(self) -> dict[str, str]:
        """The safetensors metadata: what other programs look for, and ours.

        Other names of a shared tensor stand there as ``{name: kept name}``, as
        ``safetensors.torch.load_model`` expects.
        """
        # A Hugging Face configuration may hold values that JSON lacks, such as a torch.dtype.
        about = {"version": VERSION, **vars(self)}
        text = json.dumps(about, default=str, separators=(",", ":"))
        return {**self.tied, "format": "pt", KEY: text}

    @classmethod
    def read(cls, path: Path) -> About | None:
        """What the file at `path` says; None for a safetensors file that is not ours.

        Raises BadInput for a file that is damaged or of a later version.
        """
        text = read_header(path).metadata.get(KEY)
        if text is None:
            return None
        try:
            values = json.loads(text)
            version = values.pop("version")
            if version == VERSION:
                about = cls(**values)
                return replace(about, levels=[float(level) for level in about.levels])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f"{path} is damaged: what it says of itself cannot be read") from None
        raise BadInput(f"{path} is of version {version}; this program reads version {VERSION}")


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file. Raises OSError, with its number, if the system does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        # The library gives the system's error only as text, in two ways according to its version.
        code = re.search(r"(?:os error|code:) (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


@dataclass(frozen=True)
class Stored:
    """What a file holds: `state` by the model's own names at the loosest level, zeros filled in.

    Names that share a weight share the tensor. `ranks` are uint8 in the shape of the tensors that
    differ between `levels`: at level k what has a rank below k is zero too.
    """

    state: dict[str, Tensor]
    ranks: dict[str, Tensor]
    levels: tuple[float, ...]


def read_state(path: Path, level: float | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file at one of its levels, None: the loosest; see `Stored`.

    Raises BadInput for a damaged file, and for a level that it does not have.
    """
    about = About.read(path)
    index = index_of(about.levels if about else (), level, path)
    stored = read_stored(path)
    changed: dict[int, Tensor] = {}
    for name, ranks in stored.ranks.items() if index else ():
        tensor = stored.state[name]
        changed[id(tensor)] = tensor.masked_fill(ranks < index, 0)
    return {name: changed.get(id(tensor), tensor) for name, tensor in stored.state.items()}


def read_stored(path: Path) -> Stored:
    """All that a safetensors file holds. Raises BadInput for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = About.read(path)
    ranks: dict[str, Tensor] = {}
    try:
        tensors = load_file(path)
        if about is not None and about.layout in ("compressed", "nested"):
            state = {}
            for name, row in about.tensors.items():
                state[name] = _unpack(name, row, tensors)
                if "levels" in row:
                    ranks[name] = _ranks(name, row, tensors, state[name])
            state |= tensors  # what is left lies there as it is
        else:
            state = tensors
        for name, kept in (about.tied if about else {}).items():
            state[name] = state[kept]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadInput(f"{path} is damaged: {str(error)[:200]}") from None
    return Stored(state, ranks, tuple(about.levels) if about else ())


def _ranks(name: str, row: Mapping[str, Any], stored: dict[str, Tensor], tensor: Tensor) -> Tensor:
    """The level index of a tensor, in its shape."""
    from ...kernels.formats import LevelIndex

    index = LevelIndex.from_part(stored.pop(f"{name}.levels"), row["levels"])
    if row["format"] == "whole":
        return index.ranks(tensor != 0)
    gemm = Gemm.from_json(row["gemm"])
    return gemm.store(index.ranks(gemm.view(tensor) != 0))


def _unpack(name: str, row: Mapping[str, Any], stored: dict[str, Tensor]) -> Tensor:
    """One tensor in the model's own shape; takes its parts out of `stored`."""
    from ...kernels.formats import FORMATS

    prefix = f"{name}."
    if row["format"] == "whole":
        return stored.pop(f"{prefix}values")
    parts = {p: stored.pop(prefix + p) for p in row["parts"]}
    gemm = Gemm.from_json(row["gemm"])
    matrix = FORMATS[row["format"]].from_parts(parts, row["meta"]).to_dense()
    return gemm.store(from_lanes(matrix, gemm) if row["order"] == "channel" else matrix)


def to_lanes(matrix: Tensor, gemm: Gemm) -> Tensor:
    """W[out, in] as [out * taps, channels]: a row holds the inputs at one kernel position."""
    out = gemm.shape[0]
    split = matrix.reshape(out, gemm.channels, gemm.taps)
    return split.transpose(1, 2).reshape(out * gemm.taps, gemm.channels)


def from_lanes(lanes: Tensor, gemm: Gemm) -> Tensor:
    """Inverse of `to_lanes`."""
    split = lanes.reshape(gemm.shape[0], gemm.taps, gemm.channels)
    return split.transpose(1, 2).reshape(gemm.shape)
