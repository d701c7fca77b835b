"""Make ``data/digits.npz`` from the copy of the UCI digits that scikit-learn ships.

Needed only to make the bundled file again: ``python -m secateur.resources.samples.make_data``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sklearn.datasets

from . import DIGITS

SEED = 0
VALIDATION = 0.2


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the samples so that `share` of every class goes to validation.

    Takes integer labels [n]; returns two sorted int64 index vectors, train and validation, which
    are disjoint and together cover all samples.
    """
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out[rng.permutation(members)[: round(share * len(members))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def write(path: Path) -> None:
    """Write images uint8 [1797, 8, 8] in 0…16, labels uint8 [1797] and the indices of the split."""
    digits = sklearn.datasets.load_digits()
    train, validation = split(digits.target, VALIDATION, SEED)
    np.savez_compressed(
        path,
        images=digits.images.astype(np.uint8),
        labels=digits.target.astype(np.uint8),
        train=train.astype(np.int16),
        validation=validation.astype(np.int16),
    )


if __name__ == "__main__":
    write(DIGITS)
