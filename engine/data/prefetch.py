"""Making things ahead of time on threads: decoding an image lets other threads run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(make: Callable[[int], T], numbers: range, workers: int) -> Iterator[T]:
    """``make(number)`` for each number in order, up to `workers` of them at a time.

    With 0 workers each is made when it is asked for. At most one more than `workers` are waiting.
    """
    if workers == 0:
        yield from map(make, numbers)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[T]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
