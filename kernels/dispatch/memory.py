"""What was measured before, on disk: one small file per question, so that nothing needs a lock."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..folders import cache_folder

Json = dict[str, Any]


def default_folder() -> Path:
    """Where this person's measurements are kept."""
    return cache_folder() / "measured"


class Memory:
    """Answers by question; both are plain JSON values.

    What was put is kept as long as this lives, and in `folder` for longer; `folder` None keeps it
    nowhere else. A folder that can't be written or a damaged file is as if nothing was known: a
    measurement is never worth failing for. `fresh` overwrites what the folder holds without
    looking at it.
    """

    def __init__(self, folder: Path | None, *, fresh: bool = False) -> None:
        self._folder, self._fresh = folder, fresh
        self._now: dict[str, Json] = {}

    def get(self, question: Mapping[str, Any]) -> Json | None:
        """What was put for the same question, None if nothing was."""
        now = self._now.get(_name(question))
        if now is not None or self._folder is None or self._fresh:
            return now
        try:
            found = json.loads(self._file(question).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = isinstance(found, dict) and found.get("question") == dict(question)
        return found["answer"] if known else None

    def put(self, question: Mapping[str, Any], answer: Json) -> None:
        """Keep the answer; it takes the place of an older one."""
        self._now[_name(question)] = answer
        if self._folder is None:
            return
        text = json.dumps({"question": dict(question), "answer": answer})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self._folder, suffix=".new", delete=False
            ) as file:
                file.write(text)
            Path(file.name).replace(self._file(question))
        except OSError:
            return

    def _file(self, question: Mapping[str, Any]) -> Path:
        assert self._folder is not None
        return self._folder / f"{_name(question)}.json"


def _name(question: Mapping[str, Any]) -> str:
    text = json.dumps(dict(question), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
