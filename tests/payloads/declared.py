"""Channels in a module whose annotations are evaluated at once: no ``from __future__``."""

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec
from django.db import models

Item = TypeVar("Item")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"
    BAD = "bad"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Status(models.TextChoices):
    DRAFT = "d", "a draft"
    SENT = "s", "sent"


class Priority(models.IntegerChoices):
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


class Move(msgspec.Struct, array_like=True):
    steps: int
    pause: datetime.timedelta = datetime.timedelta(0)


class Turn(msgspec.Struct, array_like=True, tag="turn"):
    angle: float
    pause: datetime.timedelta = datetime.timedelta(0)


class Halt(msgspec.Struct, array_like=True, tag="halt"):
    pause: datetime.timedelta


@dataclass(frozen=True, slots=True)
class Box(Generic[Item]):
    item: Item
    others: list[Item] = field(default_factory=list)


class Circle(msgspec.Struct, tag="circle"):
    label: str
    radius: int = 0


class Wait(msgspec.Struct, tag="wait"):
    label: datetime.timedelta
    flag: bool = False


class Size(TypedDict):
    width: int
    pause: datetime.timedelta
    depth: NotRequired[int]


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
    mood: Mood
    right: Right
    status: Status
    priority: Priority | None
    nothing: None
    described: Annotated[int, msgspec.Meta(extra_json_schema={"examples": [1]})]
    user: UserId
    last: Final[int]
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
    box: Box[datetime.timedelta]
    move: Move
    turn: Turn | Halt
    sequence: Sequence[datetime.date]
    mapping: Mapping[Status, int]
    abstract_set: Set[int]
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
class Buffers:
    """What travels, and compares in a way of its own."""

    array: bytearray
    view: memoryview
    raw: msgspec.Raw


@dataclass
class PostReads:
    model_id: int
    date: datetime.date
    source: str | None = None
