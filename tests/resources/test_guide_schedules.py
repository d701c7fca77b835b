"""Every schedule has a page with its settings and a plan that is one, and a preset."""

import re
from pathlib import Path

import pytest

from secateur import resources
from secateur.engine.plan import Plan
from secateur.engine.plan.presets import presets
from secateur.engine.schedules import SCHEDULES

PAGES = Path(resources.__file__).parent / "guide" / "schedules"
# Its page and preset are described with nested files.
SCHEDULED = [cls for cls in SCHEDULES if cls.kind != "nested"]


def _written(value):
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool | str) else f"{value:g}"


@pytest.mark.parametrize("cls", SCHEDULED, ids=lambda cls: cls.kind)
def test_every_schedule_has_a_page_with_its_settings_and_a_plan(cls, tmp_path):
    text = (PAGES / f"{cls.kind}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {cls.label}\n")
    for field in cls.fields():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{field.name}` |")]
        assert row.split("|")[3].strip() == _written(field.default), field.name
        assert all(choice in row for choice in field.choices), field.name
    path = tmp_path / "plan.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1], encoding="utf-8")
    assert Plan.load(path).schedule.kind == cls.kind


@pytest.mark.parametrize("cls", SCHEDULED, ids=lambda cls: cls.kind)
def test_every_schedule_has_a_preset(cls):
    assert cls.kind in {preset.load().schedule.kind for preset in presets()}
