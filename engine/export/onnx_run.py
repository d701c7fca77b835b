"""Running an ONNX file in ONNX Runtime on torch tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput

_ERRORS_ONLY = 3


class OnnxModel:
    """An ONNX file opened on the CPU; messages call it `name`.

    Raises BadInput if ONNX Runtime cannot open it.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        import onnxruntime

        self._name = name or str(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the processor from torch, which runs in turns with it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base but Exception
            reason = _first_line(error)
            raise BadInput(f"{self._name} cannot be opened by ONNX Runtime: {reason}") from None
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        sizes = {node.shape[0] for node in self._session.get_inputs() if node.shape}
        fixed = {size for size in sizes if isinstance(size, int)}
        self.batch: int | None = fixed.pop() if len(fixed) == 1 else None
        """The batch size that the file is fixed to; None if it takes any."""
        self.free_lengths = any(
            node.name.endswith("input_ids") and isinstance(node.shape[1], str)
            for node in self._session.get_inputs()
        )
        """Whether it takes texts of any length."""

    def takes(self, name: str) -> bool:
        """Whether the file has an input of this name."""
        return name in self._inputs

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The outputs by name; `args` go to the inputs in order, `kwargs` by name.

        Without an attention mask every token is seen. Raises BadInput if the file wants other
        inputs or does not run.
        """
        if self.takes("attention_mask") and "input_ids" in kwargs:
            kwargs = {"attention_mask": torch.ones_like(kwargs["input_ids"]), **kwargs}
        names = [name for name in self._inputs if name not in kwargs]
        if len(names) != len(args) or any(name not in self._inputs for name in kwargs):
            given = [*(f"#{i}" for i in range(len(args))), *kwargs]
            raise BadInput(
                f"{self._name} takes the inputs {', '.join(self._inputs)}, but the model is given "
                f"{', '.join(given)}; verify it against the model that it was exported from"
            )
        feed = {**dict(zip(names, args, strict=True)), **kwargs}
        arrays = {name: value.detach().cpu().numpy() for name, value in feed.items()}
        try:
            found = self._session.run(self._outputs, arrays)
        except Exception as error:  # see above
            raise BadInput(
                f"{self._name} does not run on this input: {_first_line(error)}"
            ) from None
        return {n: torch.from_numpy(v) for n, v in zip(self._outputs, found, strict=True)}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
