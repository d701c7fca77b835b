"""Putting loaded tensors into a module."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from torch import Tensor, nn

from ..errors import BadInput


def fill(module: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Put the tensors of `state` into `module`, dtypes too, one by one and without a copy.

    Raises BadInput that begins with `problem`.
    """
    own = module.state_dict(keep_vars=True)
    if own.keys() != state.keys():
        _load(module, state, problem)
        return
    used: set[int] = set()
    for name, tensor in own.items():
        new = state[name].detach()
        if new.shape != tensor.shape:
            _load(module, state, problem)
            return
        # Names that share a tensor in the file may be apart in the module.
        shared = new.numel() > 0 and new.data_ptr() in used
        used.add(new.data_ptr())
        tensor.data = new.clone() if shared or not new.is_contiguous() else new


def _load(module: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Load by torch's rules for what older files lack; its words say what does not fit."""
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split("\n") if line.strip()]
        reason = lines[min(1, len(lines) - 1)]
        raise BadInput(f"{problem}: {reason[:200]}{' …' if len(reason) > 200 else ''}") from None
