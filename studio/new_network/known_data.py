"""What of a data set is known by its address: the size of an example, and the classes."""

from __future__ import annotations

from pathlib import Path

_KNOWN: dict[str, tuple[tuple[int, ...], int]] = {
    "sample:digits": ((1, 8, 8), 10),
    "mnist": ((1, 28, 28), 10),
    "fashion-mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "higgs": ((28,), 2),
}


def sizes_of(address: str) -> tuple[tuple[int, ...], int] | None:
    """An example's shape, (channels, height, width) or (features,), and the number of classes.

    None where only the files can tell.
    """
    return _KNOWN.get(address) or _KNOWN.get(address.partition(":")[0])


def not_there(address: str) -> str:
    """Why the data can't be read from disk, in a sentence; empty: nothing speaks against it."""
    kind, _, rest = address.partition(":")
    if kind not in _KNOWN:
        return ""
    path = Path(rest.partition("?")[0]).expanduser()
    return "" if rest and path.exists() else f"There is no {path} on this machine."
