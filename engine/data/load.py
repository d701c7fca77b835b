"""From an address to data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

import torch
from torch import Tensor

from ..errors import BadInput, nearest
from ..paths import local_path
from .base import Data, InMemory
from .request import Request
from .spec import InputSpec, Opened

_OWN = re.compile(r"([\w.]+):(\w+)")


@dataclass(frozen=True)
class _Source:
    """How one kind of address is read, and its options."""

    load: Callable[[Request], Data]
    options: tuple[str, ...] = ()
    example: str = "PATH"


def load_data(
    address: str, model: Opened | None = None, *, download: bool = False, seed: int = 0
) -> Data:
    """Load the data at an address; the guide's page on data lists them.

    An own loader's address runs its code: ask `runs_code` where it comes from outside. `model`
    says what its inputs have to be. `seed` draws what is held out where the data comes in
    one piece; a part that was held out for one run should be so for all. Only `download`, or
    ``?download=1`` in the address, lets anything be fetched.

    Raises BadInput, one sentence that says what would fit.
    """
    scheme, request = _parse(address, InputSpec.of(model), seed)
    if scheme in _SOURCES:
        if download or request.options.get("download") == "1":
            _fetch(scheme, request)
        return _SOURCES[scheme].load(request)
    if runs_code(address):
        from . import own

        module, function = address.split(":")
        try:
            return own.load(request, module, function)
        except BadInput as error:
            if "ModuleNotFoundError" in str(error) and "." not in module:
                raise BadInput(f"{error}{_nearest(address)}") from None
            raise
    if not request.path.exists() and {"/", os.sep} & set(address):
        raise BadInput(f"{request.path}: no such folder of data{_meant(address)}")
    if not address or not request.path.is_dir():
        raise BadInput(f"unknown data '{address}'{_nearest(address)}")
    return _folder(request)


def only_reads(address: str) -> bool:
    """Whether loading runs no code of the person's and fetches nothing, as a preview must not."""
    _, request = _parse(address, InputSpec(), 0)
    return not runs_code(address) and request.options.get("download") != "1"


def runs_code(address: str) -> bool:
    """Whether loading imports a module that the address names and calls a function of it."""
    scheme, request = _parse(address, InputSpec(), 0)
    own = scheme not in _SOURCES and _OWN.fullmatch(address) is not None
    return own and not request.path.exists()


def fetch(address: str) -> None:
    """Download the data at an address unless it is there.

    Raises BadInput for data that cannot be downloaded.
    """
    _fetch(*_parse(address, InputSpec(), 0))


def _fetch(scheme: str, request: Request) -> None:
    from . import vision

    if scheme not in vision.DOWNLOADS:
        known = ", ".join(vision.DOWNLOADS)
        raise BadInput(
            f"{request.name} cannot be downloaded; {known} can, others you have to bring"
        )
    vision.fetch(request, scheme)


def _parse(address: str, spec: InputSpec, seed: int) -> tuple[str, Request]:
    """The scheme, empty without one, and what is asked of its loader."""
    scheme, colon, rest = address.partition(":")
    if not colon or scheme not in _SOURCES:
        scheme, rest = "", address
    known = _SOURCES[scheme].options if scheme else _FOLDER
    path, question, query = rest.rpartition("?")
    if not question or local_path(rest).exists():
        path, query = rest, ""
    if scheme and not path:
        raise BadInput(f"{address} names no data; write {scheme}:{_SOURCES[scheme].example}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for option in options:
        if option not in known:
            raise BadInput(f"{address}: unknown option '{option}'{nearest(option, known)}")
    return scheme, Request(address, local_path(path), options, spec, seed)


def _nearest(address: str) -> str:
    """What was meant, as `nearest` says it: another kind of address, or one of the examples."""
    return _meant(address) or nearest(address, _examples())


def _meant(address: str) -> str:
    """What was meant where only the kind of address is misspelt; else nothing."""
    scheme, colon, rest = address.partition(":")
    hint = nearest(scheme, _SOURCES) if colon and rest else ""
    return hint.replace("'?", f":{rest}'?") if "did you mean" in hint else ""


def _examples() -> list[str]:
    return [f"{scheme}:{source.example}" for scheme, source in _SOURCES.items()] + [
        "package.module:function"
    ]


def _sample(request: Request) -> Data:
    from ...resources.samples import digits

    if str(request.path) != "digits":
        raise BadInput(f"unknown data '{request.name}'{nearest(request.name, _examples())}")
    train, validation = (digits.read(split) for split in ("train", "validation"))
    parts = InMemory(*train, digits.shift), InMemory(*validation)
    if request.spec.takes_a_row:
        parts = _in_a_row(parts[0], request), _in_a_row(parts[1], request)
    return Data(request.name, *parts, digits.CLASSES)


def _in_a_row(images: InMemory, request: Request) -> InMemory:
    """The same examples for a model that takes the pixels of an image one after another."""
    assert isinstance(images.inputs, Tensor)
    assert request.spec.shape is not None
    one = images.inputs.shape[1:]
    if one.numel() != request.spec.shape[0]:
        sizes = "×".join(map(str, one))
        raise BadInput(
            f"{request.name} holds images of {sizes}, {one.numel()} values each, but the model "
            f"takes {request.spec.shape[0]} features"
        )
    changed = images.augment

    def augment(inputs: Tensor, generator: torch.Generator) -> Tensor:
        assert changed is not None
        return changed(inputs.unflatten(1, one), generator).flatten(1)

    inputs = images.inputs.flatten(1)
    return InMemory(inputs, images.labels, augment if changed is not None else None)


def _folder(request: Request) -> Data:
    from . import folder, stored

    if stored.is_stored(request.path):
        return stored.load(request)
    return folder.load(request)


def _vision(kind: str) -> Callable[[Request], Data]:
    def load(request: Request) -> Data:
        from . import vision

        return vision.load(request, kind)

    return load


def _imagenet(request: Request) -> Data:
    from . import vision

    return vision.load_imagenet(request)


def _glue(request: Request) -> Data:
    from . import text

    return text.load(request)


def _datasets(request: Request) -> Data:
    from . import stored

    return stored.load(request)


def _higgs(request: Request) -> Data:
    from . import table

    return table.load_higgs(request)


def _csv(request: Request) -> Data:
    from . import table

    return table.load(request)


_TEXT = ("length", "tokenizer")
_IMAGES = ("size", "workers")
_FOLDER = (*_IMAGES, *_TEXT)
_PIXELS = (*_IMAGES, "download")
_SOURCES: dict[str, _Source] = {
    "sample": _Source(_sample, (), "digits"),
    "folder": _Source(_folder, _FOLDER),
    "cifar10": _Source(_vision("cifar10"), _PIXELS, "ROOT"),
    "mnist": _Source(_vision("mnist"), _PIXELS, "ROOT"),
    "fashion-mnist": _Source(_vision("fashion-mnist"), _PIXELS, "ROOT"),
    "imagenet": _Source(_imagenet, (*_IMAGES, "download"), "ROOT"),
    "glue": _Source(_glue, _TEXT),
    "datasets": _Source(_datasets, _FOLDER),
    "higgs": _Source(_higgs),
    "csv": _Source(_csv),
}
