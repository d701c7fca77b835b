"""Giving the module back from an exported file: this is ``secateur.load``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadInput
from .export.archive import About, read_state

if TYPE_CHECKING:
    from torch import Tensor, nn

_BUILT_IN = ("sample", "torchvision")


def load(path: str | Path, *, arch: str | None = None) -> nn.Module:
    """Return the module of a compressed or dense safetensors file that export wrote.

    Weights and dtypes are exactly those that were exported, zeros where they were pruned; the
    module is on the CPU and in eval mode. Nothing is fetched and no code from the file is run.

    `arch` names the architecture of a file that does not know its own: ``torchvision:NAME``,
    ``sample:NAME`` or ``package.module:factory``; it wins over what the file says. Raises BadInput
    for a file that is damaged, whose architecture is not known, or whose weights do not fit it.
    """
    path = Path(path)
    about = About.read(path)
    module = _build(path, about, arch)
    fill(module, read_state(path), f"{path} does not fit {arch or (about and about.address)}")
    return module.eval()


def fill(module: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Put `state` into `module`, dtypes too; raises BadInput that begins with `problem`."""
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n") if line.strip()]
        raise BadInput(f"{problem}: {lines[min(1, len(lines) - 1)][:200]}") from None


def _build(path: Path, about: About | None, arch: str | None) -> nn.Module:
    from .models.state_file import build_architecture

    if arch is None and about is not None:
        if about.config is not None:
            return _from_config(path, about)
        scheme = about.address.partition(":")[0]
        arch = about.arch or (about.address.partition("?")[0] if scheme in _BUILT_IN else None)
    if arch is None:
        whose = f"weights of {about.address}" if about else "weights and not what they belong to"
        raise BadInput(
            f"{path} holds {whose}, whose architecture is not known here; name it with arch, for "
            "example arch='torchvision:resnet18'"
        )
    return build_architecture(arch)[0]


def _from_config(path: Path, about: About) -> nn.Module:
    from .models import huggingface

    assert about.config is not None
    try:
        return huggingface.build(about.config)
    except Exception as error:  # transformers raises many kinds for a configuration of elsewhere
        reason = str(error).strip().split("\n")[0][:200]
        raise BadInput(
            f"{path} holds weights of {about.address}, which this version of transformers cannot "
            f"build ({reason})"
        ) from None
