"""The curve along which sparsity rises (S0; Zhu & Gupta 2017), for every schedule that has one."""

from __future__ import annotations


def cubic(step: int, begin: int, end: int, start: float, final: float) -> float:
    """Sparsity at `step`: `start` up to `begin`, `final` from `end` on.

    In between s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))³: fast first, then gently.
    """
    if step >= end:
        return final
    left = 1 - max(0, step - begin) / max(1, end - begin)
    return final + (min(start, final) - final) * left**3


def stepped(
    step: int, begin: int, end: int, every: int, start: float, final: float
) -> float | None:
    """`cubic` at every `every` steps from `begin` to `end`, and at `end`; None elsewhere."""
    if not begin <= step <= end or (step != end and (step - begin) % every):
        return None
    return cubic(step, begin, end, start, final)


def three_quarters(end: int | None, begin: int, total: int) -> int:
    """The step at which masks are final: `end`, or where that is None 3/4 of `total`."""
    return end if end is not None else max(begin + 1, total * 3 // 4)
