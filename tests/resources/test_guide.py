"""The guide that the studio shows: no dead links, and the plan in it is a plan."""

import re
from pathlib import Path

import pytest

from secateur import resources
from secateur.engine.criteria import CRITERIA
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, training_fields
from secateur.engine.schedules import SCHEDULES

# By the package and not by the studio: a machine without Qt runs this too.
GUIDE = Path(resources.__file__).parent / "guide"
PAGES = sorted(GUIDE.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_pages(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert all((GUIDE / link).is_file() for link in links)


def test_every_page_is_reached_from_the_index():
    index = (GUIDE / "index.md").read_text(encoding="utf-8")
    assert [p.name for p in PAGES if p.name != "index.md" and f"({p.name})" not in index] == []


def test_the_plan_in_the_guide_is_one(tmp_path):
    text = (GUIDE / "plan-file.md").read_text(encoding="utf-8")
    path = tmp_path / "plan.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1], encoding="utf-8")
    plan = Plan.load(path)
    assert plan.rule_for("layer1.0.conv1").pattern.to_plan() == "nm:2:4"
    assert plan.rule_for("fc").pattern.to_plan() == "block:8x4"
    assert plan.training.distil


def test_every_kind_and_every_setting_of_the_training_is_explained():
    plans = (GUIDE / "plan-file.md").read_text(encoding="utf-8")
    patterns = (GUIDE / "patterns.md").read_text(encoding="utf-8")
    schedules = (GUIDE / "schedules.md").read_text(encoding="utf-8")
    for cls in PATTERNS:
        assert f"`{cls.kind}" in plans, cls.kind
        assert f"**{cls.label}**" in patterns, cls.kind
    criteria = (GUIDE / "criteria.md").read_text(encoding="utf-8")
    for cls in CRITERIA:
        assert f"`{cls.kind}`" in plans, cls.kind
        assert f"**{cls.label}**" in criteria, cls.kind
        for field in cls.fields():
            assert f"| `{field.name}` |" in plans, (cls.kind, field.name)
    for cls in SCHEDULES:
        assert f"`{cls.kind}`" in plans
        assert f"**{cls.label}**" in schedules
    for field in training_fields():
        assert f"| {field.name} |" in schedules, field.name
