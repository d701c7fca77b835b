"""The measured rows as tables: ratios, shares of the machine's limit, and the targets beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import geometric_mean, median

from secateur.kernels.dispatch.race import DENSE
from secateur.tests.bench.gpu.contest import OURS
from secateur.tests.bench.gpu.setting import Json
from secateur.tests.bench.gpu.topics import Topic, topics

# What the dispatcher may lose against dense.
_NEVER_BELOW = 0.97
_DRY = "**A dry run, of tiny shapes or without a GPU: no figure here says anything of a GPU.**"


def finished(rows: Iterable[Json]) -> list[Json]:
    """The rows with what follows from several of them: ratio, share of the limit, pass or fail."""
    rows = list(rows)
    limits = {row["name"]: row["per_second"] for row in rows if row.get("kind") == "limit"}
    return [row | _concluded(row, limits) for row in rows]


def _concluded(row: Json, limits: dict[str, float]) -> Json:
    kind = row.get("kind")
    if kind == "contest":
        ours = row["ms"][OURS][0]
        best = min(row["ms"][name][0] for name in row["peers"])
        return {"ratio": best / ours, "share": _share(row, ours, limits)}
    if kind == "pick":
        times = {path: each[0] for path, each in row["ms"].items()}
        if row["picked"] not in times:
            return {"reason": f"the pick, {row['picked']}, did not run"}
        own = times[row["picked"]]
        return {"ratio": min(times.values()) / own, "of_dense": times[DENSE] / own}
    if kind == "check":
        return {"passed": row["error"] <= row["limit"]}
    return {}


def _share(row: Json, ms: float, limits: dict[str, float]) -> float | None:
    """The least time by the machine's limits over the measured one; None where one is missing."""
    if "bandwidth" not in limits or (row["work"] and row["rate"] not in limits):
        return None
    floor = row["moved"] / limits["bandwidth"]
    if row["work"]:
        floor = max(floor, row["work"] / limits[row["rate"]])
    return 1e3 * floor / ms


def markdown(rows: list[Json], seconds: float) -> str:
    """The whole report of `finished` rows."""
    blocks = [_head(rows, seconds), _targets(rows), _checks(rows)]
    for topic in topics():
        found = [row for row in rows if row["topic"] == topic.key]
        kinds = {row.get("kind") for row in found}
        if "pick" in kinds:
            blocks.append(_table(topic, picks(found)))
        elif topic.target is not None or "contest" in kinds:
            blocks.append(_table(topic, _contests(found)))
    blocks.append(_compilation(rows))
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _table(topic: Topic, lines: Iterable[str]) -> list[str]:
    return [f"## {topic.title}", "", f"Against {topic.peer}.", "", *lines]


def _head(rows: list[Json], seconds: float) -> list[str]:
    known = next((row for row in rows if row.get("kind") == "machine"), {})
    name = known.get("model", "unknown machine")
    versions = ", ".join(
        f"{words} {known[key]}"
        for key, words in (
            ("driver", "driver"),
            ("cuda", "CUDA"),
            ("cudnn", "cuDNN"),
            ("torch", "torch"),
            ("cupy", "CuPy"),
            ("python", "Python"),
            ("secateur", "Secateur"),
        )
        if known.get(key)
    )
    limits = []
    for row in rows:
        if row.get("kind") == "limit" and row["name"] == "bandwidth":
            limits.append(f"a copy moves {row['per_second'] / 1e12:.2f} TB/s")
        elif row.get("kind") == "limit" and "convolution" not in row["name"]:
            limits.append(f"{row['name']} products {row['per_second'] / 1e12:.0f} TFLOP/s")
    lost = [
        f"- {row['name']}: {row['reason']}"
        for row in rows
        if row["topic"] == "machine" and "reason" in row
    ]
    return [
        f"# {name}",
        "",
        f"{versions}.",
        "",
        *([_DRY, ""] if known.get("dry", True) else []),
        f"Measured here: {', '.join(limits) or 'no limits'}. All in {seconds:.0f} s.",
        *(["", *lost] if lost else []),
    ]


def _targets(rows: list[Json]) -> list[str]:
    lines = [
        "## Targets",
        "",
        "| what | peer in the same run | target | geometric mean | worst | rows | failed | "
        "share of the limit, median | reached |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    dry = any(row.get("dry") for row in rows)
    for topic in topics():
        found = [row for row in rows if row["topic"] == topic.key]
        if not found or topic.key in {"machine", "products", "layers", "choices"}:
            continue
        ratios = [row["ratio"] for row in found if "ratio" in row]
        shares = [row["share"] for row in found if row.get("share")]
        measured = f"{geometric_mean(ratios):.2f} | {min(ratios):.2f}" if ratios else " | "
        share = f"{median(shares):.0%}" if shares else ""
        target = "" if topic.target is None else f"≥ {topic.target:g}"
        if topic.share is not None:
            target += f", share ≥ {topic.share:.0%}"
        if topic.key == "dispatcher":
            target += f", ≥ {_NEVER_BELOW} of dense"
        lines.append(
            f"| {topic.title} | {topic.peer} | {target} | {measured} | {len(ratios)} | "
            f"{len(found) - len(ratios)} | {share} | "
            f"{'' if dry else _reached(topic, found, ratios, shares)} |"
        )
    return lines


def _reached(topic: Topic, rows: list[Json], ratios: list[float], shares: list[float]) -> str:
    if topic.target is None:
        return ""
    if not ratios:
        return "not measured"
    reached = (min(ratios) if topic.by == "worst" else geometric_mean(ratios)) >= topic.target
    if topic.share is not None:
        reached &= bool(shares) and median(shares) >= topic.share
    reached &= all(row.get("of_dense", 1.0) >= _NEVER_BELOW for row in rows)
    return ("yes" if reached else "no") + (" (some failed)" if len(ratios) < len(rows) else "")


def _checks(rows: list[Json]) -> list[str]:
    found = [row for row in rows if row["topic"] in {"products", "layers", "choices"}]
    if not found:
        return []
    passed = sum(row.get("passed", False) for row in found)
    lines = [
        "## Correctness",
        "",
        f"{passed} of {len(found)} pass. Relative norm of the error; of what is exact, the share "
        "of entries that differ.",
        "",
        "| what | error | allowed | |",
        "|---|--:|--:|---|",
    ]
    for row in sorted(found, key=lambda row: row.get("passed", False)):
        if "reason" in row:
            lines.append(f"| {_plain(row['name'])} | | | **{_plain(row['reason'])}** |")
        else:
            word = "pass" if row["passed"] else "**FAIL**"
            lines.append(
                f"| {_plain(row['name'])} | {row['error']:.1e} | {row['limit']:.0e} | {word} |"
            )
    return lines


def _contests(rows: list[Json]) -> Iterator[str]:
    yield "| case | times as fast | share of the limit | ours ms | others ms | clock |"
    yield "|---|--:|--:|--:|---|---|"
    for row in rows:
        if "reason" in row:
            yield f"| {_plain(row['name'])} | | | | {_plain(row['reason'])} | |"
            continue
        others = [f"{name} {each[0]:.4g}" for name, each in row["ms"].items() if name != OURS]
        others += [f"{name}: {_plain(why)}" for name, why in row["failed"].items()]
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        yield (
            f"| {_plain(row['name'])} | {row['ratio']:.2f} | {share} | {row['ms'][OURS][0]:.4g} | "
            f"{'; '.join(others)} | {_plain(row['clock'])} |"
        )


def picks(rows: list[Json]) -> Iterator[str]:
    """The table of finished rows of kind ``pick``."""
    yield "| case | picked | of the best | of dense | all ms |"
    yield "|---|---|--:|--:|---|"
    for row in rows:
        if "ratio" not in row:
            yield f"| {_plain(row['name'])} | | | | {_plain(row['reason'])} |"
            continue
        times = [f"{path} {each[0]:.4g}" for path, each in row["ms"].items()]
        times += [f"{path}: {_plain(why)}" for path, why in row["failed"].items()]
        shares = f"{row['ratio']:.2f} | {row['of_dense']:.2f}"
        yield f"| {_plain(row['name'])} | {row['picked']} | {shares} | {'; '.join(times)} |"


def _compilation(rows: list[Json]) -> list[str]:
    kernels = [each for row in rows for each in row.get("kernels", [])]
    if not kernels:
        return []
    wall = math.fsum(row["wall"] for row in rows if "kernels" in row)
    lines = [
        "## Compilation",
        "",
        f"{len(kernels)} variants in {wall:.0f} s. Those that failed, or that keep variables in "
        "local memory:",
        "",
        "| source | variant | function | registers | local bytes | shared bytes |",
        "|---|---|---|--:|--:|--:|",
    ]
    for each in kernels:
        start = f"| {each['source']} | {' '.join(f'{k}={v}' for k, v in each['variant'].items())} |"
        if "reason" in each:
            lines.append(f"{start} {_plain(each['reason'])} | | | |")
        lines += [
            f"{start} {name} | {registers} | {local} | {shared} |"
            for name, (registers, local, shared) in each["functions"].items()
            if local
        ]
    return lines


def _plain(words: str) -> str:
    """Text that does not end a cell."""
    return words.replace("|", "\\|")
