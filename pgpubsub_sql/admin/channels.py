"""The page of channels: what is stored, who handles it, and what is wrong with their triggers."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.admin.databases import ChannelRow, Database, DatabaseState, read_databases
from pgpubsub_sql.admin.figures import shown_listener
from pgpubsub_sql.admin.limits import page
from pgpubsub_sql.admin.pauses import can_be_paused, change_pause, may_pause
from pgpubsub_sql.admin.selection import Shown, time_in_words
from pgpubsub_sql.admin.words import count, duration, place
from pgpubsub_sql.inspection import MAX_DEAD, MAX_QUEUE, MAX_TRANSACTION_SECONDS
from pgpubsub_sql.migrations_ops.problems import InstallState
from pgpubsub_sql.models import Channel, Notification
from pgpubsub_sql.subscriptions import Lane

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Channel]
else:
    _ModelAdmin = admin.ModelAdmin

STATES: Mapping[InstallState, Any] = {
    InstallState.INSTALLED: _("installed"),
    InstallState.OUTDATED: _("outdated"),
    InstallState.MISSING: _("missing"),
    InstallState.TABLELESS: _("no table"),
    InstallState.DISABLED: _("disabled"),
    InstallState.DENIED: _("a privilege is missing"),
    InstallState.STALE: _("columns are missing"),
    InstallState.FOREIGN: _("another project's"),
    InstallState.LEFTOVER: _("left over"),
}
"""What is said of a channel's triggers."""


class ChannelAdmin(_ModelAdmin):
    """Shows the channels of each database. There is nothing to add, change or delete."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.changelist_view)
        change_pause = self.admin_site.admin_view(self.pause_view)
        return [
            path("", view, name="pgpubsub_sql_channel_changelist"),
            path("pause/", change_pause, name="pgpubsub_sql_channel_pause"),
        ]

    @page
    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Pause or resume a channel."""
        if not (self.has_view_permission(request) and may_pause(request.user)):
            raise PermissionDenied
        if request.method == "POST":
            messages.success(request, change_pause(request.user, request.POST))
        return HttpResponseRedirect(self._reverse("changelist"))

    def _reverse(self, name: str) -> str:
        full = f"admin:pgpubsub_sql_channel_{name}"
        return reverse(full, current_app=self.admin_site.name)

    @page
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        databases = list(read_databases())
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": capfirst(self.opts.verbose_name_plural),
            "databases": [_shown(one, self._list_url(request, one.alias)) for one in databases],
            "has_several": len(databases) > 1,
            "pause_url": self._reverse("pause") if may_pause(request.user) else "",
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/pgpubsub_sql/channels.html", context)

    def _list_url(self, request: HttpRequest, alias: str) -> str:
        """Return the address of the messages of a database; empty if this user has none."""
        shown = self.admin_site.is_registered(Notification)
        is_read = router.db_for_read(Notification) == alias
        if not (shown and is_read and request.user.has_perm("pgpubsub_sql.view_notification")):
            return ""
        name = "admin:pgpubsub_sql_notification_changelist"
        return reverse(name, current_app=self.admin_site.name)


def _shown(database: Database, list_url: str) -> dict[str, Any]:
    """Return what the template shows of a database."""
    shown: dict[str, Any] = {"database": database}
    if stored := database.stored:
        shown |= {
            "channels": [_shown_channel(row, list_url) for row in stored.channels],
            "workers": [(one, duration(one.seconds)) for one in stored.workers],
            "listeners": list(map(shown_listener, stored.listeners)),
            "long_calls": [(one, duration(one.seconds), place(one)) for one in stored.long_calls],
            "in_flight": [
                (name, one, count(one.messages), duration(one.seconds))
                for name, one in stored.in_flight
            ],
            "facts": list(_facts(stored)),
        }
    return shown


def _shown_channel(row: ChannelRow, list_url: str) -> dict[str, Any]:
    one = row.counts
    numbers = {Shown.FAILED: one.failed, Shown.READY: one.ready, Shown.WAITING: one.waiting}
    return {
        "lane": one.lane,
        "notes": list(_notes(row)),
        "numbers": [
            (count(number), _address(list_url, show, one.lane) if number else "")
            for show, number in numbers.items()
        ],
        "in_flight": count(one.in_flight),
        "oldest": duration(one.oldest),
        "change": _change(row),
        "state": STATES[row.state] if row.state else gettext("none"),
        "is_well": row.state in (None, InstallState.INSTALLED),
    }


def _change(row: ChannelRow) -> str:
    """Return what can be done to a channel: ``pause``, ``resume`` or nothing."""
    if row.counts.paused_seconds is not None:
        return "resume"
    return "pause" if can_be_paused(row.name) else ""


def _address(list_url: str, show: Shown, lane: Lane) -> str:
    chosen = {"show": str(show), "channel": lane.channel}
    if lane.subscription:
        chosen["subscription"] = lane.subscription
    return list_url and f"{list_url}?{urlencode(chosen)}"


def _notes(row: ChannelRow) -> Iterator[str]:
    if not row.has_listener:
        yield gettext("no listener")
    if row.is_ephemeral:
        yield gettext("ephemeral")
    if row.is_polled:
        yield gettext("workers poll it")
    if row.counts.filled:
        yield gettext("being filled with what was sent before")
    if (seconds := row.counts.paused_seconds) is not None:
        since = timezone.now() - datetime.timedelta(seconds=seconds)
        words = gettext("paused for %(duration)s, since %(time)s")
        yield words % {"duration": duration(seconds), "time": time_in_words(since)}


def _facts(stored: DatabaseState) -> Iterator[tuple[str, str, bool]]:
    """Yield what is to be known of the server: a title, words, and whether that is well."""
    care = stored.care
    usage = number_format(care.queue_usage * 100, decimal_pos=1)
    words = gettext("%(percent)s %% full") % {"percent": usage}
    yield gettext("NOTIFY queue"), words, care.queue_usage <= MAX_QUEUE
    rows = {"dead": number_format(care.dead), "live": number_format(care.live)}
    words = gettext("%(dead)s, beside %(live)s live ones") % rows
    yield gettext("Dead rows"), words, care.dead <= MAX_DEAD
    if care.vacuumed is not None:
        words = gettext("%(duration)s ago") % {"duration": duration(care.vacuumed)}
        yield gettext("Last vacuum"), words, True
    if one := care.oldest:
        words = gettext("open for %(duration)s: %(name)s")
        words %= {"duration": duration(one.seconds), "name": one.title}
        yield gettext("Oldest transaction"), words, one.seconds <= MAX_TRANSACTION_SECONDS
    else:
        yield gettext("Oldest transaction"), gettext("none is open"), True
