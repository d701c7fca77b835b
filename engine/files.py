"""Writing files so that the old one survives whatever happens."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it over `path` on success.

    On any error the temporary file goes and the old file stays as it was. A full disk, a missing
    folder or missing rights become BadInput.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except Exception as error:
        if is_full(error):
            raise BadInput(
                f"{path}: the disk is full or a size limit was reached; nothing was written and "
                "the file that was there is unchanged"
            ) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise BadInput for what `replacing` could not write to now, before work is done for it."""
    _beside(Path(path)).unlink()


def check_readable(path: str | Path) -> None:
    """Raise BadInput that says why a file cannot be read: some libraries give another reason."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def _beside(path: Path) -> Path:
    """A new, empty temporary file in the folder of `path`."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file to write to")
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is a device and no file; name a file to write to")
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent}: no such folder; make it first or choose another")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None
    os.close(handle)
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk is full or a size limit was reached."""
    # torch.save reports a write that fell short, and not why.
    if isinstance(error, RuntimeError) and re.search("unexpected pos|failed writing", str(error)):
        return True
    # The safetensors library reports the system's error only as text.
    found = re.search(r"(?:os error|code:) (\d+)", str(error))
    code = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    return code in _FULL
