"""torchvision's networks: ``torchvision:NAME[?weights=DEFAULT]``."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qsl

import torch
from torch import nn

from ..errors import BadInput, nearest
from .build import from_module
from .fill import fill
from .model import Inputs, Model

# These two warn unless told how to initialise; the fast way draws the same kind of weights.
_WANTS_INIT = {"googlenet", "inception_v3"}


def build(name: str) -> nn.Module:
    """The network with fresh weights, the same every time; raises BadInput for an unknown name."""
    import torchvision

    known = torchvision.models.list_models()
    if name not in known:
        raise BadInput(f"torchvision has no model '{name}'{nearest(name, known)}")
    options: dict[str, Any] = {"init_weights": False} if name in _WANTS_INIT else {}
    if "quantized_" in name:
        raise BadInput(f"torchvision:{name} is quantised and cannot be pruned")
    if "rcnn" in name or name.startswith(("ssd", "fcos", "retinanet", "deeplab", "fcn", "lraspp")):
        options["weights_backbone"] = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None, **options)


def open_network(rest: str) -> Model:
    """Open ``NAME`` with random weights of a fixed seed, or with trained ones: ``?weights=W``."""
    name, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    weights = options.pop("weights", None)
    if options:
        raise BadInput(
            f"torchvision:{rest}: unknown option '{next(iter(options))}'; known: weights"
        )
    module = build(name)
    if weights is not None:
        fill(module, _trained(name, weights), f"the weights of torchvision:{name} do not fit")
    make, text = example(module)
    return from_module(
        module, address=f"torchvision:{rest}", name=name, inputs=make, input_text=text
    )


def _trained(name: str, weights: str) -> dict[str, Any]:
    import torchvision

    known = torchvision.models.get_model_weights(name)
    try:
        entry = known[weights]
    except KeyError:
        hint = nearest(weights, known.__members__)
        raise BadInput(f"torchvision:{name} has no weights '{weights}'{hint}") from None
    try:
        return entry.get_state_dict(check_hash=True)
    except (URLError, OSError) as error:
        raise BadInput(f"the weights of torchvision:{name} cannot be fetched: {error}") from None


def example(module: nn.Module) -> tuple[Inputs, str]:
    """Inputs of the size that the network expects, and their description."""
    kind = type(module).__module__
    if ".detection" in kind:
        return _detection, "list of images 3×320×320"
    if ".optical_flow" in kind:
        return _pair, "two images 3×128×128"
    size = getattr(module, "image_size", None)
    if ".video" in kind:
        side = 224 if kind.endswith((".mvit", ".s3d", ".swin_transformer")) else 112
        shape: tuple[int, ...] = (3, 16, side, side)
    elif type(module).__name__ == "Inception3":
        shape = (3, 299, 299)
    else:
        shape = (3, size, size) if isinstance(size, int) else (3, 224, 224)

    def make(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(batch, *shape, generator=generator),), {}

    return make, f"{'video' if len(shape) == 4 else 'image'} {'×'.join(map(str, shape))}"


def _detection(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return ([torch.rand(3, 320, 320, generator=generator) for _ in range(batch)],), {}


def _pair(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, batch, 3, 128, 128, generator=generator) * 2 - 1
    return (first, second), {}
