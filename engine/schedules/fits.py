"""Which patterns a way of learning masks can have."""

from __future__ import annotations

from ..patterns import Pattern


def not_ranked(kind: str, pattern: Pattern) -> str | None:
    """Why `kind`, which ranks a layer's units by scores of its own, cannot have `pattern`."""
    if pattern.whole:
        return (
            f"goes or stays as a whole, which {kind} cannot learn; oneshot, iterative or agp "
            "would do"
        )
    if getattr(pattern, "permute", False):
        return f"cannot have its masks in another order with {kind}; set permute to false"
    return None


def not_free(kind: str, pattern: Pattern) -> str | None:
    """Why a method that learns for each unit by itself whether it stays cannot have `pattern`."""
    if pattern.free:
        return None
    return (
        f"has pattern {pattern.label}, whose masks {kind} cannot learn because it keeps or drops "
        "every unit by itself; agp, admm or movement (hard) would do"
    )
