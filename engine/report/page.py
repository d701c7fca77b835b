"""What the reports that are HTML pages share. Torch-free.

Functions that return HTML take text that is not escaped yet, unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any


def page(title: str, body: str, footer: str) -> str:
    """A page that needs nothing else: it loads nothing and runs no script. `body` is HTML."""
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
<footer>Written by Secateur. {escape(footer)}</footer>
</main>
</body>
</html>
"""


def header(title: str, words: str) -> str:
    """The top of a page. `words` is HTML."""
    named = f"<div><h1>{escape(title)}</h1><p>{words}</p></div>"
    return f'<header><div class="mark"></div>{named}</header>'


def machine(values: Mapping[str, Any]) -> str:
    """What is known of a machine, nothing if that is nothing."""
    shown = {key: words(value) for key, value in values.items() if value not in (None, "", [], {})}
    return f'<h2>Machine</h2><div class="sheet">{facts(shown)}</div>' if shown else ""


def notes(lines: Iterable[Any]) -> str:
    """A list of sentences, nothing without any."""
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f'<h2>Notes</h2><div class="sheet"><ul>{items}</ul></div>' if items else ""


def table(title: str, head: Iterable[str], rows: list[str]) -> str:
    """A titled table of ready rows, nothing without rows; ``#`` marks a column of numbers."""
    if not rows:
        return ""
    cells = "".join(
        f'<th class="num">{name[1:]}</th>' if name.startswith("#") else f"<th>{name}</th>"
        for name in head
    )
    body = "\n".join(rows)
    return (
        f'<h2>{title}</h2><div class="sheet"><table><thead><tr>{cells}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def facts(values: Mapping[str, str]) -> str:
    """Names and their values, which are HTML."""
    items = "".join(
        f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{value}</dd>" for key, value in values.items()
    )
    return f'<dl class="facts">{items}</dl>'


def words(value: Any) -> str:
    """A setting as a plan writes it, escaped: ``agp``, or ``agp (end 500, every 10)``."""
    if isinstance(value, Mapping):
        rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "kind")
        kind = str(value.get("kind", ""))
        return escape(f"{kind} ({rest})" if kind and rest else kind or rest)
    if isinstance(value, (list, tuple)):
        return escape(", ".join(str(item) for item in value))
    return escape("" if value is None else str(value))


def percent(value: float, digits: int = 1) -> str:
    """A share as 74.8 %."""
    return f"{100 * value:.{digits}f} %"
