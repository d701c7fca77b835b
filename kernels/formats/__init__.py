"""Storage formats of a matrix, one file each; `FORMATS` holds them by kind.

A new format is one new file and its line here. It says how its entries are read (`entries`) and how
it is made of entries (`from_entries`), and with that converts from and to all others (`convert`).

Index tensors are as narrow as a matrix allows, for files. Products want 32 bits, and find them
beside the narrow ones, made when first asked for and then kept: ``indices32`` (COO, CSR, CSC, BSR,
Grouped), ``columns32`` (ELL), ``words`` and ``offsets`` (Bitmap), ``index_words`` (NM).
"""

from __future__ import annotations

from .base import Candidate, SparseMatrix, Unfit, smallest
from .bitmap import Bitmap
from .bsr import BSR
from .convert import convert
from .coo import COO
from .csc import CSC
from .csr import CSR
from .dense import Dense
from .dok import DOK
from .ell import ELL
from .entries import Entries
from .grouped import Grouped
from .hybrid import Hybrid
from .levels import LevelIndex
from .nm import NM, fullest

FORMATS: dict[str, type[SparseMatrix]] = {
    cls.kind: cls for cls in (Dense, Bitmap, COO, CSR, CSC, BSR, DOK, ELL, Hybrid, NM, Grouped)
}

__all__ = [
    "BSR",
    "COO",
    "CSC",
    "CSR",
    "DOK",
    "ELL",
    "FORMATS",
    "NM",
    "Bitmap",
    "Candidate",
    "Dense",
    "Entries",
    "Grouped",
    "Hybrid",
    "LevelIndex",
    "SparseMatrix",
    "Unfit",
    "convert",
    "fullest",
    "smallest",
]
