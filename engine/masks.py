"""Masks over a model: which weights are kept. The weights themselves stay as loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import BadInput
from .files import replacing
from .info import ModelInfo
from .models.model import Model


@dataclass
class Masks:
    """What is kept of each pruned layer.

    `layers` maps a layer's path to a bool [out, in] mask on its GEMM view, True where kept.
    `vectors` maps a parameter's name to a bool 1-d mask: biases and norm entries that go together
    with removed outputs. `orders` holds int64 orders of input channels [channels] in which N:M was
    chosen, by one of the layers that read them; place j holds the channel ``order[j]``.
    """

    layers: dict[str, Tensor] = field(default_factory=dict)
    vectors: dict[str, Tensor] = field(default_factory=dict)
    orders: dict[str, Tensor] = field(default_factory=dict)

    def density(self, path: str) -> float:
        """Share of the entries that are kept; 1.0 for a layer without a mask."""
        mask = self.layers.get(path)
        return 1.0 if mask is None else int(torch.count_nonzero(mask)) / mask.numel()

    @property
    def sparsity(self) -> float:
        """Share of zeros over all masks of layers; 0.0 without any."""
        zeros = sum(mask.numel() - int(torch.count_nonzero(mask)) for mask in self.layers.values())
        return zeros / max(1, sum(mask.numel() for mask in self.layers.values()))

    def cpu(self) -> Masks:
        """The same masks in the CPU's memory."""
        layers = {path: mask.cpu() for path, mask in self.layers.items()}
        vectors = {name: mask.cpu() for name, mask in self.vectors.items()}
        return Masks(layers, vectors, self.orders)

    def by_parameter(self, info: ModelInfo) -> dict[str, Tensor]:
        """Bool masks in the parameters' stored shapes, by parameter name."""
        masks = {}
        for path, mask in self.layers.items():
            layer = info.layer(path)
            assert layer.gemm is not None
            masks[layer.weight] = layer.gemm.store(mask)
        return masks | self.vectors

    def committed(self, model: Model) -> dict[str, Tensor]:
        """The state dict with +0.0 where pruned; tensors without a mask are shared.

        A mask lies on a parameter, so it holds for every name that shares it; such names share one
        tensor in the result too.
        """
        flags = self.by_parameter(model.info)
        state = {name: tensor.detach() for name, tensor in model.state.items()}
        groups: dict[Any, list[str]] = {}
        for name, tensor in state.items():
            place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            groups.setdefault(place if tensor.numel() else name, []).append(name)
        result = {}
        for names in groups.values():
            tensor = state[names[0]]
            for name in names:
                if name in flags:
                    tensor = tensor.masked_fill(~flags[name], 0)
            result.update(dict.fromkeys(names, tensor))
        return {name: result[name] for name in state}

    def save(self, path: Path) -> None:
        """Write the masks bit-packed, one bit a weight, and the orders as 32-bit integers."""
        from safetensors.numpy import save_file

        tensors, shapes = {}, {}
        for prefix, masks in (("layer", self.layers), ("vector", self.vectors)):
            for name, mask in masks.items():
                bits = np.packbits(mask.cpu().numpy().reshape(-1))
                tensors[f"{prefix}:{name}"] = bits
                shapes[f"{prefix}:{name}"] = list(mask.shape)
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
        try:
            with safe_open(path, "numpy") as file:
                shapes = json.loads((file.metadata() or {})["shapes"])
                for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    kind, _, name = key.partition(":")
                    if kind == "order":
                        masks.orders[name] = torch.from_numpy(file.get_tensor(key)).long()
                        continue
                    shape = shapes[key]
                    bits = np.unpackbits(file.get_tensor(key), count=int(np.prod(shape)))
                    mask = torch.from_numpy(bits.astype(bool).reshape(shape))
                    (masks.layers if kind == "layer" else masks.vectors)[name] = mask
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise BadInput(f"{path}: the masks cannot be read: {error}") from None
        return masks


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
