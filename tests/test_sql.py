"""Quoting, and the rendering of the .sql files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pgpubsub_sql
from pgpubsub_sql.errors import TemplateError
from pgpubsub_sql.sql import (
    SQL,
    part,
    query,
    quote_identifier,
    quote_literal,
    quote_table,
    render,
)
from pgpubsub_sql.sql import templates as templates_module
from pgpubsub_sql.sql.quoting import DOLLAR_TAG, name_parts, put_in_quotes
from pgpubsub_sql.sql.templates import NEW_LINE
from pgpubsub_sql.sql.trigger import object_name

PACKAGE = Path(pgpubsub_sql.__file__).parent
FILES = sorted((PACKAGE / "sql").rglob("*.sql"))
OCCASION = r"(create_)?(insert|update|delete|row|truncate)(_chosen|_rows|_whole_rows|_trigger)?"
FOLDERS = sorted({file.parent.name for file in FILES})

# The server keeps text of any character but NUL, and the first 63 bytes of a name.
TEXT = st.text(
    st.one_of(
        st.sampled_from("'\"\\$%:{}x \n"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    )
)
A_NAME = TEXT.filter(lambda name: 0 < len(name.encode()) <= 63)
TAGS = st.lists(st.sampled_from([DOLLAR_TAG, "$", "pgpubsub", "'", "\\", "24", "x"])).map("".join)
on_the_server = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def ask(sql: str) -> tuple[str, str]:
    """Return the name and the value of the one column that *sql* selects, driver's ways aside."""
    with connection.cursor() as cursor:
        cursor.execute(sql, None)
        (value,) = cursor.fetchone()
        return cursor.description[0][0], value


# Quoting.


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("plain", "plain"),
        ("_2nd", "_2nd"),
        ("2nd", '"2nd"'),
        ("order", '"order"'),
        ("loop", '"loop"'),
        ("a$b", '"a$b"'),
        ("line\n", '"line\n"'),
        ("Capitals", '"Capitals"'),
        ('odd"name', '"odd""name"'),
        ('"; DROP TABLE x; --', '"""; DROP TABLE x; --"'),
        ("back\\slash %s", '"back\\slash %s"'),
        ("äöü 名前", '"äöü 名前"'),
        ("$$ $1", '"$$ $1"'),
    ],
)
def test_an_identifier_has_quotes_only_if_it_needs_them(name: str, quoted: str) -> None:
    """T8: every name makes valid SQL. F6: quotes only where they are needed."""
    assert quote_identifier(name) == quoted


@pytest.mark.django_db
def test_keywords_of_this_server_are_quoted() -> None:
    """F6: a name without quotes is one to PostgreSQL, too, whatever its version reserves."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT word, quote_ident(word) FROM pg_get_keywords()")
        for word, quoted in cursor.fetchall():
            assert quote_identifier(word) in (quoted, f'"{word}"')


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_postgresql_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="cannot be the name"):
        quote_identifier(name)


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", "''"),
        ("O'Hara", "'O''Hara'"),
        ("'; DROP TABLE x; --", "'''; DROP TABLE x; --'"),
        ("back\\slash", "E'back\\\\slash'"),
        ("\\'", "E'\\\\'''"),
        ("100 %s $1 $$", "'100 %s $1 $$'"),
        ("$pgpubsub$", "E'\\x24pgpubsub\\x24'"),
        ("$pgpubsub$pgpubsub$", "E'\\x24pgpubsub\\x24pgpubsub\\x24'"),
    ],
)
def test_no_value_can_end_a_literal(value: str, quoted: str) -> None:
    """P2: no value can end them."""
    assert quote_literal(value) == quoted


def test_a_literal_with_a_nul_is_refused() -> None:
    with pytest.raises(TemplateError, match="contains a NUL"):
        quote_literal("a\0b")


@pytest.mark.parametrize(
    ("db_table", "quoted"),
    [
        ("blog_author", "blog_author"),
        ('"Odd table"', '"Odd table"'),
        ('"schema"."table"', 'schema."table"'),
        ('schema"."table', 'schema."table"'),
        ('"app"."Things"', 'app."Things"'),
        ('"sche""ma"."ta.ble"', '"sche""ma"."ta.ble"'),
        ('"one"".""name"', '"one"".""name"'),
        ("schema.table", '"schema.table"'),
        ('odd"name', '"odd""name"'),
        ('"', '""""'),
        ('"a"; DROP TABLE x; --', '"""a""; DROP TABLE x; --"'),
    ],
)
def test_a_quoted_table_is_the_one_of_djangos_own_sql(db_table: str, quoted: str) -> None:
    """T8: where Django's own SQL is valid, ours names the same table, and needs no more quotes."""
    assert quote_table(db_table) == quoted
    if db_table in ('odd"name', '"', '"a"; DROP TABLE x; --'):
        return  # what Django makes of these is no SQL
    whole = ".".join(map(put_in_quotes, name_parts(db_table)))
    assert connection.ops.quote_name(db_table) == whole


@pytest.mark.django_db
def test_a_model_of_another_schema_is_found() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA elsewhere CREATE TABLE things (id int)")
        for db_table in ('"elsewhere"."things"', 'elsewhere"."things'):
            cursor.execute(f"SELECT * FROM {quote_table(db_table)}")


@pytest.mark.django_db
@pytest.mark.parametrize("conforming", ["on", "off"])
@on_the_server
@given(value=st.one_of(TEXT, TAGS))
def test_a_literal_comes_back_from_the_server(value: str, conforming: str) -> None:
    """P2, T6: whatever standard_conforming_strings says, also within the body of a function."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL standard_conforming_strings = {conforming}")
        cursor.execute("SET LOCAL escape_string_warning = on")
    quoted = quote_literal(value)
    assert ask(f"SELECT {quoted}")[1] == value
    body = f"BEGIN RETURN {quoted}; END"
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION pg_temp.give() RETURNS text LANGUAGE plpgsql "
            f"AS {DOLLAR_TAG}{body}{DOLLAR_TAG}",
            None,
        )
    assert ask("SELECT pg_temp.give()")[1] == value


@pytest.mark.django_db
@on_the_server
@given(name=A_NAME)
def test_an_identifier_comes_back_from_the_server(name: str) -> None:
    """T8"""
    assert ask(f"SELECT 1 AS {quote_identifier(name)}") == (name, 1)


# Names of our own objects.


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        ("blog.PostChanged", "x_blog__post_changed"),
        ("blog.Post2", "x_blog__post2"),
        ("jobs", "x_jobs"),
        ("my_blog.Post", "x_my_blog__post"),
    ],
)
def test_names_that_lead_back_are_short(channel: str, name: str) -> None:
    assert object_name("x_", channel) == name


ALIKE = ["blog.PostChanged", "blog.postchanged", "blog.Postchanged", "blog.Post_Changed"]
ALIKE += ["blog_PostChanged", "blog__post_changed", "Blog.PostChanged", "blog.Post.Changed"]
ALIKE += ["blog. PostChanged", "blog..PostChanged", "blog-PostChanged", "blog.Post$Changed"]


def test_channels_that_are_spelled_alike_have_names_of_their_own() -> None:
    """F6: nor do long ones that begin alike."""
    channels = [*ALIKE, *(f"blog.{'Long' * 15}{end}" for end in ("A", "a", "B"))]
    for suffix in ("", "_before_truncate"):
        names = {object_name("pgpubsub_channel_", channel, suffix) for channel in channels}
        assert len(names) == len(channels)


@given(first=A_NAME, second=A_NAME)
def test_a_name_of_ours_needs_no_quotes_and_is_the_channels_alone(first: str, second: str) -> None:
    """F6: whatever the channel is called."""
    names = [object_name("pgpubsub_channel_", channel) for channel in (first, second)]
    assert all(quote_identifier(name) == name and len(name) <= 63 for name in names)
    assert (names[0] == names[1]) == (first == second)


# Rendering.


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name of a template be its text."""
    monkeypatch.setattr(templates_module, "load", str)


@pytest.mark.usefixtures("template")
class TestRender:
    def test_the_template_says_how_a_value_is_quoted(self) -> None:
        text = """SELECT :'a' AS :"a", :{b}, ':c', x::text, a[1:2], ':"', :d"""
        expected = """SELECT 'it''s' AS "it's", now(), ':c', x::text, a[1:2], ':"', :d"""
        assert render(text, a="it's", b=SQL("now()")) == expected

    def test_a_part_that_is_left_out_takes_its_line_with_it(self) -> None:
        text = "BEGIN\n    :{a}\n    :{b}\n    IF :{b} THEN :{a}\nEND"
        assert render(text, a=SQL("x();"), b=SQL("")) == "BEGIN\n    x();\nEND"
        assert render("f(\n    :'a'\n)", a="") == "f(\n    ''\n)"

    def test_the_lines_of_a_part_are_as_deep_as_the_line_that_takes_it(self) -> None:
        inner = part("SELECT 1\nFROM x\n    JOIN y")
        assert render("BEGIN\n    f(:{a});\nEND", a=inner) == (
            "BEGIN\n    f(SELECT 1\n    FROM x\n        JOIN y);\nEND"
        )
        outer = part("IF\n    :{a}\nEND", a=inner)
        assert render("  :{b}", b=outer) == (
            "  IF\n      SELECT 1\n      FROM x\n          JOIN y\n  END"
        )
        assert render("    EXECUTE :'a';", a=part("SELECT ''\nFROM x")) == (
            "    EXECUTE 'SELECT ''''\n    FROM x';"
        )
        assert render("  :{a}", a=NEW_LINE.join([SQL("1"), SQL("2")])) == "  1\n  2"

    def test_the_lines_of_a_value_stay_as_they_are(self) -> None:
        inner = part(""":'a' :"a" :{b}""", a="1\n2", b=SQL("'3\n4'"))
        assert render("    :{c}", c=inner) == """    '1\n2' "1\n2" '3\n4'"""
        assert render("    :'c'", c=inner) == """    '''1\n2'' "1\n2" ''3\n4'''"""

    def test_values_are_not_templates(self) -> None:
        assert render(""":'a' :"b\"""", a=':"b"', b=":'a'") == """':"b"' ":'a'\""""
        assert render(":'a'", a="\\1 \\g<0>") == "E'\\\\1 \\\\g<0>'"

    def test_casts_of_quoted_names_are_no_placeholders(self) -> None:
        assert render("""x::"char" """) == """x::"char" """

    @pytest.mark.parametrize(
        ("text", "values", "complaint"),
        [
            (":'a' :'b'", {"a": ""}, "wants 'b', which was not given"),
            (":'a'", {"a": "", "c": "", "b": ""}, "does not use b, c"),
            (":{a}", {"a": "now()"}, r"'now\(\)' is not SQL"),
            ('$pgpubsub$ :"a" $pgpubsub$', {"a": DOLLAR_TAG}, "would end the function's body"),
        ],
    )
    def test_what_does_not_match_is_refused(
        self, text: str, values: dict[str, str], complaint: str
    ) -> None:
        with pytest.raises(TemplateError, match=complaint):
            render(text, **values)

    def test_only_a_part_goes_into_another_template(self) -> None:
        """F37: and no part to a driver, which tools take for an object of the driver's own."""
        assert type(render("SELECT 1")) is str
        assert part("SELECT 1") == SQL("SELECT 1")
        assert not isinstance(part("SELECT 1"), str)


# The files.


def test_a_name_that_no_template_has_is_refused() -> None:
    for unknown in ("queries/unknown", "nowhere/take", "take", ""):
        with pytest.raises(TemplateError, match=f"There is no template {unknown}"):
            render(unknown)


def test_a_name_that_two_templates_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "one.sql").write_text("-- two --\nSELECT 1\n")
    (tmp_path / "twice" / "two.sql").write_text("-- Whole.\nSELECT 2\n")
    monkeypatch.setattr(templates_module, "files", lambda package: tmp_path)
    with pytest.raises(TemplateError, match="There are two templates twice/two"):
        render("twice/two")


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_file_begins_by_saying_why_it_is_there(file: Path) -> None:
    first, *_ = file.read_text(encoding="utf-8").splitlines()
    assert re.match(r"-- [A-Z$].{10,}", first)


@pytest.mark.parametrize("folder", FOLDERS)
def test_comments_at_the_head_are_for_readers_of_the_file(folder: str) -> None:
    templates = templates_module.templates(folder)
    assert templates
    assert [name for name, text in templates.items() if not text or text.startswith("--")] == []


def test_every_query_has_a_comment() -> None:
    queries = (file.read_text(encoding="utf-8") for file in FILES if file.parent.name == "queries")
    commented = re.findall(r"^-- (\w+) --\n-- \S.{10,}\n", "\n".join(queries), re.MULTILINE)
    assert sorted(commented) == sorted(templates_module.templates("queries"))


def test_every_template_is_used() -> None:
    """By its name, in code of the package or in our migrations; some names are made in parts."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    code = re.sub(r"\(\s+", "(", code)

    def is_used(folder: str, name: str) -> bool:
        named = {
            "queries": [
                *(f'query("{name}")'),
                f'fetch(options, "{name}"',
                *(f'execute("{name}"', f'"queries/{name}"', f'using, "{name}"'),
            ],
            "helpers": [f'CreateHelper("{name}"', f'"helpers/{name}"'],
            "triggers": [f'"triggers/{name}"'],
            "tables": [f'"tables/{name}"', f'"{name}",'],
            "testing": [f'"testing/{name}"'],
        }
        made = folder == "triggers" and re.fullmatch(OCCASION, name)
        return bool(made) or any(spelling in code for spelling in named[folder])

    names = [(folder, name) for folder in FOLDERS for name in templates_module.templates(folder)]
    assert len(names) > 20
    assert [one for one in names if not is_used(*one)] == []


def test_queries_are_kept() -> None:
    assert query("record_failure") is query("record_failure")
    assert "%(attempts)s" in query("record_failure")
