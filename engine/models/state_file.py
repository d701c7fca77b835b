"""Files of weights: ``.safetensors`` and torch's pickles, with or without an architecture."""

from __future__ import annotations

import importlib
import pickle
import warnings
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput, NeedsConsent
from ..info import ModelInfo
from .build import from_module
from .header import Header, read_header
from .layers import rows_from_shapes, with_densities
from .model import Inputs, Model

# Counting zeros reads every byte; above this the table comes first and densities on request.
COUNT_BELOW = 1 << 30


def open_file(path: Path, *, arch: str | None, trust_pickle: bool) -> Model:
    """Open a file of weights; without `arch` it can be inspected and pruned but not run."""
    if path.suffix == ".safetensors":
        header = read_header(path)
        if "secateur" in header.metadata:
            return _our_export(path, arch)
        state: Mapping[str, Tensor] = LazyTensors(path, header)
        table = header.tensors
    else:
        found = _read_pickle(path, trust_pickle)
        if isinstance(found, nn.Module):
            return from_module(found, address=str(path), name=path.stem, inputs=None)
        state = _tensors_of(found, path)
        table = _table(state)
    if arch is not None:
        return _with_architecture(path, state, arch)
    return bare(str(path), path.stem, state, table)


def bare(
    address: str, name: str, state: Mapping[str, Tensor], table: dict[str, tuple[Any, str]]
) -> Model:
    """A Model of weights alone."""
    rows = rows_from_shapes(table)
    sizes = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2}
    size = sum(prod(shape) * sizes.get(dtype, 1) for shape, dtype in table.values())
    layers = tuple(rows)
    if size <= COUNT_BELOW:
        layers = with_densities(layers, lambda key: state[key])
    info = ModelInfo(
        model=address,
        name=name,
        layers=layers,
        params=sum(row.params for row in rows),
        bytes=size,
        runnable=False,
        notes=("weights only: name the architecture (--arch) to run, measure or export to ONNX",),
    )
    return Model(address, info, state)


def _our_export(path: Path, arch: str | None) -> Model:
    """A file that export wrote knows its architecture."""
    from ..export.archive import About, read_state
    from ..load import load

    about = About.read(path)
    assert about is not None
    known = arch or about.arch or about.address
    if about.config is None and not known.startswith(("sample:", "torchvision:")) and arch is None:
        tensors = read_state(path)
        return bare(str(path), path.stem, tensors, _table(tensors))
    module = load(path, arch=arch)
    if about.config is not None and arch is None:
        from . import huggingface

        inputs, text = huggingface.example(module)
        data = None
    else:
        _, inputs, text, data = build_architecture(known.partition("?")[0])
    return from_module(
        module,
        address=str(path),
        name=path.stem,
        inputs=inputs,
        input_text=text,
        data=data,
        arch=arch,
        config=about.config,
    )


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
        reason = str(error).split("\n")[0]
        raise BadInput(f"{path} is truncated, damaged or no PyTorch file: {reason}") from None


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


def build_architecture(arch: str) -> tuple[nn.Module, Inputs | None, str, str | None]:
    """(module, inputs, description of the input, data address) of ``--arch``."""
    from . import sample, torchvision

    scheme, _, rest = arch.partition(":")
    if scheme == "torchvision":
        module = torchvision.build(rest)
        return module, *torchvision.example(module), None
    if scheme == "sample":
        return sample.build(rest), sample.inputs, "image 1×8×8", sample.DATA
    try:
        module = getattr(importlib.import_module(scheme), rest)()
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(
            f"--arch {arch}: {error}; write torchvision:NAME, sample:NAME or package.module:factory"
        ) from None
    if not isinstance(module, nn.Module):
        raise BadInput(f"--arch {arch} gave {type(module).__name__}, not a torch.nn.Module")
    return module, getattr(module, "example_inputs", None), "", None


def _with_architecture(path: Path, state: Mapping[str, Tensor], arch: str) -> Model:
    module, inputs, text, data = build_architecture(arch)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n")]
        why = lines[1] if len(lines) > 1 else lines[0]
        raise BadInput(f"{path} does not fit --arch {arch}: {why[:200]}") from None
    return from_module(
        module,
        address=str(path),
        name=path.stem,
        inputs=inputs,
        input_text=text,
        data=data,
        arch=arch,
    )
