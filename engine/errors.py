"""The one error that means "the person's input, not our fault"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12


class BadInput(Exception):
    """Something from outside is wrong; the message is one clear sentence that says what to do.

    The command line prints it on one line and exits with 2; the studio shows it in place.
    """


class NeedsConsent(BadInput):
    """A file can only be opened by running code that it contains; the person has to agree."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to `word`, or a list of them."""
    known = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    more = ", …" if len(known) > _LISTED else ""
    return f"; known: {', '.join(known[:_LISTED])}{more}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; torch has no one class for it on the CPU."""
    named = type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or named or "can't allocate memory" in str(error)


OUT_OF_MEMORY = "there is not enough memory for this; take a smaller batch or model"


def as_bad_input(error: Exception) -> BadInput | None:
    """An error that the person can mend as BadInput: also rights and memory that are missing."""
    if isinstance(error, BadInput):
        return error
    if is_out_of_memory(error):
        return BadInput(OUT_OF_MEMORY)
    if isinstance(error, PermissionError) and error.filename is not None:
        return BadInput(f"{error.filename} cannot be read: {error.strerror}")
    return None
