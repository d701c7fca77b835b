"""Storage formats of a matrix, one file each; `FORMATS` holds them by kind.

A new format is one new file and its line here.
"""

from __future__ import annotations

from .base import Candidate, SparseMatrix, Unfit, smallest
from .bitmap import Bitmap
from .csr import CSR
from .dense import Dense
from .grouped import Grouped
from .levels import LevelIndex
from .nm import NM, fullest

FORMATS: dict[str, type[SparseMatrix]] = {
    cls.kind: cls for cls in (Dense, Bitmap, CSR, NM, Grouped)
}

__all__ = [
    "CSR",
    "FORMATS",
    "NM",
    "Bitmap",
    "Candidate",
    "Dense",
    "Grouped",
    "LevelIndex",
    "SparseMatrix",
    "Unfit",
    "fullest",
    "smallest",
]
