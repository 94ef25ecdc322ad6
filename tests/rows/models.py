"""A model for each way in which a row can be hard to decode.

Every table here is watched by a real trigger, and ``test_every_model.py`` makes a row in each.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.postgres.fields import (
    ArrayField,
    BigIntegerRangeField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.contrib.postgres.search import SearchQueryField, SearchVector, SearchVectorField
from django.db import models
from django.db.models.functions import Cast, Length

from tests.rows.fields import (
    BitField,
    CelsiusField,
    CITextField,
    DoubledField,
    ExactDecoder,
    GeometryField,
    LookedUpField,
    MoneyField,
    MoodField,
    NothingField,
    NumericField,
    PaddedField,
    PercentField,
    PointField,
    PythonOnlyField,
    RealField,
    ShoutedField,
    ZonedTimeField,
)


class Colour(models.TextChoices):
    RED = "r"
    GREEN = "g"


class Size(models.IntegerChoices):
    SMALL = 1
    LARGE = 2


class Plain(models.Model):
    """Eleven ordinary fields: what the fast path is for."""

    title = models.CharField(max_length=80)
    slug = models.SlugField()
    body = models.TextField()
    views = models.IntegerField(default=0)
    score = models.FloatField(null=True)
    price = models.DecimalField(max_digits=12, decimal_places=2)
    published = models.BooleanField(default=False)
    created = models.DateTimeField()
    day = models.DateField(null=True)
    token = models.UUIDField(default=uuid.uuid4)


class Everything(models.Model):
    """Every field of Django's that holds a plain value and that stock PostgreSQL can store."""

    big = models.BigIntegerField(null=True)
    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=200, null=True)
    choice = models.CharField(max_length=1, choices=Colour, null=True)
    date = models.DateField(null=True)
    datetime = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    duration = models.DurationField(null=True)
    email = models.EmailField(null=True)
    file = models.FileField(null=True)
    path = models.FilePathField(null=True)
    float = models.FloatField(null=True)
    integer = models.IntegerField(null=True)
    ip = models.GenericIPAddressField(null=True)
    json = models.JSONField(null=True)
    json_exact = models.JSONField(null=True, decoder=ExactDecoder)
    positive = models.PositiveIntegerField(null=True)
    positive_big = models.PositiveBigIntegerField(null=True)
    positive_small = models.PositiveSmallIntegerField(null=True)
    search_query = SearchQueryField(null=True)
    search_vector = SearchVectorField(null=True)
    size = models.IntegerField(choices=Size, null=True)
    slug = models.SlugField(null=True)
    small = models.SmallIntegerField(null=True)
    text = models.TextField(null=True)
    time = models.TimeField(null=True)
    url = models.URLField(null=True)
    uuid = models.UUIDField(null=True)

    big_range = BigIntegerRangeField(null=True)
    date_range = DateRangeField(null=True)
    datetime_range = DateTimeRangeField(null=True)
    decimal_range = DecimalRangeField(null=True)
    integer_range = IntegerRangeField(null=True)

    array = ArrayField(models.IntegerField(null=True), null=True)
    array_big_range = ArrayField(BigIntegerRangeField(null=True), null=True)
    array_binary = ArrayField(models.BinaryField(null=True), null=True)
    array_boolean = ArrayField(models.BooleanField(null=True), null=True)
    array_char = ArrayField(models.CharField(max_length=50, null=True), size=3, null=True)
    array_cube = ArrayField(ArrayField(ArrayField(models.BigIntegerField())), null=True)
    array_date = ArrayField(models.DateField(null=True), null=True)
    array_datetime = ArrayField(models.DateTimeField(null=True), null=True)
    array_decimal = ArrayField(models.DecimalField(max_digits=9, decimal_places=3), null=True)
    array_duration = ArrayField(models.DurationField(null=True), null=True)
    array_float = ArrayField(models.FloatField(null=True), null=True)
    array_ip = ArrayField(models.GenericIPAddressField(null=True), null=True)
    array_json = ArrayField(models.JSONField(null=True), null=True)
    array_nested = ArrayField(ArrayField(models.TimeField(null=True)), null=True)
    array_range = ArrayField(DateRangeField(null=True), null=True)
    array_size = ArrayField(models.IntegerField(choices=Size), null=True)
    array_text = ArrayField(models.TextField(null=True), null=True)
    array_uuid = ArrayField(models.UUIDField(null=True), null=True)

    bits = BitField(null=True)
    celsius = CelsiusField(max_digits=6, decimal_places=2, null=True)
    nothing = NothingField(null=True)
    numeric = NumericField(null=True)
    padded = PaddedField(max_length=4, null=True)
    point = PointField(null=True)
    python_only = PythonOnlyField(null=True)
    real = RealField(null=True)
    shouted = ShoutedField(null=True)
    zoned_time = ZonedTimeField(null=True)


class PlainProxy(Plain):
    class Meta:
        proxy = True


class Place(models.Model):
    code = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50)


class Restaurant(Place):
    stars = models.IntegerField()


class Pizzeria(Restaurant):
    oven = models.CharField(max_length=20)


class Licence(models.Model):
    licence_id = models.AutoField(primary_key=True)
    number = models.CharField(max_length=20)


class Bar(Place, Licence):
    """Two parents, each with a link and a key of its own."""

    place_link = models.OneToOneField(
        Place, on_delete=models.CASCADE, parent_link=True, primary_key=True
    )
    licence_link = models.OneToOneField(Licence, on_delete=models.CASCADE, parent_link=True)
    closes = models.TimeField()


class Profile(models.Model):
    """A one-to-one primary key that points at another model's UUID."""

    place = models.OneToOneField(Place, on_delete=models.CASCADE, primary_key=True)
    note = models.TextField()


class Visit(models.Model):
    pk = models.CompositePrimaryKey("place_id", "day")
    place = models.ForeignKey(Place, on_delete=models.CASCADE)
    day = models.DateField()
    guests = models.IntegerField()


class Reading(models.Model):
    """A primary key that Django converts, and a foreign key to it."""

    celsius = CelsiusField(primary_key=True, max_digits=6, decimal_places=2)


class Comparison(models.Model):
    reading = models.ForeignKey(Reading, on_delete=models.CASCADE)


class SmallCounter(models.Model):
    id = models.SmallAutoField(primary_key=True)


class BigCounter(models.Model):
    id = models.BigAutoField(primary_key=True)


class Country(models.Model):
    """What others point at by something else than its key."""

    code = models.CharField(max_length=2, unique=True)


class Letter(models.Model):
    """Every way to point at another row."""

    country = models.ForeignKey(
        Country, on_delete=models.CASCADE, to_field="code", db_column="to the country"
    )
    restaurant = models.ForeignKey(Restaurant, on_delete=models.CASCADE, null=True)
    reading = models.OneToOneField(Reading, on_delete=models.CASCADE, null=True)
    answer_to = models.ForeignKey("self", on_delete=models.CASCADE, null=True)
    copies = models.ManyToManyField(Place, db_table="rows_letter copies", related_name="+")

    class Meta:
        order_with_respect_to = "country"


class Picture(models.Model):
    """Its dimensions spare Django a look into the file."""

    image = models.ImageField(width_field="width", height_field="height")
    width = models.IntegerField()
    height = models.IntegerField()


class Odd(models.Model):
    """Column names that SQL, Python or JSON may trip over."""

    plain = models.IntegerField(db_column="renamed")
    keyword = models.IntegerField(db_column="class")
    spaced = models.IntegerField(db_column="two words")
    umlaut = models.IntegerField(db_column="größe ☃")
    apostrophe = models.IntegerField(db_column="it's")
    backslash = models.IntegerField(db_column="back\\slash")
    capital = IntegerRangeField(db_column="Capital {0} :x")


class Unspeakable(models.Model):
    """Columns that Django itself cannot query, but another program can create."""

    dollar = models.IntegerField(db_column="$id")
    newline = models.IntegerField(db_column="new\nline\t")
    operation = models.IntegerField(db_column="op")
    percent = IntegerRangeField(db_column="100%s")
    quoted = IntegerRangeField(db_column='a"b')

    class Meta:
        managed = False


class Square(models.Model):
    side = models.IntegerField()
    area = models.GeneratedField(
        expression=models.F("side") * models.F("side"),
        output_field=models.BigIntegerField(),
        db_persist=True,
    )


class Computed(models.Model):
    """Generated columns of types that are read, asked for and converted."""

    text = models.TextField()
    data = models.JSONField()
    celsius = models.GeneratedField(
        expression=Cast(Length("text"), models.DecimalField(max_digits=6, decimal_places=2)),
        output_field=CelsiusField(max_digits=6, decimal_places=2),
        db_persist=True,
    )
    json = models.GeneratedField(
        expression=models.F("data__a"),
        output_field=models.JSONField(),
        db_persist=True,
    )
    vector = models.GeneratedField(
        expression=SearchVector("text", config="simple"),
        output_field=SearchVectorField(),
        db_persist=True,
    )


class Cube(models.Model):
    """A virtual column, which PostgreSQL has since version 18 and Django since 6.0."""

    side = models.IntegerField()
    volume = models.GeneratedField(
        expression=models.F("side") ** 3, output_field=models.BigIntegerField(), db_persist=False
    )

    class Meta:
        managed = False


class Exotic(models.Model):
    percent = PercentField()
    mood = MoodField()
    doubled = DoubledField()
    looked_up = LookedUpField()

    class Meta:
        managed = False


class Lossy(models.Model):
    where = GeometryField()
    price = MoneyField()

    class Meta:
        managed = False


class Remembering(models.Model):
    """Overrides from_db, as the documentation of Django shows."""

    name = models.TextField()
    size = models.IntegerField()

    @classmethod
    def from_db(cls, db: Any, field_names: Any, values: Any, **options: Any) -> Any:
        instance = super().from_db(db, field_names, values, **options)
        instance.loaded = dict(zip(field_names, values, strict=True))
        return instance


class Words(models.Model):
    """Needs extensions, so its table is made by the tests that find them."""

    folded = CITextField(null=True)
    array_folded = ArrayField(CITextField(), null=True)
    store = HStoreField(null=True)
    array_store = ArrayField(HStoreField(null=True), null=True)

    class Meta:
        managed = False
