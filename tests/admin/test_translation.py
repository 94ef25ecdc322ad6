"""The texts of the admin in German."""

from __future__ import annotations

import gettext
import re

from django.test import Client
from django.utils.translation import override

from tests.admin.conftest import MESSAGES, text
from tests.conftest import ROOT
from tests.stored import park, retrying

CATALOGUE = ROOT / "pgpubsub_sql" / "locale" / "de" / "LC_MESSAGES"
CALLS = r"\b(?:n?gettext(?:_lazy)?|_)\(\s*((?:\"[^\"]*\"[\s,]*)+)"


def test_pages_are_german(operator: Client) -> None:
    park()
    row = retrying()
    german = {"accept-language": "de"}
    with override("de"):
        page = text(operator.get(MESSAGES, headers=german))
        for words in ("Alle passenden neu ausführen", "3 von 10", "geparkt", "2 Nachrichten"):
            assert words in page, words
        page = text(operator.get(f"{MESSAGES}{row.pk}/change/", headers=german))
        assert "Fehlgeschlagen: Der nächste Versuch ist in" in page
        page = text(operator.get(f"{MESSAGES}all/discard/", headers=german))
        assert "Nachrichten sind betroffen." in page


def test_every_text_is_translated_and_compiled() -> None:
    with (CATALOGUE / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    known = {one[0] if isinstance(one, tuple) else one for one in compiled._catalog}  # type: ignore[attr-defined]
    for text_ in texts():
        assert text_ in known, text_


def texts() -> set[str]:
    """Return what the code and the templates of the admin have translated."""
    found = set()
    for file in (ROOT / "pgpubsub_sql" / "admin").glob("*.py"):
        for call in re.findall(CALLS, file.read_text()):
            first = call.split('",')[0]
            found.add("".join(re.findall(r'"([^"]*)"', first + '"')))
    for file in (ROOT / "pgpubsub_sql" / "templates").rglob("*.html"):
        found.update(re.findall(r'{% translate "([^"]*)" %}', file.read_text()))
    return found
