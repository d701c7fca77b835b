"""From an address to a model: files, samples, fresh networks, torchvision, Hugging Face.

Safe by default: tensors are loaded without running code, and no remote code is ever run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput, nearest
from ..info import ModelInfo
from ..paths import local_path
from .header import read_header
from .weights_table import inspect_weights

if TYPE_CHECKING:
    from .model import Model

_TENSOR_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def open_model(
    address: str | Path, *, arch: str | None = None, trust_pickle: bool = False
) -> Model:
    """Open the model at `address` (see DESIGN's list in the guide's page on opening models).

    `arch` names the architecture of a state dict: ``torchvision:NAME``, ``sample:NAME`` or
    ``package.module:factory``. `trust_pickle` lets a pickle run its code. Raises BadInput with one
    sentence that says what to do; NeedsConsent where `trust_pickle` would help.
    """
    if not isinstance(address, str | Path):
        raise BadInput(f"name a model by a path or an address such as sample:NAME, not {address!r}")
    address = str(address)
    scheme, _, rest = address.partition(":")
    if scheme in _SCHEMES and not local_path(address).exists():
        if not rest:
            raise BadInput(f"{address} names no model; write {scheme}:NAME")
        if arch is not None:
            raise BadInput(f"--arch goes with a file of weights, not with {address}")
        return _followed(_SCHEMES[scheme](rest))
    return _followed(_open_path(address, arch, trust_pickle))


def _followed(model: Model) -> Model:
    """The same model; its table says what hangs together, and its notes why that is not known."""
    if model.module is None:
        return model
    from ..dependencies import trace

    channels = trace(model)
    layers = []
    for row in model.info.layers:
        if row.gemm is not None:
            row = replace(
                row,
                gemm=replace(row.gemm, head=channels.heads(row.path) or 0),
                fixed=channels.fixed(row.path),
                also=channels.also(row.path),
                branch=channels.branch(row.path),
            )
        layers.append(row)
    notes = model.info.notes
    if channels.problem is not None:
        notes = (*notes, f"no outputs can be removed: {channels.problem}")
    elif channels.note:
        notes = (*notes, channels.note)
    model.info = replace(model.info, layers=tuple(layers), notes=notes)
    return model


def inspect_model(
    address: str, *, arch: str | None = None, trust_pickle: bool = False, count: bool = False
) -> ModelInfo:
    """The layer table of the model at `address`; see `open_model`.

    Of a safetensors file without `arch` only the header is read, and torch is not imported; zeros
    are counted too where the file is small or `count` asks for it.
    """
    path = local_path(address)
    if arch is None and path.suffix == ".safetensors" and path.is_file():
        header = read_header(path)
        if "secateur" not in header.metadata:
            return inspect_weights(path, header, count)
    return open_model(address, arch=arch, trust_pickle=trust_pickle).info


def _open_path(address: str, arch: str | None, trust_pickle: bool) -> Model:
    from ..named_folder import what_is
    from . import state_file

    path = local_path(address)
    if path.is_dir():
        if (path / "config.json").is_file():
            if arch is not None:
                raise BadInput(f"--arch goes with a file of weights; {path} says what it is")
            from . import huggingface

            return huggingface.open_folder(path)
        raise BadInput(what_is(path))
    if not path.exists():
        raise BadInput(f"{address}: {_why_missing(address)}")
    if path.suffix in (".onnx", ".pt2"):
        raise BadInput(
            f"{path}: {path.suffix} files can be verified but not pruned; open the model they "
            "were exported from"
        )
    if path.suffix not in _TENSOR_FILES:
        raise BadInput(f"{path}: not a model file; known are {', '.join(_TENSOR_FILES)}")
    return state_file.open_file(path, arch=arch, trust_pickle=trust_pickle)


def _why_missing(address: str) -> str:
    scheme, colon, _ = address.partition(":")
    if colon and not Path(address).suffix and len(scheme) > 1:
        return f"unknown kind of address '{scheme}'{nearest(scheme, _SCHEMES)}"
    return "no such file or folder"


def _sample(name: str) -> Model:
    from . import sample

    return sample.open_sample(name)


def _torchvision(name: str) -> Model:
    from . import torchvision

    return torchvision.open_network(name)


def _hub(name: str) -> Model:
    from . import huggingface

    return huggingface.open_hub(name)


def _new(rest: str) -> Model:
    from . import new

    return new.open_new(rest)


_SCHEMES: dict[str, Callable[[str], Model]] = {
    "sample": _sample,
    "new": _new,
    "torchvision": _torchvision,
    "hf": _hub,
}
