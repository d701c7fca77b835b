"""From an image to a model's input: resized, cropped, normalised; a little varied for training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from ..errors import BadInput
from .request import Request
from .spec import InputSpec

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_WHOLE = 64
"""Images up to this size are mostly made for it and taken whole; larger ones lose their margin."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs [channels, *size], or flat ones [channels · height · width].

    `resize` is the size before the middle is cut out: the shorter side, or both. `mean` and `std`
    are of values in 0…1, one for each channel.
    """

    size: tuple[int, int]
    channels: int
    resize: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Any = InterpolationMode.BILINEAR
    flat: bool = False

    def image(self, image: Any, augment: torch.Generator | None) -> Tensor:
        """One PIL image, float32 [channels, *size]. With `augment` crop and side vary."""
        image = image.convert("RGB" if self.channels == 3 else "L")
        image = TF.resize(image, list(self.resize), self.interpolation, antialias=True)
        if augment is None:
            image = TF.center_crop(image, list(self.size))
        else:
            image = self._varied(image, augment)
        pixels = TF.pil_to_tensor(image).float().div_(255)
        return self._finished(pixels)

    def pixels(self, pixels: Tensor) -> Tensor:
        """A batch of small images of one size, uint8 [n, c, h, w]; they are not cropped."""
        x = pixels.float().div_(255)
        if x.shape[1] != self.channels:
            x = x.expand(-1, 3, -1, -1) if self.channels == 3 else TF.rgb_to_grayscale(x)
        if tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return self._finished(x)

    def _varied(self, image: Any, augment: torch.Generator) -> Any:
        high, wide = self.size
        # Where nothing is left to crop, the image moves by up to an eighth over black.
        pad = 0 if min(image.size) > min(self.size) else min(self.size) // 8
        if pad:
            image = TF.pad(image, [pad])
        down, right = (
            int(torch.randint(0, room + 1, (), generator=augment))
            for room in (image.height - high, image.width - wide)
        )
        image = TF.crop(image, down, right, high, wide)
        flip = int(torch.randint(0, 2, (), generator=augment))
        return TF.hflip(image) if flip else image

    def _finished(self, x: Tensor) -> Tensor:
        x = TF.normalize(x, list(self.mean), list(self.std))
        return x.flatten(-3) if self.flat else x


def for_images(request: Request) -> Preprocessing:
    """For images of any size: as the model's publisher says, else at the size of its example.

    Raises BadInput for a model that takes no images.
    """
    spec = request.spec
    size, channels, flat = _shape(request, None)
    resize: tuple[int, ...] = tuple(-(-side * 8 // 7) if side > _WHOLE else side for side in size)
    if size[0] == size[1]:
        resize = resize[:1]
    made = Preprocessing(size, channels, resize, *_statistics(spec, channels, None), flat=flat)
    return _published(spec, made) if "size" not in request.options else made


def for_pixels(
    request: Request, native: tuple[int, int, int], statistics: tuple[Any, Any]
) -> Preprocessing:
    """For images [c, h, w] of one small size whose mean and standard deviation are known."""
    size, channels, flat = _shape(request, native)
    mean, std = _statistics(request.spec, channels, statistics)
    return Preprocessing(size, channels, size, mean, std, flat=flat)


def _shape(
    request: Request, native: tuple[int, int, int] | None
) -> tuple[tuple[int, int], int, bool]:
    """Size, channels and flatness of the model's input; `native` is the images' own [c, h, w]."""
    spec, asked = request.spec, request.number("size", 0)
    if asked == 0 and "size" in request.options:
        raise BadInput(f"{request.name}: size must be at least 1")
    if spec.reads_text:
        raise BadInput(f"{request.name} holds images, but the model reads text")
    shape = spec.shape or native or (3, 224, 224)
    if len(shape) == 3 and shape[0] in (1, 3):
        high, wide = (asked, asked) if asked else shape[1:]
        return (high, wide), shape[0], False
    if len(shape) == 1:
        size = (asked, asked) if asked else native[1:] if native else None
        if size is None:
            raise BadInput(
                f"{request.name}: the model takes {shape[0]} values in a row; "
                "name the images' size, such as ?size=28"
            )
        channels, left = divmod(shape[0], size[0] * size[1])
        if left == 0 and channels in (1, 3):
            return size, channels, True
    words = "×".join(map(str, shape))
    its = f" of {'×'.join(map(str, native))}" if native else ""
    raise BadInput(f"{request.name} holds images{its}, but the model takes inputs of {words}")


def _statistics(spec: InputSpec, channels: int, own: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """Mean and standard deviation: what trained weights were trained with, else the data's own."""
    if channels == 3 and (spec.weights is not None or own is None or len(own[0]) != 3):
        found = _weights(spec) if spec.weights is not None else None
        return (tuple(found.mean), tuple(found.std)) if found is not None else _IMAGENET
    if own is None:
        return (0.5,), (0.5,)
    mean, std = own
    return (mean, std) if len(mean) == channels else ((sum(mean) / 3,), (sum(std) / 3,))


def _weights(spec: InputSpec) -> Any:
    """The transforms that torchvision names for the weights that the model's address names."""
    from urllib.parse import parse_qs

    import torchvision

    assert spec.weights is not None
    name, _, query = spec.weights.partition("?")
    entry = torchvision.models.get_model_weights(name)[parse_qs(query)["weights"][0]]
    return entry.transforms()


def _published(spec: InputSpec, made: Preprocessing) -> Preprocessing:
    """`made`, but for what torchvision's weights or a ``preprocessor_config.json`` say."""
    if spec.weights is not None and made.channels == 3:
        found = _weights(spec)
        return replace(
            made,
            size=(found.crop_size[0], found.crop_size[0]),
            resize=tuple(found.resize_size),
            interpolation=found.interpolation,
        )
    path = _beside(spec, "preprocessor_config.json")
    if path is None:
        return made
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        size = settings.get("size", {})
        if isinstance(size, int):
            made = replace(made, resize=(size, size))
        elif "shortest_edge" in size:
            made = replace(made, resize=(int(size["shortest_edge"]),))
        elif "height" in size:
            made = replace(made, resize=(int(size["height"]), int(size["width"])))
        if settings.get("do_normalize", True) and "image_mean" in settings:
            mean, std = settings["image_mean"], settings["image_std"]
            made = replace(made, mean=tuple(mean), std=tuple(std))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    return made


def _beside(spec: InputSpec, name: str) -> Path | None:
    """A file that lies beside the model's weights, on disk or in the hub's cache."""
    if spec.source is None:
        return None
    folder = Path(spec.source)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.source, name)
    return Path(found) if isinstance(found, str) else None
