"""A model set up to be timed: on its device, in its precision, with an example input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.calls import Call, recorded
from ...kernels.dispatch.race import DENSE, Form
from ..compaction import committed, compact
from ..dependencies import first_line
from ..errors import BadInput, is_out_of_memory
from ..masks import Masks
from ..models.model import Model
from .request import Setting


class Rig:
    """The dense model as one setting runs it, and what its layers are called with there."""

    def __init__(self, model: Model, setting: Setting) -> None:
        """Raises BadInput for a model that cannot run so."""
        model.runnable()
        if model.inputs is None:
            raise BadInput(f"{model.address} cannot be measured: no example input is known for it")
        self.model, self.setting = model, setting
        try:
            self.module = self.placed(committed(model, Masks()))
            args, kwargs = model.inputs(setting.batch)
            self.args = tuple(self._given(arg) for arg in args)
            self.kwargs = {name: self._given(arg) for name, arg in kwargs.items()}
            paths = [layer.path for layer in model.info.prunable]
            self.calls: dict[str, Call] = recorded(self.module, self.args, self.kwargs, paths)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, MemoryError) as error:
            raise BadInput(self._refused(error)) from None

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.setting.device

    @property
    def dtypes(self) -> list[str]:
        """The floating dtypes of its parameters."""
        kinds = {p.dtype for p in self.module.parameters() if p.is_floating_point()}
        return sorted(str(kind).removeprefix("torch.") for kind in kinds)

    def dtype(self, path: str | None) -> str:
        """The dtype of a layer's weight, or of the model (None); ``"mixed"`` if it has several."""
        if path is None or self.setting.dtype is not None:
            return self.dtypes[0] if len(self.dtypes) == 1 else "mixed"
        return str(self.model.info.layer(path).dtype)

    def placed(self, module: nn.Module) -> nn.Module:
        """A module on the device, in the precision; it may be changed itself."""
        return module.to(self.device, self.setting.dtype)

    def compacted(self, masks: Masks) -> nn.Module:
        """The model without the channels that nothing needs any more."""
        return self.placed(compact(self.model, masks).module)

    def dense(self, path: str) -> Form:
        """A layer as it is, on an input as it has in the model."""
        x = self.calls[path].example(self.device)
        return Form(DENSE, self.module.get_submodule(path), (x,), {})

    def _given(self, value: Any) -> Any:
        """An example input on the device, in whatever it is wrapped."""
        if isinstance(value, Tensor):
            dtype = self.setting.dtype if value.is_floating_point() else None
            return value.to(self.device, dtype)
        if isinstance(value, (tuple, list)):
            return type(value)(self._given(item) for item in value)
        return value

    def _refused(self, error: Exception) -> str:
        start = f"{self.model.address} cannot be measured"
        batch = self.setting.batch
        if is_out_of_memory(error):
            return f"{start}: a batch of {batch} does not fit in memory; take a smaller one"
        dtype = self.setting.dtype
        kind = "" if dtype is None else f" in {str(dtype).removeprefix('torch.')}"
        why = first_line(error)
        return f"{start}: it fails on an example input of batch {batch}{kind}: {why}"
