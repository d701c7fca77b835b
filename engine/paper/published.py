"""What S1 (Liu et al., pruning patterns for sparse DNN inference) prints in its tables 1 to 8.

An RTX 2080 Ti, fp32; convolutions by im2col and cuBLAS, which is the dense baseline; element,
vector, block and group-wise weights by cuSPARSE, and in tables 5 to 8 group-wise weights by S1's
own algorithms. It says neither its batch size nor the sizes of its blocks and vectors. The text is
a scan: its figures were compared with what it says of them in words. Figures 7 to 10 draw these
tables; of figures 11 to 14 there are no numbers but those in `CROSSOVERS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

SETTING = "RTX 2080 Ti, fp32, against dense im2col + cuBLAS"

CROSSOVERS = {"convolution": 0.2, "linear": 0.1}
"""The sparsity at which group-wise pruning costs what dense does, by layer (section 5.2)."""

# Source, model, data, dense ms; then by form: per cent kept, ms, change of accuracy in points.
_TABLES: tuple[tuple[str, str, str, float, dict[str, tuple[tuple[float, float, float], ...]]], ...]
_TABLES = (
    ("table 1", "vgg16", "CIFAR-10", 0.11, {
        "element": ((74.97, 6.82, 0.04), (49.97, 5.41, -0.23), (24.97, 3.27, 0.03)),
        "vector": ((75.00, 6.97, 0.09), (50.00, 4.77, -0.32), (25.00, 2.55, -0.19)),
        "block": ((78.74, 5.97, 0.12), (55.19, 5.21, -0.15), (25.26, 3.19, -0.38)),
        "group": ((73.84, 8.63, -0.25), (49.90, 7.03, 0.05), (25.57, 2.30, -0.86)),
    }),
    ("table 1", "resnet18", "CIFAR-10", 0.70, {
        "element": ((75.99, 11.62, 0.59), (49.98, 10.17, 0.49), (24.97, 8.36, -0.06)),
        "vector": ((75.00, 5.84, 0.04), (50.00, 3.99, -0.46), (25.00, 2.91, -0.53)),
        "block": ((73.67, 11.93, 0.22), (47.41, 8.67, -0.37), (23.60, 5.53, -0.56)),
        "group": ((77.27, 7.51, -0.35), (46.76, 5.86, -0.38), (39.35, 2.64, -1.38)),
    }),
    ("table 2", "vgg16", "Tiny-ImageNet", 0.50, {
        "element": ((72.93, 22.15, -11.52), (48.64, 18.54, -9.35), (24.80, 14.27, -11.71)),
        "vector": ((75.00, 9.24, -12.34), (50.00, 8.55, -11.57), (25.00, 3.49, -11.30)),
        "block": ((75.82, 17.75, -4.13), (49.20, 14.34, -4.76), (26.93, 9.89, -14.10)),
        "group": ((71.74, 38.02, -4.19), (49.16, 27.86, -4.76), (30.81, 16.13, -11.68)),
    }),
    ("table 2", "resnet18", "Tiny-ImageNet", 1.02, {
        "element": ((74.57, 47.01, -6.05), (49.27, 41.18, -4.77), (24.24, 33.87, -4.63)),
        "vector": ((75.00, 9.59, -8.92), (50.00, 6.17, -9.87), (25.00, 3.86, -8.36)),
        "block": ((75.66, 28.47, 1.20), (50.42, 18.81, -2.82), (27.66, 18.06, -4.15)),
        "group": ((74.74, 30.60, 0.11), (49.23, 25.55, -0.56), (29.55, 12.98, -6.23)),
    }),
    ("table 3", "vit_b_16", "CIFAR-10", 3.10, {
        "element": ((75.0, 85.83, -0.56), (50.0, 57.62, -2.10), (25.0, 28.32, -0.58)),
        "vector": ((75.0, 85.36, -1.08), (50.0, 58.71, -0.72), (25.0, 27.96, -0.48)),
        "block": ((75.0, 28.42, 0.96), (50.0, 28.79, 0.20), (25.0, 18.19, 0.44)),
        "group": ((75.0, 81.00, -1.22), (50.0, 55.55, -1.36), (25.0, 28.77, -1.95)),
    }),
    ("table 3", "vit_b_16", "Tiny-ImageNet", 3.12, {
        "element": ((75.0, 85.98, -1.67), (50.0, 57.97, -3.77), (25.0, 28.18, -3.95)),
        "vector": ((75.0, 85.54, -1.79), (50.0, 58.77, -2.25), (25.0, 28.06, -2.73)),
        "block": ((75.0, 28.18, 0.37), (50.0, 28.99, 0.12), (25.0, 18.05, -1.33)),
        "group": ((75.0, 81.34, 0.00), (50.0, 55.99, -1.01), (25.0, 29.06, -1.12)),
    }),
    ("table 4", "bert-base", "QQP", 2.48, {
        "element": ((73.46, 19.66, -0.24), (43.90, 20.46, -0.68), (31.66, 25.32, -1.21)),
        "vector": ((75.00, 20.96, -0.19), (50.00, 16.53, -0.80), (25.00, 20.08, -2.42)),
        "block": ((75.18, 14.09, -0.65), (51.70, 11.09, -1.64), (26.74, 9.53, -2.56)),
        "group": ((81.71, 15.81, -0.28), (58.26, 11.70, -1.85), (29.02, 6.82, -6.32)),
    }),
    ("table 5", "vgg16", "CIFAR-10", 0.11, {
        "select": ((73.84, 0.31, -0.25), (49.90, 0.20, 0.05), (25.57, 0.11, -0.86)),
    }),
    ("table 5", "resnet18", "CIFAR-10", 0.70, {
        "select": ((77.27, 0.78, -0.35), (46.76, 0.75, -0.38), (39.35, 0.64, -1.38)),
    }),
    ("table 5", "vit_b_16", "CIFAR-10", 3.10, {
        "select": ((75.0, 2.80, -1.22), (50.0, 2.37, -1.36), (25.0, 1.96, -1.95)),
    }),
    ("table 6", "vgg16", "Tiny-ImageNet", 0.50, {
        "select": ((71.74, 0.49, -4.19), (47.27, 0.34, -4.76), (30.98, 0.25, -11.68)),
    }),
    ("table 6", "resnet18", "Tiny-ImageNet", 1.02, {
        "select": ((75.40, 1.07, 0.11), (49.23, 0.82, -0.56), (29.55, 0.57, -6.23)),
    }),
    ("table 6", "vit_b_16", "Tiny-ImageNet", 3.12, {
        "select": ((75.0, 2.71, 0.00), (50.0, 2.37, -1.01), (25.0, 1.92, -1.12)),
    }),
    ("table 7", "bert-base", "QQP", 2.48, {
        "select": ((81.71, 2.43, -0.28), (58.26, 2.01, -1.85), (31.21, 1.47, -8.72)),
    }),
    ("table 8", "vgg16", "ImageNet", 15.67, {
        "element": ((50.0, 360.43, -5.29),),
        "vector": ((50.0, 315.82, -8.97),),
        "block": ((50.0, 44.25, -4.13),),
        "select": ((50.0, 5.99, -5.26),),
    }),
)  # fmt: skip
_ASKED = (0.75, 0.5, 0.25)


def published(models: tuple[str, ...] | None = None) -> list[Json]:
    """S1's figures as rows of plain values, those of `models` (None: all).

    ``source, model, data, form`` (``element``, ``vector``, ``block``, ``group`` by cuSPARSE, or
    ``select``, S1's own execution of group-wise weights)``, asked`` (the column of the tables that
    the row belongs to)``, kept`` (share of the parameters)``, ms, dense_ms, speedup`` and
    ``accuracy_change`` in points.
    """
    return [row for row in _rows() if models is None or row["model"] in models]


def _rows() -> Iterator[Json]:
    for source, model, data, dense, forms in _TABLES:
        for form, values in forms.items():
            asked = _ASKED if len(values) == len(_ASKED) else (0.5,)
            for share, (kept, ms, change) in zip(asked, values, strict=True):
                yield {
                    "source": source,
                    "model": model,
                    "data": data,
                    "form": form,
                    "asked": share,
                    "kept": round(kept / 100, 4),
                    "ms": ms,
                    "dense_ms": dense,
                    "speedup": dense / ms,
                    "accuracy_change": change,
                }
