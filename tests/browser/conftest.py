"""A real browser on a real site. Without either, these tests are skipped."""

from __future__ import annotations

import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pgpubsub_sql.models import Notification
from tests.conftest import Listen, eventually

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
ALL = ("view_notification", "view_payload", "replay", "discard", "view_channel", "pause")
CHANNELS = "/admin/pgpubsub_sql/channel/"
MESSAGES = "/admin/pgpubsub_sql/notification/"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start Chromium. Its driver runs an event loop in this thread; Django must query here too."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
    if not BROWSER:
        pytest.skip("There is no Chromium on this machine.")
    with pytest.MonkeyPatch.context() as patch, playwright.sync_playwright() as driver:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        # Chromium refuses its sandbox to root, and small machines have little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        launched = driver.chromium.launch(executable_path=BROWSER, args=options)
        yield launched
        launched.close()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


class Site:
    """A running site."""

    def __init__(self, log: Path, theme: str) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        command = (sys.executable, "-m", "django", "runserver", port, "--noreload", "--insecure")
        settings = {"DJANGO_SETTINGS_MODULE": "tests.browser.settings", "ADMIN_THEME": theme}
        self.server = Listen(log, command=command, **settings)
        eventually(self.answers)

    def answers(self) -> bool:
        assert self.server.process.poll() is None, self.server.log
        try:
            with urllib.request.urlopen(f"{self.address}/admin/login/"):
                return True
        except OSError:
            return False


@pytest.fixture
def site(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start a site, with Django's own admin or a theme."""
    started: list[Site] = []

    def start(theme: str = "") -> Site:
        started.append(Site(tmp_path / "site.log", theme))
        return started[-1]

    yield start
    for one in started:
        one.server.kill()


def complain(page: Any, message: Any) -> None:
    """Note an error of the browser's console, unless it misses the site's icon."""
    if message.type == "error" and not message.location["url"].endswith("favicon.ico"):
        page.complaints.append(message.text)


@pytest.fixture
def visit(browser: Any, site: Callable[..., Site]) -> Iterator[Callable[..., Any]]:
    """Open the list of messages as a user with these permissions; return the page.

    What the browser refuses or complains about is in its ``complaints``.
    """
    contexts: list[Any] = []

    def open_page(*permissions: str, theme: str = "", **options: Any) -> Any:
        running = site(theme)
        user = User.objects.create(username="ann", is_staff=True)
        found = Permission.objects.filter(codename__in=permissions or ALL)
        user.user_permissions.set(found.filter(content_type__app_label="pgpubsub_sql"))
        client = Client()
        client.force_login(user)
        Notification.objects.filter(channel="app.UserChannel").delete()
        context = browser.new_context(base_url=running.address, **options)
        contexts.append(context)
        session = client.cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": running.address}])
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda one: complain(page, one))
        page.on("pageerror", lambda one: page.complaints.append(str(one)))
        page.goto(MESSAGES)
        return page

    yield open_page
    for context in contexts:
        context.close()
