import re
from string import Template

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from secateur.studio.look import theme
from secateur.studio.look.icons import app_icon, icon
from secateur.studio.look.theme import DARK, LIGHT, RESOURCES

THEMES = pytest.mark.parametrize("look", [DARK, LIGHT], ids=lambda look: look.name)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    """WCAG 2's contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_formula_itself():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@THEMES
@pytest.mark.parametrize("surface", ["bg", "panel", "raise_"])
@pytest.mark.parametrize("ink", ["text", "dim", "faint", "leaf", "amber", "rose", "blue"])
def test_every_text_colour_can_be_read_on_every_surface(look, surface, ink):
    assert contrast(getattr(look, ink), getattr(look, surface)) >= 4.5


@THEMES
def test_text_on_the_accent_and_on_a_selection_can_be_read(look):
    assert contrast(look.on_leaf, look.leaf) >= 4.5
    selected = look.mix(look.leaf, look.panel, 0.18)
    assert contrast(look.text, selected) >= 4.5
    assert contrast(look.dim, selected) >= 4.5


def test_mix_lays_one_colour_on_another():
    assert DARK.mix("#ffffff", "#000000", 0.5) == "#808080"
    assert DARK.mix("#123456", "#abcdef", 1.0) == "#123456"
    assert DARK.mix("#123456", "#abcdef", 0.0) == "#abcdef"


@THEMES
def test_the_stylesheet_names_only_roles_and_pictures_that_exist(look):
    source = (RESOURCES / "themes" / "studio.qss").read_text(encoding="utf-8")
    sheet = look.stylesheet()
    assert "$" not in sheet.replace("$roles", "")
    assert Template(source).is_valid()
    pictures = re.findall(r'url\("([^"]+)"\)', sheet)
    assert len(pictures) > 8
    for picture in pictures:
        assert (RESOURCES / "themes" / look.name) in RESOURCES.joinpath(picture).parents
        assert RESOURCES.joinpath(picture).exists()


def test_applying_a_theme_reaches_widgets_and_those_that_follow(qtbot):
    app = QApplication.instance()

    class Follower(QWidget):
        seen = ()

        def restyle(self):
            self.seen += (theme.theme_of(self).name,)

    follower = Follower()
    qtbot.addWidget(follower)
    theme.apply(app, "dark")
    theme.follow(follower, follower.restyle)
    theme.apply(app, LIGHT)
    assert follower.seen == ("dark", "light")
    assert theme.current(app) == LIGHT
    assert theme.choice(app) == "light"
    assert app.palette().window().color() == QColor(LIGHT.panel)
    label = QLabel("quiet", follower)
    label.setProperty("role", "dim")
    label.ensurePolished()
    assert label.palette().windowText().color() == QColor(LIGHT.dim)


def test_system_means_the_desktop_s_own_scheme(qtbot):
    app = QApplication.instance()
    theme.apply(app, "system")
    light = app.styleHints().colorScheme() == Qt.ColorScheme.Light
    assert theme.current(app) == (LIGHT if light else DARK)
    assert theme.choice(app) == "system"


def test_an_unknown_theme_is_refused(qtbot):
    with pytest.raises(ValueError, match="purple"):
        theme.apply(QApplication.instance(), "purple")


NAMES = sorted(path.stem for path in (RESOURCES / "icons").glob("*.svg"))


@pytest.mark.parametrize("name", NAMES)
def test_every_icon_draws_something_in_the_theme_s_colour(name, qtbot):
    picture = icon(name, DARK, 48).pixmap(48).toImage()
    colours = {
        picture.pixelColor(x, y).getRgb()[:3]
        for x in range(picture.width())
        for y in range(picture.height())
        if picture.pixelColor(x, y).alpha() > 250
    }
    assert colours
    if name != "app":
        ink = QColor(DARK.text).getRgb()[:3]
        # Premultiplied alpha rounds by a step or two.
        assert max(abs(a - b) for c in colours for a, b in zip(c, ink, strict=True)) <= 3


def test_icons_are_sharp_on_dense_screens_and_pale_when_disabled(qtbot):
    made = icon("open", LIGHT, 16, colour="#ff0000")
    assert {size.width() for size in made.availableSizes()} == {16, 32, 48}
    assert not app_icon().isNull()
    with pytest.raises(FileNotFoundError):
        icon("no-such-icon", DARK)
