"""Files of weights: ``.safetensors`` and torch's pickles, with or without an architecture."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput, NeedsConsent
from ..files import check_readable
from .architecture import Architecture, build
from .build import from_module
from .fill import fill
from .header import Header, read_header
from .layers import with_densities
from .model import Model
from .weights_table import Table, inspect_weights, weights_info


def open_file(path: Path, *, arch: str | None, trust_pickle: bool) -> Model:
    """Open a file of weights; without `arch` it can be inspected and pruned but not run."""
    if path.suffix == ".safetensors":
        header = read_header(path)
        if "secateur" in header.metadata:
            return _our_export(path, arch)
        state: Mapping[str, Tensor] = LazyTensors(path, header)
        table = header.tensors
    else:
        held = _read_pickle(path, trust_pickle)
        if isinstance(held, nn.Module):
            return _running(path, Architecture(held), None)
        state = _tensors_of(held, path)
        table = _table(state)
    if arch is not None:
        found = build(arch)
        fill(found.module, state, f"{path} does not fit --arch {arch}")
        return _running(path, found, arch)
    if isinstance(state, LazyTensors):
        return Model(str(path), inspect_weights(path, header), state)
    return bare(str(path), path.stem, state, table)


def bare(address: str, name: str, state: Mapping[str, Tensor], table: Table) -> Model:
    """A Model of weights alone that are in memory."""
    info = weights_info(address, name, table)
    rows = with_densities(info.layers, lambda key: state[key])
    return Model(address, replace(info, layers=rows), state)


def _our_export(path: Path, arch: str | None) -> Model:
    """A file that export wrote mostly knows its architecture."""
    from .archive import About, read_state
    from .exported import architecture_of, filled

    about = About.read(path)
    found = architecture_of(path, about, arch)
    if found is None:
        state = read_state(path)
        return bare(str(path), path.stem, state, _table(state))
    config = about.config if about is not None and arch is None else None
    return _running(path, filled(path, found, about, arch), arch, config)


def _table(state: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {n: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in state.items()}


class LazyTensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._names = header.tensors

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import safe_open

        if name not in self._names:
            raise KeyError(name)
        with safe_open(self._path, "pt") as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read_pickle(path: Path, trust: bool) -> Any:
    check_readable(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
        with warnings.catch_warnings():
            # Of a pickle protocol that torch itself does not write; whether it loads says enough.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError:
        if trust or not start.startswith((b"PK", b"\x80")):
            raise BadInput(f"{path} is damaged or is no PyTorch file") from None
        raise NeedsConsent(
            f"{path} can only be opened by running the code inside it; save its state dict as "
            "safetensors instead, or, if you trust whoever made it, pass --trust-pickle"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} is truncated, damaged or no PyTorch file{_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What torch says, its first sentence, where it is a sentence."""
    text = str(error).split("\n")[0].split(". ")[0]
    return f": {text}" if " " in text else ""


def _tensors_of(found: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise BadInput(f"{path} holds {type(found).__name__}, not a state dict")
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise BadInput(f"{path} holds no tensors; save model.state_dict()")
    return tensors


def _running(
    path: Path, found: Architecture, arch: str | None, config: dict[str, Any] | None = None
) -> Model:
    return from_module(
        found.module,
        address=str(path),
        name=path.stem,
        inputs=found.inputs,
        input_text=found.input_text,
        data=found.data,
        arch=arch,
        config=config,
    )
