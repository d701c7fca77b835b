"""Courses of the learning rate: a factor on it by the share of the training that is done."""

from __future__ import annotations

import math
from collections.abc import Callable

_WARM = 0.3


def factor(decay: str, done: float) -> float:
    """The factor in [0, 1] on the learning rate when the share `done` of the training is behind.

    `decay` is one of the keys of `COURSES`; raises KeyError for another.
    """
    return COURSES[decay](min(1.0, max(0.0, done)))


def _falling(done: float, start: float) -> float:
    """1 up to `start`, then half a cosine down to 0."""
    fallen = max(0.0, done - start) / max(1e-9, 1 - start)
    return 0.5 + 0.5 * math.cos(math.pi * fallen)


def _onecycle(done: float) -> float:
    # Smith & Topin 2018, as torch's OneCycleLR has it: up from 1/25 in 30 %, then down to nearly 0.
    if done < _WARM:
        return 1 - (1 - 1 / 25) * (0.5 + 0.5 * math.cos(math.pi * done / _WARM))
    return _falling((done - _WARM) / (1 - _WARM), 0.0)


COURSES: dict[str, Callable[[float], float]] = {
    "late": lambda done: _falling(done, 0.75),
    "cosine": lambda done: _falling(done, 0.0),
    "step": lambda done: 0.1 ** ((done >= 0.5) + (done >= 0.75)),
    "onecycle": _onecycle,
    "constant": lambda done: 1.0,
}
