"""The guide that the studio shows: no dead links, its plans parse, its pictures tell the truth."""

import re
from pathlib import Path

import pytest

from secateur import resources
from secateur.engine.allocation import ALLOCATIONS
from secateur.engine.criteria import CRITERIA
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, plan_fields, training_fields
from secateur.engine.schedules import SCHEDULES
from secateur.resources.guide_pictures import PICTURES, draw

# By the package and not by the studio: a machine without Qt runs this too.
GUIDE = Path(resources.__file__).parent / "guide"
PAGES = sorted(GUIDE.rglob("*.md"))


def links_of(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    return [(page.parent / link).resolve() for link in links]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_pages(page):
    assert links_of(page)
    assert all(link.is_file() for link in links_of(page))


def test_every_page_and_picture_is_reached_from_the_index():
    reached, waiting = set(), [(GUIDE / "index.md").resolve()]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += links_of(page) if page.suffix == ".md" else []
    files = {path.resolve() for path in GUIDE.rglob("*") if path.is_file()}
    assert files == reached


@pytest.mark.parametrize("cls", list(PATTERNS), ids=lambda cls: cls.kind)
def test_every_pattern_has_a_page_with_its_picture_settings_and_a_plan(cls, tmp_path):
    page = GUIDE / "patterns" / f"{cls.kind}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {cls.label}\n")
    assert f"]({cls.kind}.svg)" in text
    for field in cls.fields():
        assert f"| `{field.name}` |" in text, field.name
    path = tmp_path / "plan.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1], encoding="utf-8")
    assert cls.kind in {rule.pattern.kind for rule in Plan.load(path).rules}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.pattern)
def test_pictures_show_what_the_patterns_do(picture):
    kind = PATTERNS.parse(picture.pattern).kind
    assert (GUIDE / "patterns" / f"{kind}.svg").read_text(encoding="utf-8") == draw(picture)


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
    for cls in ALLOCATIONS:
        assert f"`{cls.kind}`" in plans, cls.kind
        # `fixed` is uniform under another name, and stands beside it.
        assert f"**{cls.label}**" in criteria or f"`{cls.kind}`" in criteria, cls.kind
        for field in cls.fields():
            rows = [line for line in plans.splitlines() if f"| `{field.name}` |" in line]
            assert any(f"`{cls.kind}`" in line for line in rows), (cls.kind, field.name)
    for field in plan_fields():
        assert f"| `{field.name}` |" in plans, field.name
    for cls in SCHEDULES:
        assert f"`{cls.kind}`" in plans
        assert f"**{cls.label}**" in schedules
    for field in training_fields():
        assert f"| {field.name} |" in schedules, field.name
