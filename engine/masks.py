"""Masks over a model: which weights are kept. The weights themselves stay as loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.formats.bits import unpack_bits
from .bitmasks import BitMask, PackedMasks
from .errors import BadInput
from .files import check_readable, replacing
from .info import ModelInfo
from .models.model import Model

# Files have the highest bit first, kernels the lowest.
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8), bitorder="little"))


class Masks:
    """What is kept of each pruned layer.

    `layers` maps a layer's path to a bool [out, in] mask on its GEMM view, True where kept; they
    are held bit-packed. `vectors` maps a parameter's name to a bool 1-d mask: biases and norm
    entries that go together with removed outputs. `orders` holds int64 orders of input channels
    [channels] in which N:M was chosen, by one of the layers that read them; place j holds the
    channel ``order[j]``.
    """

    def __init__(
        self,
        layers: Mapping[str, Tensor | BitMask] | None = None,
        vectors: dict[str, Tensor] | None = None,
        orders: dict[str, Tensor] | None = None,
    ) -> None:
        self.layers = PackedMasks(layers or {})
        self.vectors = vectors or {}
        self.orders = orders or {}

    def density(self, path: str) -> float:
        """Share of the entries that are kept; 1.0 for a layer without a mask."""
        mask = self.layers.packed.get(path)
        return 1.0 if mask is None else mask.density

    @property
    def sparsity(self) -> float:
        """Share of zeros over all masks of layers; 0.0 without any."""
        masks = self.layers.packed.values()
        total = sum(mask.numel for mask in masks)
        return (total - sum(mask.kept for mask in masks)) / max(1, total)

    def cpu(self) -> Masks:
        """The same masks in the CPU's memory."""
        layers = {path: mask.to("cpu") for path, mask in self.layers.packed.items()}
        vectors = {name: mask.cpu() for name, mask in self.vectors.items()}
        return Masks(layers, vectors, self.orders)

    def by_parameter(self, info: ModelInfo) -> Mapping[str, Tensor]:
        """Bool masks in the parameters' stored shapes, by parameter name; each made when got."""
        return _Stored(self, info)

    def committed(self, model: Model) -> Committed:
        """The state dict with +0.0 where pruned."""
        return Committed(model, self.by_parameter(model.info))

    def save(self, path: Path) -> None:
        """Write the masks bit-packed, one bit a weight, and the orders as 32-bit integers."""
        from safetensors.numpy import save_file

        tensors, shapes = {}, {}
        masks = {f"layer:{path}": mask for path, mask in self.layers.packed.items()}
        masks |= {f"vector:{name}": BitMask.of(mask) for name, mask in self.vectors.items()}
        for key, mask in masks.items():
            tensors[key], shapes[key] = _REVERSED[mask.bits.cpu().numpy()], list(mask.shape)
        for path_of, order in self.orders.items():
            tensors[f"order:{path_of}"] = order.cpu().numpy().astype(np.int32)
        with replacing(path) as temporary:
            # One key: the library writes several in random order, and files should repeat.
            save_file(tensors, temporary, metadata={"shapes": json.dumps(shapes)})

    @classmethod
    def load(cls, path: Path) -> Masks:
        """Read what `save` wrote; raises BadInput for anything else."""
        from safetensors import SafetensorError, safe_open

        masks = cls()
        check_readable(path)
        try:
            with safe_open(path, "numpy") as file:
                shapes = json.loads((file.metadata() or {})["shapes"])
                for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    kind, _, name = key.partition(":")
                    if kind == "order":
                        masks.orders[name] = torch.from_numpy(file.get_tensor(key)).long()
                        continue
                    bits = torch.from_numpy(_REVERSED[file.get_tensor(key)])
                    mask = unpack_bits(bits, prod(shapes[key])).view(shapes[key])
                    (masks.layers if kind == "layer" else masks.vectors)[name] = mask
        except (
            SafetensorError,
            OSError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise BadInput(f"{path}: the masks cannot be read: {error}") from None
        return masks


class _Stored(Mapping[str, Tensor]):
    """See `Masks.by_parameter`."""

    def __init__(self, masks: Masks, info: ModelInfo) -> None:
        self._masks = masks
        self._layers = {layer.weight: layer for layer in map(info.layer, masks.layers)}

    def __getitem__(self, name: str) -> Tensor:
        if name in self._masks.vectors:
            return self._masks.vectors[name]
        layer = self._layers[name]
        assert layer.gemm is not None
        return layer.gemm.store(self._masks.layers[layer.path])

    def __contains__(self, name: object) -> bool:
        return name in self._layers or name in self._masks.vectors

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers | self._masks.vectors)

    def __len__(self) -> int:
        return len(self._layers | self._masks.vectors)


class Committed(Mapping[str, Tensor]):
    """A model's state dict with +0.0 where pruned.

    A tensor under a mask is made each time it is got, so that they are never in memory together;
    the others are the model's own. A mask lies on a parameter, so it holds for every name that
    shares it. `tied` are names that share one with an earlier name, and which that is.
    """

    def __init__(self, model: Model, flags: Mapping[str, Tensor]) -> None:
        self._state = {name: tensor.detach() for name, tensor in model.state.items()}
        self._flags = flags
        self.tied: dict[str, str] = {}
        self._masked: dict[str, list[str]] = {}
        first: dict[Any, str] = {}
        for name, tensor in self._state.items():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            kept = first.setdefault(place if tensor.numel() else name, name)
            if kept != name:
                self.tied[name] = kept
            if name in flags:
                self._masked.setdefault(kept, []).append(name)

    def __getitem__(self, name: str) -> Tensor:
        kept = self.tied.get(name, name)
        tensor = self._state[kept]
        for masked_name in self._masked.get(kept, ()):
            tensor = tensor.masked_fill(~self._flags[masked_name], 0)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._state

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


@contextmanager
def masked(model: Model, masks: Masks) -> Iterator[None]:
    """Let the model's module compute with W * mask inside; the weights come back bit for bit."""
    parameters = dict(model.runnable().named_parameters(remove_duplicate=False))
    saved = {}
    try:
        for name, mask in masks.by_parameter(model.info).items():
            parameter = parameters[name]
            saved[name] = parameter.data
            parameter.data = parameter.data.masked_fill(~mask.to(parameter.device), 0)
        yield
    finally:
        for name, data in saved.items():
            parameters[name].data = data
