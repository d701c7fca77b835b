"""The HTML report says what the report says, escaped, and needs nothing from outside."""

import copy
import html
import re
from html.parser import HTMLParser

import pytest

from secateur.engine.report.html import render

EVIL = "<script>alert('x')</script>&\"'"

REPORT = {
    "model": "torchvision:resnet18",
    "name": "resnet18",
    "hash": "ab" * 32,
    "layers": [
        {"path": "conv1", "pattern": "element", "requested": 0.9, "achieved": 0.9001,
         "weights": 9408, "zeros": 8468},
        {"path": "fc", "pattern": "nm:2:4", "requested": 0.5, "achieved": 0.42,
         "weights": 512000, "zeros": 215040},
    ],
    "params": 11689512,
    "nonzeros": 11466004,
    "sparsity": 0.4287,
    "bytes": {"dense": 46796608, "compressed": 12345678},
    "accuracy": {"dense": 0.994, "pruned": 0.986},
    "steps": 1200,
    "seconds": 83.2,
    "machine": {"cpu": "some processor", "threads": 2},
    "plan": {
        "version": 1, "seed": 7, "allocation": "uniform",
        "schedule": {"kind": "agp", "end": 500},
        "rules": [{"layers": "*", "pattern": {"kind": "nm:2:4", "order": "channel"},
                   "criterion": "magnitude"}],
    },
    "notes": ["conv1 keeps 1 empty output"],
}  # fmt: skip
CELL = {
    "model": "resnet18", "layer": None, "pattern": "group", "kept": 0.4, "batch": 1,
    "dtype": "float32", "device": "cpu", "ran": "compacted", "dense_ms": 11.2, "ms": 7.4,
    "speedup": 1.51, "spread": 0.03,
}  # fmt: skip
EXPORT = {
    "path": "out/model.onnx", "format": "onnx", "bytes": 21585775, "dense_bytes": 46796608,
    "tensors": [], "max_difference": 8.5e-8, "equal": True, "notes": ["conv1 keeps 23 outputs"],
}  # fmt: skip


class Page(HTMLParser):
    """Collects text and attributes, and checks that every tag is closed in order."""

    VOID = frozenset({"meta", "br", "hr", "img", "link"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data + " "


def text_of(report) -> str:
    return " ".join(Page(render(report)).text.split())


def test_the_three_numbers_stay_apart():
    text = text_of({**REPORT, "measured": {"machine": {}, "cells": [CELL]}, "exports": [EXPORT]})
    assert "Zeros 42.9 % of the weights in pruned layers; 223,508 of all 11,689,512" in text
    assert "File 46.8 MB → 21.6 MB onnx, as written to disk" in text
    assert "Time 11.20 → 7.40 ms 1.51× faster ; whole model, batch 1 on cpu, compacted" in text
    assert "Accuracy 99.4 % → 98.6 % −0.8 points" in text


def test_what_was_not_measured_is_not_guessed():
    text = text_of({**REPORT, "accuracy": {"dense": None, "pruned": None}})
    assert "Time not measured" in text
    assert "Accuracy – there was no data" in text
    assert "faster" not in text
    assert "46.8 MB → 12.3 MB weights in the compressed export; not written yet" in text


def test_slower_is_said():
    cell = {**CELL, "speedup": 0.5, "ms": 22.4}
    assert "2.00× slower" in text_of({**REPORT, "measured": {"machine": {}, "cells": [cell]}})


def test_requested_and_achieved_are_both_shown_and_a_gap_is_marked():
    page = render(REPORT)
    assert '<td class="num">90.0 %</td><td class="num">90.01 %</td>' in page
    assert '<td class="num">50.0 %</td><td class="num off">42.00 %</td>' in page
    assert "width:58.00%" in page


def test_plan_machine_and_notes_are_there():
    text = text_of(REPORT)
    for words in (
        "nm:2:4 (order channel)", "agp (end 500)", "as the pattern says", "seed 7",
        "some processor", "conv1 keeps 1 empty output", "1 min 23 s", "ab" * 32,
    ):  # fmt: skip
        assert words in text


def put(report, path, value):
    *parents, last = path
    for key in parents:
        report = report[key]
    report[last] = value


@pytest.mark.parametrize(
    "path",
    [
        ("name",), ("model",), ("hash",), ("notes", 0), ("layers", 0, "path"),
        ("layers", 0, "pattern"), ("machine", "cpu"), ("plan", "rules", 0, "layers"),
        ("plan", "rules", 0, "pattern"), ("plan", "allocation"), ("plan", "schedule", "kind"),
        ("measured", "cells", 0, "layer"), ("measured", "cells", 0, "ran"),
        ("measured", "cells", 0, "pattern"), ("exports", 0, "path"), ("exports", 0, "notes", 0),
        ("exports", 0, "format"), ("measured", "machine", "gpu"),
    ],
)  # fmt: skip
def test_all_text_is_escaped(path):
    report = copy.deepcopy(REPORT)
    report |= {"measured": {"machine": {"gpu": "x"}, "cells": [dict(CELL)]}}
    report["exports"] = [copy.deepcopy(EXPORT)]
    put(report, path, EVIL)
    page = render(report)
    assert "<script" not in page
    assert html.escape(EVIL) in page
    assert EVIL in Page(page).text


def test_the_page_is_whole_in_itself():
    source = render({**REPORT, "measured": {"machine": {}, "cells": [CELL]}, "exports": [EXPORT]})
    page = Page(source)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "href")]
    assert not re.search(r"url\(|@import|https?://", source)
    assert "prefers-color-scheme: dark" in source


def test_a_report_with_next_to_nothing_renders():
    text = text_of({"name": "m", "layers": []})
    assert "0 layers pruned" in text
    assert "nothing was pruned" in text
