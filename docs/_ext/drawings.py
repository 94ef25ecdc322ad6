"""Shapes, drawn as SVG within a page.

Their text can be searched and selected, and their colours are those of the page
(``_static/figures.css``), light or dark.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

LINE = 17
"""Units from one line of text to the next."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """Lines of text; *y* is the baseline of the first."""

    x: float
    y: float
    lines: str
    anchor: str = "middle"
    style: str = "note"

    def svg(self) -> str:
        spans = "".join(
            f'<tspan x="{self.x:g}" y="{self.y + LINE * number:g}">{escape(line)} </tspan>'
            for number, line in enumerate(self.lines.split("\n"))
        )
        return f'<text class="{self.style}" text-anchor="{self.anchor}">{spans}</text>'


@dataclass(frozen=True)
class Box:
    """A rectangle with a name and, below it, what there is to say about it."""

    x: float
    y: float
    width: float
    height: float
    name: str
    about: str = ""
    style: str = "box"

    @property
    def top(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> Point:
        return self.x + self.width / 2, self.y + self.height

    @property
    def left(self) -> Point:
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> Point:
        return self.x + self.width, self.y + self.height / 2

    def svg(self) -> str:
        about = self.about.split("\n") if self.about else []
        x, middle = self.top[0], self.y + self.height / 2
        first = middle + 5 - LINE * (len(about) - (not self.name)) / 2
        shape = (
            f'<rect class="{self.style}" x="{self.x:g}" y="{self.y:g}" '
            f'width="{self.width:g}" height="{self.height:g}" rx="5"/>'
        )
        if self.name:
            shape += Text(x, first, self.name, style="name").svg()
            first += LINE
        return shape + (Text(x, first, self.about).svg() if about else "")


@dataclass(frozen=True)
class Frame:
    """A dashed rectangle around other shapes, with its name in the lower left corner."""

    x: float
    y: float
    width: float
    height: float
    name: str

    def svg(self) -> str:
        frame = Box(self.x, self.y, self.width, self.height, "", style="frame")
        name = Text(self.x + 10, self.y + self.height - 12, self.name, "start", "name")
        return frame.svg() + name.svg()


@dataclass(frozen=True)
class Arrow:
    """A line through *points* with a head at its end."""

    points: tuple[Point, ...]
    style: str = "arrow"

    def svg(self) -> str:
        points = " ".join(f"{x:g},{y:g}" for x, y in self.points)
        return f'<polyline class="{self.style}" points="{points}"/>'


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Shapes on a canvas, with what a screen reader says instead of them."""

    title: str
    description: str
    width: int
    height: int
    shapes: tuple[Text | Box | Frame | Arrow, ...]

    def svg(self, name: str) -> str:
        shapes = "\n".join(shape.svg() for shape in self.shapes)
        return (
            f'<svg class="drawing" role="img" aria-labelledby="{name}-title {name}-desc" '
            f'viewBox="0 0 {self.width} {self.height}" style="max-width: {self.width * 1.2:g}px">\n'
            f'<title id="{name}-title">{escape(self.title)}</title>\n'
            f'<desc id="{name}-desc">{escape(self.description)}</desc>\n'
            f'<defs><marker id="{name}-head" viewBox="0 0 8 8" refX="7.5" refY="4" '
            'markerWidth="8" markerHeight="8" orient="auto">'
            '<path class="head" d="M0,0.5 L8,4 L0,7.5 z"/></marker></defs>\n'
            f'<g marker-end="url(#{name}-head)">\n{shapes}\n</g>\n</svg>'
        )
