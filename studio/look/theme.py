"""The studio's looks: colours by role, one palette and one stylesheet, for dark and light.

The theme in use is a property of the QApplication, so nothing here is a module global. Widgets
that paint themselves ask `theme_of(self)` inside ``paintEvent``: Qt sends every widget a style
change, and with it a repaint, when the stylesheet is swapped. What must be rebuilt (icons, plot
pens) goes through `follow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QApplication, QWidget

RESOURCES = Path(__file__).resolve().parent.parent.parent / "resources"
CHOICES = ("system", "dark", "light")


@dataclass(frozen=True)
class Theme:
    """Colours by role, as ``#rrggbb``.

    `bg` lies behind the matrix, `panel` is the surface of panels, `raise_` of cards and controls,
    `line` of hairlines. `dim` is secondary text, `faint` the quietest text that is still read.
    `leaf` means kept and is the accent, `leaf_dark` its quiet form for large areas, `on_leaf` text
    upon it. `amber` asks for a look, `rose` is an error, `blue` is accuracy.
    """

    name: str
    bg: str
    panel: str
    raise_: str
    line: str
    text: str
    dim: str
    faint: str
    leaf: str
    leaf_dark: str
    on_leaf: str
    amber: str
    rose: str
    blue: str

    @property
    def dark(self) -> bool:
        """Whether light text stands on dark surfaces."""
        return QColor(self.panel).lightnessF() < 0.5

    def mix(self, over: str, under: str, share: float) -> str:
        """`share` (0..1) of colour `over` laid on colour `under`; both ``#rrggbb``."""
        a, b = QColor(over), QColor(under)
        parts = ((a.red(), b.red()), (a.green(), b.green()), (a.blue(), b.blue()))
        return "#" + "".join(f"{round(x * share + y * (1 - share)):02x}" for x, y in parts)

    def colour(self, role: str, alpha: float = 1.0) -> QColor:
        """The colour of a role (a field's name) for a painter, with an opacity in 0..1."""
        colour = QColor(getattr(self, role))
        colour.setAlphaF(alpha)
        return colour

    def palette(self) -> QPalette:
        """The palette for what the stylesheet does not reach."""
        roles = QPalette.ColorRole
        palette = QPalette()
        for role, colour in (
            (roles.Window, self.panel),
            (roles.WindowText, self.text),
            (roles.Base, self.bg),
            (roles.AlternateBase, self.panel),
            (roles.Text, self.text),
            (roles.PlaceholderText, self.faint),
            (roles.Button, self.raise_),
            (roles.ButtonText, self.text),
            (roles.BrightText, self.rose),
            (roles.ToolTipBase, self.raise_),
            (roles.ToolTipText, self.text),
            (roles.Highlight, self.leaf),
            (roles.HighlightedText, self.on_leaf),
            (roles.Accent, self.leaf),
            (roles.Link, self.leaf),
            (roles.LinkVisited, self.leaf),
            (roles.Light, self.raise_),
            (roles.Midlight, self.line),
            (roles.Mid, self.line),
            (roles.Dark, self.line),
            (roles.Shadow, self.bg),
        ):
            palette.setColor(role, QColor(colour))
        for role in (roles.WindowText, roles.Text, roles.ButtonText):
            palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(self.disabled))
        return palette

    @property
    def disabled(self) -> str:
        """Text of what cannot be used now; weak on purpose."""
        return self.mix(self.dim, self.panel, 0.55)

    def stylesheet(self) -> str:
        """The rendered ``resources/themes/studio.qss``."""
        template = Template((RESOURCES / "themes" / "studio.qss").read_text(encoding="utf-8"))
        roles = {key.rstrip("_"): value for key, value in asdict(self).items()}
        return template.substitute(
            roles,
            select=self.mix(self.leaf, self.panel, 0.18),
            hover=self.mix(self.text, self.panel, 0.06),
            lift=self.mix(self.text, self.raise_, 0.06),
            edge=self.mix(self.text, self.line, 0.22),
            press=self.line,
            go_hover=self.mix("#ffffff", self.leaf, 0.12),
            disabled=self.disabled,
            images=(RESOURCES / "themes" / self.name).as_posix(),
        )


# The mock's colours, with its weak ones made readable: WCAG's 4.5:1 for text on bg, panel and
# raise. The mock had dim #8d949e, faint #5d646e (2.8:1 on the panel).
DARK = Theme(
    name="dark",
    bg="#15171b",
    panel="#1b1e23",
    raise_="#23272d",
    line="#2c3138",
    text="#e3e6ea",
    dim="#a0a7b1",
    faint="#899099",
    leaf="#7cc576",
    leaf_dark="#3f6b3d",
    on_leaf="#10200f",
    amber="#e0a84c",
    rose="#d8706f",
    blue="#6ea8dc",
)

# The mock had dim #646c76, faint #9aa1a9 (2.5:1), leaf #3d8b43 and amber #a8701a (both 4.1:1).
LIGHT = Theme(
    name="light",
    bg="#eef0ed",
    panel="#fbfcfa",
    raise_="#ffffff",
    line="#d9ddd6",
    text="#20242a",
    dim="#545c66",
    faint="#646c76",
    leaf="#2f7a36",
    leaf_dark="#bfe0bd",
    on_leaf="#ffffff",
    amber="#8a5a10",
    rose="#b03a39",
    blue="#2a68a4",
)


class ThemeNotifier(QObject):
    """Says that the theme was changed. One lives as a child of the QApplication."""

    changed = Signal()

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        app.styleHints().colorSchemeChanged.connect(self._scheme_changed)

    def _scheme_changed(self) -> None:
        app = _app()
        if choice(app) == "system":
            _use(app, _system(app))


def apply(app: QApplication, theme: Theme | str = "system") -> None:
    """Give the whole application a theme: a `Theme`, or one of `CHOICES` by name."""
    if isinstance(theme, str) and theme not in CHOICES:
        raise ValueError(f"theme must be one of {', '.join(CHOICES)}, not {theme!r}")
    app.setProperty("secateur_theme_choice", theme if isinstance(theme, str) else theme.name)
    if theme == "system":
        theme = _system(app)
    elif isinstance(theme, str):
        theme = DARK if theme == "dark" else LIGHT
    _use(app, theme)


def _use(app: QApplication, theme: Theme) -> None:
    notifier = _notifier(app)
    if app.style().objectName().lower() != "fusion":
        app.setStyle("Fusion")  # the one style that obeys a palette alike on every system
    app.setProperty("secateur_theme", theme)
    app.setFont(font())
    app.setPalette(theme.palette())
    app.setStyleSheet(theme.stylesheet())
    notifier.changed.emit()


def current(app: QApplication | None = None) -> Theme:
    """The theme in use; `DARK` before any was applied."""
    theme = (app or _app()).property("secateur_theme")
    return theme if isinstance(theme, Theme) else DARK


def choice(app: QApplication | None = None) -> str:
    """What the person chose: one of `CHOICES`."""
    return str((app or _app()).property("secateur_theme_choice") or "system")


def theme_of(widget: QWidget) -> Theme:
    """The theme that a widget paints itself in."""
    return current()


def follow(owner: QObject, restyle: Callable[[], None]) -> None:
    """Call `restyle` (a bound method of `owner`) now and whenever the theme changes."""
    _notifier(_app()).changed.connect(restyle)
    restyle()


def font(size: int = 13, weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
    """The interface font in pixels, with figures that stand under each other."""
    made = QFont()
    made.setFamilies(["Inter", *QFontDatabase.systemFont(_GENERAL).families()])
    return _figures(made, size, weight)


def mono(size: int = 11) -> QFont:
    """The font of logs and addresses, in pixels."""
    return _figures(QFontDatabase.systemFont(_FIXED), size, QFont.Weight.Normal)


def refresh(widget: QWidget) -> None:
    """Apply the stylesheet anew after a dynamic property that it looks at was changed."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    widget.update()


_GENERAL = QFontDatabase.SystemFont.GeneralFont
_FIXED = QFontDatabase.SystemFont.FixedFont


def _figures(made: QFont, size: int, weight: QFont.Weight) -> QFont:
    made.setPixelSize(size)
    made.setWeight(weight)
    if hasattr(made, "setFeature"):  # Qt 6.7
        made.setFeature(QFont.Tag("tnum"), 1)
    return made


def _app() -> QApplication:
    app = QApplication.instance()
    assert isinstance(app, QApplication), "the studio needs a QApplication"
    return app


def _notifier(app: QApplication) -> ThemeNotifier:
    found = app.findChild(ThemeNotifier, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return found if found is not None else ThemeNotifier(app)


def _system(app: QApplication) -> Theme:
    return LIGHT if app.styleHints().colorScheme() == Qt.ColorScheme.Light else DARK
