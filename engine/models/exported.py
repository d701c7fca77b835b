"""Giving the module back from an exported file: this is ``secateur.load``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput
from ..new_network import is_new
from .archive import About, read_state

if TYPE_CHECKING:
    from torch import nn

    from .architecture import Architecture

_OTHER = (".onnx", ".pt", ".pth", ".pt2", ".ckpt")


def load(path: str | Path, *, arch: str | None = None, level: float | None = None) -> nn.Module:
    """Return the module of a compressed or dense safetensors file that export wrote.

    `level` is the sparsity of one of the levels of a nested file, None its loosest. Weights and
    dtypes are exactly those that were exported, zeros where they were pruned; the module is on the
    CPU and in eval mode. Nothing is fetched and no code from the file is run.

    `arch` names the architecture of a file that does not know its own: ``torchvision:NAME``,
    ``sample:NAME`` or ``package.module:factory``; it wins over what the file says. Raises BadInput
    for a file that is damaged, whose architecture is not known, whose weights do not fit it, or
    that has no such level.
    """
    path = Path(path)
    found, about = known_architecture(path, arch)
    return filled(path, found, about, arch, level).module


def known_architecture(path: Path, arch: str | None) -> tuple[Architecture, About | None]:
    """What the file at `path` is to be loaded into, and what it says; BadInput if nobody knows."""
    if path.suffix in _OTHER:
        raise BadInput(
            f"{path}: a {path.suffix} file is loaded by other programs; name the safetensors file "
            "that export --format compressed wrote"
        )
    about = About.read(path)
    found = architecture_of(path, about, arch)
    if found is None:
        whose = f"weights of {about.address}" if about else "weights and not what they belong to"
        raise BadInput(
            f"{path} holds {whose}, whose architecture is not known here; name it with arch, for "
            f"example arch='{(about and about.arch) or 'torchvision:resnet18'}'"
        )
    return found, about


def filled(
    path: Path,
    found: Architecture,
    about: About | None,
    arch: str | None,
    level: float | None = None,
) -> Architecture:
    """Put the file's weights at `level` into the module of `found`; returns it, in eval mode."""
    from .fill import fill

    whose = arch or (about and about.address)
    fill(found.module, read_state(path, level), f"{path} does not fit {whose}")
    found.module.eval()
    return found


def architecture_of(path: Path, about: About | None, arch: str | None) -> Architecture | None:
    """What the file at `path` is to be loaded into, or None where nobody knows.

    `arch` comes from the person. What the file itself names is built only if that is ours: any
    ``package.module:factory`` in it would be code that runs because a file says so.
    """
    from . import architecture

    if arch is None and about is not None:
        if about.config is not None:
            return _from_config(path, about)
        # Of other addresses a query only chooses the weights.
        whole = is_new(about.address)
        named = about.arch or (about.address if whole else about.address.partition("?")[0])
        arch = named if architecture.is_built_in(named) else None
    return architecture.build(arch) if arch is not None else None


def _from_config(path: Path, about: About) -> Architecture:
    from . import architecture

    assert about.config is not None
    try:
        return architecture.from_config(about.config)
    except Exception as error:  # transformers raises many kinds for a configuration of elsewhere
        reason = str(error).strip().split("\n")[0][:200]
        raise BadInput(
            f"{path} holds weights of {about.address}, which this version of transformers cannot "
            f"build ({reason})"
        ) from None
