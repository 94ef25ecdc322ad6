"""The pages that change messages: those chosen, or all of a selection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from pgpubsub_sql.admin.changes import CHANGES, MessageChange, skipped
from pgpubsub_sql.admin.limits import page
from pgpubsub_sql.admin.readonly import ReadOnlyAdmin
from pgpubsub_sql.admin.selection import InvalidSelection, Selection
from pgpubsub_sql.models import NotificationQuerySet
from pgpubsub_sql.sql import query
from pgpubsub_sql.time_limit import limited

MOST_CHOSEN = 1000
"""How many ids one form may have."""


class ChangingAdmin(ReadOnlyAdmin):
    """Replays, retries and discards messages, after a page that says what will happen."""

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("all/<str:name>/", wrap(self.all_view), name="pgpubsub_sql_notification_all"),
            path(
                "chosen/<str:name>/",
                wrap(self.chosen_view),
                name="pgpubsub_sql_notification_chosen",
            ),
            *super().get_urls(),
        ]

    # --- Those chosen

    @page
    def chosen_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Change the messages whose ids a form has."""
        change = self._change(request, name)
        if request.method != "POST":
            return HttpResponseRedirect(self._list_url())
        try:
            ids = [int(one) for one in request.POST.getlist("id")][:MOST_CHOSEN]
        except ValueError as error:
            raise BadRequest("An id is not a number.") from error
        return self.change_chosen(request, change, ids)

    def change_chosen(
        self, request: HttpRequest, change: MessageChange, ids: Sequence[int]
    ) -> HttpResponse:
        """Change the messages *ids*; ask first if that cannot be undone."""
        rows = self._rows(request).filter(pk__in=ids)
        if change.must_confirm and "confirmed" not in request.POST:
            hidden = [("id", pk) for pk in ids]
            return self._confirm(request, change, rows.count(), hidden, url=self.chosen_url(change))
        number, _ = change.run(rows)
        what = ", ".join(f"#{pk}" for pk in ids)
        change.log(request.user, number, what, pk=ids[0] if len(ids) == 1 else None)
        self._say(request, change, number, left=len(ids) - number)
        return HttpResponseRedirect(self._list_url(request.GET.urlencode()))

    def chosen_url(self, change: MessageChange) -> str:
        """Return the address that changes the messages of a form."""
        return self._reverse("chosen", change.name)

    # --- All of a selection

    @page
    def all_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Say how many messages an address selects; with POST, change them."""
        change = self._change(request, name)
        given = request.POST if request.method == "POST" else request.GET
        try:
            selection = Selection.read(given.dict())
        except InvalidSelection as error:
            raise BadRequest(str(error)) from error
        if not selection.show.has_failed:
            raise BadRequest("Only messages that have failed are changed all at once.")
        selection = self._fixed(request, selection)
        if request.method != "POST":
            return self._confirm_all(request, change, selection)
        number, is_all = change.run(selection.of(self._rows(request)))
        change.log(request.user, number, "; ".join(selection.describe()))
        if not is_all:
            return self._confirm_all(request, change, selection, done=number)
        self._say(request, change, number)
        return HttpResponseRedirect(self._list_url())

    def all_url(self, change: MessageChange, parameters: str) -> str:
        """Return the address that changes all that *query* selects."""
        return f"{self._reverse('all', change.name)}?{parameters}"

    def _fixed(self, request: HttpRequest, selection: Selection) -> Selection:
        """Leave out of *selection* what fails from now on, by the clock of the database."""
        if selection.as_of:
            return selection
        with connections[self.get_queryset(request).db].cursor() as cursor:
            cursor.execute(query("server_time"))
            ((moment,),) = cursor.fetchall()
        return dataclasses.replace(selection, as_of=moment)

    def _confirm_all(
        self, request: HttpRequest, change: MessageChange, selection: Selection, done: int = 0
    ) -> HttpResponse:
        rows = self._rows(request)
        with limited(rows.db):
            number = change.is_wanted(selection.of(rows)).count()
        hidden = list(selection.parameters().items())
        return self._confirm(
            request,
            change,
            number,
            hidden,
            url=request.path,
            conditions=selection.describe(),
            done=change.done % {"number": done} if done else "",
        )

    # --- What both have in common

    def _rows(self, request: HttpRequest) -> NotificationQuerySet:
        return cast(NotificationQuerySet, self.get_queryset(request))

    def _change(self, request: HttpRequest, name: str) -> MessageChange:
        if name not in CHANGES:
            raise Http404
        if not self.has_view_permission(request) or not CHANGES[name].allows(request.user):
            raise PermissionDenied
        return CHANGES[name]

    def _confirm(
        self,
        request: HttpRequest,
        change: MessageChange,
        number: int,
        hidden: Sequence[Any],
        **more: Any,
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": change.label_all if "conditions" in more else change.label,
            "change": change,
            "number": number,
            "hidden": hidden,
            "list_url": self._list_url(),
            **more,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/pgpubsub_sql/confirm.html", context)

    def _say(self, request: HttpRequest, change: MessageChange, number: int, left: int = 0) -> None:
        messages.success(request, change.done % {"number": number})
        if left:
            messages.warning(request, skipped(left))

    def _list_url(self, query: str = "") -> str:
        url = self._reverse("changelist")
        return f"{url}?{query}" if query else url

    def _reverse(self, page: str, *arguments: str) -> str:
        name = f"admin:pgpubsub_sql_notification_{page}"
        return reverse(name, args=arguments, current_app=self.admin_site.name)
