"""Sentences, or pairs of them, with labels: from TSV and JSON-lines files as GLUE has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from .base import Data
from .classes import held_out, labelled
from .inputs import Batch
from .request import SPLITS, Request

Columns = Mapping[str, Sequence[Any]]
"""Equally long columns by name."""

_TEXTS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("#1 String", "#2 String"),
    ("sentence",),
    ("text",),
)
_LABELS = ("label", "labels", "gold_label", "is_duplicate", "Quality")
_UNLABELLED = ("-1", "-", "None", "")
_ENDINGS = (".tsv", ".jsonl", ".json", ".txt")
_LENGTH = 128


@dataclass(frozen=True)
class Sentences:
    """Texts that are tokenised when their turn comes; `second` is None for single ones."""

    first: Sequence[str]
    second: Sequence[str] | None
    labels: Tensor
    tokenizer: Any
    length: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor, augment: torch.Generator | None = None) -> Batch:
        """See `Split.take`. Texts are cut at `length` tokens and padded to the longest one."""
        numbers = chosen.tolist()
        first = [self.first[i] for i in numbers]
        second = None if self.second is None else [self.second[i] for i in numbers]
        tokens = self.tokenizer(
            first,
            second,
            truncation=True,
            padding=True,
            max_length=self.length,
            return_tensors="pt",
        )
        return dict(tokens), self.labels[chosen]


def load(request: Request) -> Data:
    """A file, of which a fifth is held out, or a folder with ``train`` and ``dev`` files.

    Raises BadInput for columns that are not there and for a model without a tokenizer.
    """
    path = request.existing()
    tables: dict[str, Columns] = {}
    notes: list[str] = []
    for split, file in split_files(path, _ENDINGS).items():
        tables[split] = _columns(file, notes)
    return from_columns(request, tables, tuple(notes))


def split_files(path: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The files of both splits in a folder; a file stands for a whole that has yet to be split.

    Raises BadInput for a folder that lacks one.
    """
    if path.is_file():
        return {"train": path}
    found = {}
    for split, words in SPLITS.items():
        # MNLI validates twice and calls the files dev_matched and dev_mismatched.
        names = [f"{word}{more}{end}" for word in words for more in ("", "_matched")
                 for end in endings]  # fmt: skip
        file = next((path / name for name in names if (path / name).is_file()), None)
        if file is None:
            known = ", ".join(f"{word}{endings[0]}" for word in words)
            raise BadInput(f"{path} holds no file to {_purpose(split)} ({known})")
        found[split] = file
    return found


def _purpose(split: str) -> str:
    return "train on" if split == "train" else "validate with"


def from_columns(request: Request, tables: Mapping[str, Columns], notes: tuple[str, ...]) -> Data:
    """Data from the columns of ``"train"`` and, where there is one, of ``"validation"``."""
    parts = [_texts(request, columns) for columns in tables.values()]
    rows = [[i for i, v in enumerate(values) if str(v) not in _UNLABELLED] for _, values in parts]
    if left := sum(len(values) for _, values in parts) - sum(map(len, rows)):
        notes = (*notes, f"{left} examples have no label and are left out")
    used = [[values[i] for i in kept] for (_, values), kept in zip(parts, rows, strict=True)]
    numbers, names = numbered([v for values in used for v in values], request)
    labels = numbers.split([len(values) for values in used])
    tokenizer, length = _tokenizer(request)

    def split(table: int, chosen: Sequence[int], labels: Tensor) -> Sentences:
        texts = [[str(column[rows[table][i]]) for i in chosen] for column in parts[table][0]]
        second = texts[1] if len(texts) == 2 else None
        return Sentences(texts[0], second, labels, tokenizer, length)

    if len(parts) == 1:
        shares = held_out(labels[0], request.seed)
        splits = [split(0, share.tolist(), labels[0][share]) for share in shares]
    else:
        splits = [split(i, range(len(rows[i])), labels[i]) for i in (0, 1)]
    if not names[0].isdecimal():
        notes = (*notes, f"classes by number: {', '.join(names)[:200]}")
    return labelled(request, splits[0], splits[1], len(names), names, notes)


def numbered(values: Sequence[Any], request: Request) -> tuple[Tensor, list[str]]:
    """Class numbers, int64 [n], and the classes' names.

    Names are numbered as the model's configuration says, else in alphabetical order.
    """
    words = [str(int(v) if isinstance(v, bool) else v) for v in values]
    distinct = sorted(set(words))
    if not distinct:
        raise BadInput(f"{request.name} holds no labelled examples")
    if all(word.isdecimal() for word in distinct):
        names = [str(i) for i in range(max(map(int, distinct)) + 1)]
        return torch.tensor([int(word) for word in words]), names
    known = request.spec.labels
    if all(word.lower() in known for word in distinct):
        names = sorted(known, key=lambda name: known[name])
        return torch.tensor([known[word.lower()] for word in words]), names
    if len(distinct) > max(100, len(words) // 2):
        raise BadInput(f"{request.name}: labels such as '{distinct[0]}' are numbers, not classes")
    places = {word: place for place, word in enumerate(distinct)}
    return torch.tensor([places[word] for word in words]), distinct


def _texts(request: Request, columns: Columns) -> tuple[list[Sequence[Any]], Sequence[Any]]:
    """The one or two columns of text, and the labels."""
    label = next((name for name in _LABELS if name in columns), None)
    texts = next((names for names in _TEXTS if all(name in columns for name in names)), None)
    found = ", ".join(columns)[:200]
    if label is None:
        raise BadInput(f"{request.name} has no label column ({', '.join(_LABELS)}); found: {found}")
    if texts is None:
        known = ", ".join("+".join(names) for names in _TEXTS)
        raise BadInput(f"{request.name} has no text column ({known}); found: {found}")
    return [columns[name] for name in texts], columns[label]


def _columns(path: Path, notes: list[str]) -> Columns:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as text: {error}") from None
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise BadInput(f"{path} is empty")
    if path.suffix in (".jsonl", ".json"):
        return _json_lines(path, lines)
    header, *rows = [line.rstrip("\r").split("\t") for line in lines]
    if len(header) == 4 and header[1] in ("0", "1"):  # CoLA comes without names
        header, rows = ["source", "label", "mark", "sentence"], [header, *rows]
    whole = [row for row in rows if len(row) >= len(header)]
    if left := len(rows) - len(whole):
        notes.append(f"{left} lines of {path.name} lack columns and are left out")
    if not whole:
        raise BadInput(f"{path} holds no line with its {len(header)} columns")
    return dict(zip(header, zip(*(row[: len(header)] for row in whole), strict=True), strict=True))


def _json_lines(path: Path, lines: list[str]) -> Columns:
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{path}, line {number} is no JSON object: {error}") from None
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number} is no JSON object; one is expected on each line")
        rows.append(row)
    return {name: [row.get(name) for row in rows] for name in rows[0]}


def _tokenizer(request: Request) -> tuple[Any, int]:
    """The model's own tokenizer and the most tokens it may make of a text."""
    import transformers

    spec = request.spec
    source = request.options.get("tokenizer") or spec.source
    hint = "keep the tokenizer's files beside the model, or name their folder with ?tokenizer=PATH"
    if source is None or not (spec.reads_text or spec.shape is None):
        raise BadInput(f"{request.name} holds text, but the model has no tokenizer; {hint}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers raises many kinds for a folder that it cannot read
        reason = str(error).strip().split("\n")[0]
        raise BadInput(f"{source} holds no tokenizer ({reason:.200}); {hint}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made up by transformers, out of nothing
        raise BadInput(f"{source} holds no tokenizer; {hint}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    positions = spec.config.get("max_position_embeddings") or tokenizer.model_max_length
    asked = request.number("length", _LENGTH)
    return tokenizer, min(asked, tokenizer.model_max_length, positions)
