"""How many bytes the weights take when each matrix is stored the smallest way."""

from __future__ import annotations

from ..kernels.formats import FORMATS, smallest
from .masks import Masks
from .models.model import Model


def compressed_bytes(model: Model, masks: Masks) -> int:
    """Bytes of all tensors in the compressed export: per pruned matrix the smallest exact format."""
    state = masks.committed(model)
    paths = {model.info.layer(path).weight: path for path in masks.layers}
    candidates = [cls.from_dense for cls in FORMATS.values()]
    total, seen = 0, set()
    for name, tensor in state.items():
        if name in paths:
            gemm = model.info.layer(paths[name]).gemm
            assert gemm is not None
            total += smallest(gemm.view(tensor), candidates).nbytes
        elif tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            total += tensor.nbytes
    return total
