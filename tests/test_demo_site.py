"""The site for trying out the admin: what one sees there, and that it leaves nothing behind."""

import http.cookiejar
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from html import unescape
from pathlib import Path

from tests.conftest import eventually
from tests.test_demo import ROOT, assert_nothing_is_left, processes_with, temporary

__all__ = ["temporary"]

SITE = (sys.executable, "example/manage.py", "demo_site", "--settings", "example.site_settings")
MESSAGES = "/admin/pgpubsub_sql/notification/"


class Visitor:
    """Somebody with a browser that is logged in, and nothing else."""

    def __init__(self, output: str) -> None:
        self.address = re.search(r"http://\S+", output)[0]
        self.base = self.address.partition("/admin/")[0]
        jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        name, password = re.search(r"Log in as (\S+) with the password (\S+)", output).groups()
        login = f"{self.base}/admin/login/"
        page = str(eventually(lambda: self.get(login)))
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)[1]
        form = {"username": name, "password": password, "csrfmiddlewaretoken": token}
        self.get(login, urllib.parse.urlencode(form | {"next": "/admin/"}).encode())

    def get(self, address: str, data: bytes | None = None) -> str:
        """Return a page; empty while nobody answers."""
        try:
            with self.opener.open(urllib.parse.urljoin(self.base, address), data) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            return ""

    def words(self, address: str) -> str:
        return " ".join(re.sub(r"<[^>]*>", " ", unescape(self.get(address))).split())


def test_the_admin_alone_answers_an_operator(temporary: Path) -> None:
    """Which listener is slow, whether workers keep up, and why an author got no mail."""
    with subprocess.Popen(
        SITE,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as site:
        try:
            lines = []
            for line in site.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            assert "Ctrl-C" in lines[-1], "".join(lines)
            ask(Visitor("".join(lines)))
            assert processes_with(temporary)
        finally:
            os.killpg(site.pid, signal.SIGINT)
        output = site.stdout.read()
    assert output == "Everything is stopped and removed.\n"
    assert site.returncode == 0
    assert_nothing_is_left(temporary)


def ask(visitor: Visitor) -> None:
    slow = r"What takes long .* example\.news\.listeners\.make_digest news\.Digest \d+ \d seconds"
    eventually(lambda: re.search(slow, visitor.words(visitor.address)))
    keeps_up = r" news\.Digest 0 0 0 1 installed| news\.Digest 0 0 0 [01] "
    eventually(lambda: re.search(keeps_up, visitor.words(visitor.address)))
    failed = re.search(
        rf'href="({MESSAGES}\?[^"]*channel=news\.Welcomes[^"]*)"',
        eventually_failed(visitor),
    )
    page = visitor.get(unescape(failed[1]))
    assert "smtplib.SMTPServerDisconnected" in page
    (message, *_others) = re.findall(rf'href="({MESSAGES}\d+/change/)', page)
    detail = visitor.words(message)
    assert "@example.net" in detail
    assert "Connection unexpectedly closed: mail.example.net" in detail
    assert "example.news.listeners.send_welcome" in detail


def eventually_failed(visitor: Visitor) -> str:
    """Return the page of channels, once mail has failed."""

    def page() -> str:
        found = visitor.get(visitor.address)
        return found if "show=failed&amp;channel=news.Welcomes" in found else ""

    return str(eventually(page))
