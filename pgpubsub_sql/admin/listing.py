"""The list: its rows are found by an index, and counted to 10,000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.db.models.functions import Now, Right
from django.http import HttpRequest
from django.utils.formats import number_format

from pgpubsub_sql.admin.filters import read_selection
from pgpubsub_sql.admin.selection import InvalidSelection
from pgpubsub_sql.inspection import MOST
from pgpubsub_sql.models import Notification, NotificationQuerySet

END_OF_ERROR = 2000
"""Characters that are loaded of the end of a traceback."""


class AtLeast(int):
    """A number of messages that says that there are more."""

    def __str__(self) -> str:
        if settings.USE_THOUSAND_SEPARATOR:  # which the template then puts into this text
            return f"≥{int(self)}"
        return f"{number_format(int(self), force_grouping=True)}+"


class MessageList(ChangeList):
    """The messages of a :class:`Selection`."""

    root_queryset: Any

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        try:
            self.selection = read_selection(request)
        except InvalidSelection as error:
            raise IncorrectLookupParameters(str(error)) from error
        rows: Any = super().get_queryset(request, exclude_parameters)
        return rows if self.query else self.selection.of(rows)

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return ["channel", "subscription", "id"]

    def get_results(self, request: HttpRequest) -> None:
        ids = self._ids()
        self.paginator = Paginator(ids[:MOST], self.list_per_page)
        self.result_count = len(ids) if len(ids) <= MOST else AtLeast(MOST)
        self.show_full_result_count = self.can_show_all = False
        self.full_result_count = self.result_count
        self.show_admin_actions = bool(ids)
        self.multi_page = len(ids) > self.list_per_page
        try:
            page = self.paginator.page(self.page_num)
        except InvalidPage as error:
            raise IncorrectLookupParameters(str(error)) from error
        self.result_list = load_rows(self.root_queryset, list(page.object_list))

    def _ids(self) -> list[int]:
        if self.query:
            return list(self.queryset.values_list("pk", flat=True))
        return self.selection.ids(self.root_queryset)


def load_rows(rows: NotificationQuerySet, ids: Sequence[int]) -> list[Notification]:
    """Return the messages with these *ids* in this order, as far as they still exist.

    Without payloads, and with no more than the end of their errors.
    """
    some = rows.filter(pk__in=ids).with_state().defer("payload", "last_error")
    some = some.annotate(now=Now(), error_end=Right("last_error", END_OF_ERROR))
    found = some.in_bulk()
    return [found[pk] for pk in ids if pk in found]
