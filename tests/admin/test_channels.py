"""The page of channels in the admin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from pgpubsub_sql import conf
from pgpubsub_sql.admin import channels, databases
from pgpubsub_sql.admin import words as words_of
from pgpubsub_sql.inspection import paused_lanes
from pgpubsub_sql.models import InFlight, Notification
from pgpubsub_sql.subscriptions import Lane
from tests.admin.conftest import CHANNELS, MESSAGES, text
from tests.conftest import Listen, eventually
from tests.ledger import sql
from tests.management.support import run
from tests.stored import HOUR, NAME, in_flight, park, retrying, store

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def watcher(client_of: Callable[..., Client]) -> Client:
    """May see the page, and the messages."""
    return client_of("view_channel", "view_notification")


class DefaultAlone:
    """A router of a project whose other database is somebody else's."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return None if db == "default" else False


def sections(client: Client, **headers: str) -> dict[str, str]:
    """Return what the page says of each database."""
    page = unescape(text(client.get(CHANNELS, headers=headers)))
    found = re.findall(r"<section>\s*<h2>\w+ (\w+)</h2>(.*?)</section>", page, re.DOTALL)
    return dict(found)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def row(client: Client, name: str = NAME, alias: str = "default") -> list[str]:
    """Return the words in each cell of a channel's row, of which the first is its name."""
    rows = re.findall(r"<tr>(.*?)</tr>", sections(client)[alias], re.DOTALL)
    cells = [[words(one) for one in re.split(r"<t[hd]\b", html)[1:]] for html in rows]
    stripped = [[re.sub(r"^[^>]*> ?", "", cell) for cell in one] for one in cells]
    (found,) = [one for one in stripped if one and one[0].split()[0] == name]
    return found


class TestOneChannel:
    def test_messages_are_counted(self, watcher: Client) -> None:
        park()
        retrying()
        store(available_at=timezone.now() - HOUR)
        store()
        store(available_at=timezone.now() + HOUR)
        _name, failed, ready, waiting, flying, oldest, triggers = row(watcher)
        assert (failed, ready, waiting, flying, oldest) == ("2", "2", "2", "0", "1 hour")
        assert triggers == "none"

    def test_numbers_lead_to_the_messages(self, watcher: Client) -> None:
        pk = park().pk
        page = sections(watcher)["default"]
        (link,) = re.findall(rf'href="({MESSAGES}[^"]*channel={NAME}[^"]*)"', page)
        assert f"{MESSAGES}{pk}/change/" in text(watcher.get(link))

    def test_ten_thousand_are_counted(self, watcher: Client) -> None:
        sql(
            "INSERT INTO pgpubsub_sql_notification (channel, payload, available_at)"
            " SELECT %s, '{}', NULL FROM generate_series(1, 10002)",
            NAME,
        )
        assert row(watcher)[1] == "10,000+"

    def test_it_says_who_does_not_handle_it(
        self, watcher: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store(channel="app.Gone")
        assert row(watcher, "app.Gone")[0] == "app.Gone no listener"
        assert row(watcher)[0] == NAME
        assert row(watcher, "app.Shout")[0] == "app.Shout ephemeral"
        monkeypatch.setattr(conf, "is_notify_used", lambda: False)
        assert row(watcher)[0] == f"{NAME} workers poll it"

    def test_it_says_what_is_wrong_with_its_triggers(self, watcher: Client) -> None:
        """As ``verify`` says it."""
        name = "app.ItemChannel"
        assert row(watcher, name)[-1] == "installed"
        sql("ALTER TABLE app_item DISABLE TRIGGER USER")
        assert row(watcher, name)[-1] == "disabled"
        problem = f"{name} has a disabled trigger. Run: python manage.py pgpubsub enable {name} "
        assert problem in words(sections(watcher)["default"])

    def test_it_says_if_nobody_knows_the_state_of_triggers(self, watcher: Client) -> None:
        sql("ALTER TABLE django_migrations RENAME COLUMN applied TO gone")
        page = words(sections(watcher)["default"])
        assert "The state of the triggers is not known: column django_migrations.applied" in page
        assert row(watcher)[0] == NAME


class TestWhoHandlesMessages:
    @pytest.fixture
    def committed(self, transactional_db: None, watcher: Client) -> Client:
        return watcher

    def test_no_worker_is_reported(self, watcher: Client) -> None:
        assert "No worker listens on this database." in words(sections(watcher)["default"])

    def test_workers_are_listed(self, committed: Client, listen: Callable[..., Listen]) -> None:
        listen("--processes", "2", "--channels", NAME).ready(2)
        page = words(sections(committed)["default"])
        assert "No worker listens on this database." not in page
        assert page.count("pgpubsub_sql listen ") == 2
        assert page.count("reads what is sent to it") == 2

    def test_what_is_in_flight_is_listed(self, committed: Client) -> None:
        held = [store().pk, store().pk]
        store()
        with in_flight(*held) as pid:
            cells = row(committed)
            page = words(sections(committed)["default"])
            assert (cells[2], cells[4]) == ("1", "2")
            assert re.search(rf" {pid} {NAME} 2 \d+ seconds? ", page)
        assert row(committed)[4] == "0"
        assert "Process of the server" not in words(sections(committed)["default"])

    def test_what_takes_long_is_listed(self, committed: Client) -> None:
        pk = store().pk
        sql("SET application_name = 'pgpubsub_sql display'")  # this session shows it
        InFlight.objects.create(
            session=connection.connection.info.backend_pid,
            host="web-1",
            process=4711,
            channel=NAME,
            message=pk,
            listener="blog.listeners.mail",
            since=timezone.now() - HOUR,
        )
        with in_flight(pk):
            page = words(sections(committed)["default"])
            detail = words(text(committed.get(f"{MESSAGES}{pk}/change/"))).replace("\xa0", " ")
            InFlight.objects.update(listener="")  # none has been called yet
            before = words(text(committed.get(f"{MESSAGES}{pk}/change/"))).replace("\xa0", " ")
            shown = run("show", str(pk))
        found = re.search(r"What takes long .* Worker (.*?) In flight", page)
        place = "process 4711 on web-1"
        assert found
        assert found[1].replace("\xa0", " ") == f"blog.listeners.mail {NAME} {pk} 1 hour {place}"
        assert (
            f"In flight: blog.listeners.mail has been handling it for 1 hour ({place})." in detail
        )
        assert f"In flight: a worker has been handling it for 1 hour ({place})." in before
        assert re.search(r"handling +a worker for 60 min, in process 4711 on web-1", shown)
        sql("RESET application_name")
        assert "What takes long" not in sections(committed)["default"]


class TestTheServer:
    def test_its_queue_and_its_dead_rows_are_shown(self, watcher: Client) -> None:
        page = words(sections(watcher)["default"])
        assert "NOTIFY queue 0.0 % full" in page
        assert re.search(r"Dead rows [\d,]+, beside [\d,]+ live ones", page)

    def test_the_oldest_transaction_is_shown(self, transactional_db: None, watcher: Client) -> None:
        lazy = connections.create_connection("default")
        with closing(lazy), lazy.cursor() as cursor:
            cursor.execute("SET application_name = 'a report'")
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
            assert "Oldest transaction none is open" in words(sections(watcher)["default"])
            cursor.execute("SELECT pg_current_xact_id()")  # only now vacuum has to wait for it
            page = words(sections(watcher)["default"])
            assert re.search(rf"Oldest transaction open for \d+ seconds?: a report \({pid}\)", page)
        eventually(lambda: "Oldest transaction none is open" in words(sections(watcher)["default"]))

    def test_what_is_beyond_its_limit_is_emphasized(
        self, watcher: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def emphasized() -> list[str]:
            return re.findall(
                "<strong>(.*?)</strong>", sections(watcher)["default"].partition("<dl")[2]
            )

        assert not emphasized()
        monkeypatch.setattr(channels, "MAX_DEAD", -1)
        monkeypatch.setattr(channels, "MAX_QUEUE", -1.0)
        assert len(emphasized()) == 2

    def test_what_is_installed_is_not_compared_for_each_view(
        self, watcher: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(databases, "KNOWN_SECONDS", 60.0)
        databases._known.clear()
        name = "app.ItemChannel"
        assert row(watcher, name)[-1] == "installed"
        sql("ALTER TABLE app_item DISABLE TRIGGER USER")
        assert row(watcher, name)[-1] == "installed"
        assert row(watcher, name, alias="other")[-1] == "installed"
        monkeypatch.setattr(databases, "KNOWN_SECONDS", 0.0)
        assert row(watcher, name)[-1] == "disabled"
        assert row(watcher, name, alias="other")[-1] == "installed"


class TestDatabases:
    def test_each_has_its_own(self, watcher: Client) -> None:
        park()
        Notification.objects.using("other").create(channel=NAME, payload={}, available_at=None)
        Notification.objects.using("other").create(channel=NAME, payload={}, available_at=None)
        assert [row(watcher, alias=one)[1] for one in ("default", "other")] == ["1", "2"]
        assert MESSAGES not in sections(watcher)["other"]  # where the list does not lead

    def test_one_without_our_table_is_left_out(self, watcher: Client) -> None:
        with connections["other"].cursor() as cursor:
            cursor.execute("ALTER TABLE pgpubsub_sql_notification RENAME TO gone")
        assert CHANNELS in text(watcher.get(CHANNELS))
        assert sections(watcher) == {}  # one database needs no heading

    def test_one_that_is_down_is_reported(
        self, transactional_db: None, watcher: Client, nowhere: None
    ) -> None:
        found = sections(watcher)
        assert "This database cannot be asked:" in found["other"]
        assert "nowhere" in found["other"]
        assert NAME in found["default"]

    def test_one_that_a_router_keeps_for_others_is_not_asked(
        self, transactional_db: None, watcher: Client, nowhere: None, settings: Any
    ) -> None:
        settings.DATABASE_ROUTERS = [*settings.DATABASE_ROUTERS, DefaultAlone()]
        assert "nowhere" not in text(watcher.get(CHANNELS))

    @pytest.fixture
    def nowhere(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        connections["other"].close()
        with monkeypatch.context() as patch:
            patch.setitem(connections["other"].settings_dict, "NAME", "nowhere")
            yield
        connections["other"].close()

    def test_one_that_is_slow_is_reported(
        self, watcher: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pgpubsub_sql.time_limit.LIMIT_MILLISECONDS", 100)
        monkeypatch.setattr(
            "pgpubsub_sql.admin.databases.stored_lanes", lambda alias: sql("SELECT pg_sleep(60)")
        )
        assert "longer than five seconds" in sections(watcher)["default"]


class TestPauses:
    @pytest.fixture
    def pauser(self, client_of: Callable[..., Client]) -> Client:
        return client_of("view_channel", "pause")

    def press(self, client: Client, channel: str = NAME, **fields: str) -> Any:
        """Press the button of a channel's row: what its form has, and other *fields*."""
        page = sections(client)["default"]
        (shown,) = [one for one in page.split("<tr>") if f'name="channel" value="{channel}"' in one]
        form = dict(re.findall(r'<(?:input|button)[^>]* name="(\w+)" value="([^"]*)"', shown))
        form.pop("csrfmiddlewaretoken")
        return client.post(f"{CHANNELS}pause/", form | fields, follow=True)

    def test_a_channel_is_paused_and_resumed(self, pauser: Client) -> None:
        page = unescape(text(self.press(pauser)))
        assert f"Paused: {NAME}. What workers have taken before is still handled." in page
        assert paused_lanes("default").keys() == {Lane(NAME)}
        sql(
            "UPDATE pgpubsub_sql_subscription SET paused_at = now() - interval '1 hour'"
            " WHERE paused_at IS NOT NULL"
        )
        since = timezone.localtime(timezone.now() - HOUR).strftime("%Y-%m-%d %H:")
        note = row(pauser)[0].replace("\xa0", " ")
        assert note.startswith(f"{NAME} paused for 1 hour, since {since}")
        assert f"Resumed: {NAME}." in text(self.press(pauser))
        assert not paused_lanes("default")
        assert row(pauser)[0] == NAME

    def test_it_is_logged_by_whom(self, pauser: Client) -> None:
        self.press(pauser)
        self.press(pauser)
        found = LogEntry.objects.order_by("id").values_list("object_repr", "change_message")
        assert [name for name, _ in found] == [NAME, NAME]
        assert [words.split(". ")[0] for _, words in found] == [
            f"Paused: {NAME}",
            f"Resumed: {NAME}.",
        ]
        assert {one.user.username for one in LogEntry.objects.all()} == {"user0"}

    def test_each_database_has_its_own_pauses(self, pauser: Client) -> None:
        self.press(pauser, database="other")
        assert (paused_lanes("default").keys(), paused_lanes("other").keys()) == (
            set(),
            {Lane(NAME)},
        )

    def test_one_that_nobody_declares_any_more_can_be_resumed(self, pauser: Client) -> None:
        store(channel="app.Gone")
        sql("INSERT INTO pgpubsub_sql_subscription VALUES ('app.Gone', '', now(), now())")
        self.press(pauser, "app.Gone")
        assert not paused_lanes("default")

    def test_a_permission_is_needed(self, watcher: Client, client_of: Any) -> None:
        assert "<form" not in sections(watcher)["default"]
        form = {"database": "default", "channel": NAME, "do": "pause"}
        for client in (watcher, client_of("pause")):
            assert client.post(f"{CHANNELS}pause/", form).status_code == 403
        assert not paused_lanes("default")

    def test_an_ephemeral_channel_has_no_button(self, pauser: Client) -> None:
        assert row(pauser, "app.Shout")[-1] == ""

    @pytest.mark.parametrize(
        "fields",
        [{"channel": "app.Shout"}, {"channel": "app.Gone"}, {"database": "no"}, {"do": "drop"}],
    )
    def test_what_the_page_does_not_offer_is_refused(
        self, pauser: Client, fields: dict[str, str]
    ) -> None:
        form = {"database": "default", "channel": NAME, "do": "pause"}
        assert pauser.post(f"{CHANNELS}pause/", form | fields).status_code == 400
        assert not paused_lanes("default")

    def test_an_address_alone_changes_nothing(self, pauser: Client) -> None:
        fields = f"database=default&channel={NAME}&do=pause"
        assert pauser.get(f"{CHANNELS}pause/?{fields}", follow=True).status_code == 200
        assert not paused_lanes("default")


class TestAccess:
    def test_the_index_leads_to_it(self, watcher: Client) -> None:
        assert f'href="{CHANNELS}"' in text(watcher.get("/admin/"))

    def test_a_permission_is_needed(self, client_of: Callable[..., Client]) -> None:
        stranger = client_of("view_notification")
        assert stranger.get(CHANNELS).status_code == 403
        assert CHANNELS not in text(stranger.get("/admin/"))

    def test_numbers_lead_nowhere_without_the_permission(
        self, client_of: Callable[..., Client]
    ) -> None:
        park()
        assert MESSAGES not in text(client_of("view_channel").get(CHANNELS))

    @pytest.mark.parametrize("path", ["add/", "1/change/", "1/delete/", "1/history/"])
    def test_there_is_no_other_page(self, watcher: Client, path: str) -> None:
        assert watcher.get(f"{CHANNELS}{path}").status_code == 404

    def test_it_is_registered(self) -> None:
        assert any(isinstance(one, channels.ChannelAdmin) for one in admin.site._registry.values())


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""),
        (-1, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (7260, "2 hours, 1 minute"),
    ],
)
def test_lengths_of_time_are_said_in_words(seconds: Any, expected: str) -> None:
    assert words_of.duration(seconds).replace("\xa0", " ") == expected


def test_it_says_so_in_german(watcher: Client) -> None:
    park()
    found = sections(watcher, **{"accept-language": "de"})
    page = words(found["default"])
    for one in (
        "Fehlgeschlagen",
        "Älteste fällig seit",
        "Auf dieser Datenbank lauscht kein Worker",
    ):
        assert one in page, one
