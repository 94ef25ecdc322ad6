"""Channels in a module whose annotations are evaluated at once: no ``from __future__``."""

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Optional, TypedDict, Union

import msgspec


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: float = 0.0
    after: datetime.timedelta | None = None


class Line(msgspec.Struct):
    start: Point
    end: Point


class Circle(msgspec.Struct, tag="circle"):
    label: str
    radius: int = 0


class Wait(msgspec.Struct, tag="wait"):
    label: datetime.timedelta
    flag: bool = False


class Size(TypedDict):
    width: int
    pause: datetime.timedelta


class Span(NamedTuple):
    start: datetime.datetime
    length: datetime.timedelta = datetime.timedelta(0)


@dataclass
class Tree:
    value: int
    children: list["Tree"] = field(default_factory=list)


@dataclass
class Everything:
    """One field of every kind that travels."""

    registry: ClassVar[dict[str, int]] = {}

    integer: int
    number: float
    flag: bool
    text: str
    blob: bytes
    exact: decimal.Decimal
    key: uuid.UUID
    day: datetime.date
    clock: datetime.time
    moment: datetime.datetime
    pause: datetime.timedelta
    colour: Colour
    level: Level
    mode: Literal["on", "off", 3]
    positive: Annotated[int, msgspec.Meta(ge=1)]
    optional: Optional[uuid.UUID]  # noqa: UP045
    either: Union[int, str, None]  # noqa: UP007
    alternative: datetime.timedelta | int
    point: Point
    line: Line
    shape: Circle | Wait
    size: Size
    span: Span
    tree: Tree
    numbers: list[int]
    nested: list[list[datetime.date]]
    labels: set[str]
    frozen: frozenset[int]
    pair: tuple[int, str]
    row: tuple[decimal.Decimal, ...]
    by_number: dict[int, str]
    by_day: dict[datetime.date, decimal.Decimal]
    by_key: dict[uuid.UUID, list[datetime.timedelta]]
    some_dict: dict
    some_list: list
    anything: Any
    maybe: int = None
    made: list[int] = field(default_factory=list)


@dataclass
class PostReads:
    model_id: int
    date: datetime.date
    source: str | None = None
