"""The filters beside the list. :class:`Selection` applies them; they only show what there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.db import connections
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.admin.selection import ATTEMPTS, RECENT, Selection, Shown
from pgpubsub_sql.inspection import MOST, stored_channels, stored_lanes
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane

Choices = list[tuple[str, Any]]


class SelectionFilter(admin.SimpleListFilter):
    """A parameter of :class:`Selection`."""

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Leave *queryset* to the list."""
        return queryset

    def choice(self, changelist: Any, display: Any, value: str | None, **others: None) -> Any:
        """Return a choice; those of *others* are removed from the address."""
        change: dict[Any, Any] = {self.parameter_name: value, **others}
        return {
            "selected": self.value() == value,
            "query_string": changelist.get_query_string(change),
            "display": display,
        }

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield self.choice(changelist, _("All"), None)
        for value, display in self.lookup_choices:
            yield self.choice(changelist, display, str(value))


class ShownFilter(SelectionFilter):
    """Which list is shown. Without a choice, what has failed."""

    title = _("state")
    parameter_name = "show"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(str(value), label) for value, label in Shown.choices]

    def choices(self, changelist: Any) -> Iterator[Any]:
        for value, display in self.lookup_choices:
            gone = {} if Shown(value).has_failed else dict.fromkeys(OF_FAILED)
            chosen = None if value == Shown.FAILED else str(value)
            yield self.choice(changelist, display, chosen, **gone)


class ChannelFilter(SelectionFilter):
    """The channel, of those that have messages."""

    title = _("channel")
    parameter_name = "channel"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = stored_channels(model_admin.get_queryset(request).db)
        return [(name, name) for name in _with(self.value(), names)]


class SubscriptionFilter(SelectionFilter):
    """The subscription, where messages are stored for any that has a name."""

    title = _("subscription")
    parameter_name = "subscription"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = {lane.subscription for lane in self.lanes(model_admin.get_queryset(request).db)}
        found = _with(self.value(), names)
        return [(name, name or gettext("none")) for name in found] if any(found) else []

    def lanes(self, using: str) -> list[Lane]:
        """Return what to choose from."""
        return stored_lanes(using)


class FailedFilter(SelectionFilter):
    """A filter of what has failed, which the other lists do not have."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        is_wanted = request.GET.get("show", Shown.FAILED) not in (Shown.READY, Shown.WAITING)
        return self.found(model_admin.get_queryset(request)) if is_wanted else []

    def found(self, rows: Any) -> Choices:
        """Return the values to choose from, given all messages."""
        raise NotImplementedError


class ReasonFilter(FailedFilter):
    """The class of the exception, of those that a part of the failed messages has."""

    title = _("reason")
    parameter_name = "reason"

    def found(self, rows: Any) -> Choices:
        with connections[rows.db].cursor() as cursor:
            cursor.execute(query("reasons"), {"limit": MOST})
            names = [name for (name,) in cursor.fetchall()]
        return [(name, name or gettext("unknown")) for name in _with(self.value(), names)]


class FailedAtFilter(FailedFilter):
    """When it failed last: not longer ago than this, or between two times."""

    title = _("time of failure")
    parameter_name = "since"
    template = "admin/pgpubsub_sql/failed_at_filter.html"

    def found(self, rows: Any) -> Choices:
        return recent_choices()

    def expected_parameters(self) -> list[str | None]:
        return ["since", "until"]

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        self.until = params.pop("until", [""])[-1]
        self.others: dict[str, str] = {}
        """Other parameters of the address, which its form has to keep."""
        super().__init__(request, params, model, model_admin)

    @property
    def since(self) -> str:
        """The time from which on; empty for none, and for one that is relative."""
        value = self.value() or ""
        return "" if value in RECENT else value

    def choices(self, changelist: Any) -> Iterator[Any]:
        own = (*self.expected_parameters(), "p")
        self.others = {n: v for n, v in changelist.params.items() if n not in own}
        yield self.choice(changelist, _("All"), None, until=None)
        for value, display in self.lookup_choices:
            yield self.choice(changelist, display, str(value), until=None)


class AttemptsFilter(FailedFilter):
    """How often it has failed."""

    title = _("attempts")
    parameter_name = "attempts"

    def found(self, rows: Any) -> Choices:
        return [(one, words) for one, (words, _first, _last) in ATTEMPTS.items()]


OF_FAILED = ("reason", "since", "until", "attempts")
"""Parameters that narrow what has failed."""


def recent_choices() -> Choices:
    """Return how long ago something was at most, in words."""
    words = {
        "m": ngettext_lazy("past %(number)d minute", "past %(number)d minutes", "number"),
        "h": ngettext_lazy("past hour", "past %(number)d hours", "number"),
        "d": ngettext_lazy("past day", "past %(number)d days", "number"),
    }
    return [(one, words[one[-1]] % {"number": int(one[:-1])}) for one in RECENT]


def _with(chosen: str | None, found: Iterable[str]) -> list[str]:
    """Return *found*, and what was chosen although it is gone."""
    return sorted({*found, *([chosen] if chosen is not None else [])})


def read_selection(request: HttpRequest) -> Selection:
    """Return what the address of *request* selects."""
    return Selection.read(request.GET.dict())
