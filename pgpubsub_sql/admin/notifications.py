"""The pages of stored messages: a list, a page of each, and what can be done to them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from pgpubsub_sql.admin import detail
from pgpubsub_sql.admin.changes import CHANGES, MessageChange
from pgpubsub_sql.admin.changing import ChangingAdmin
from pgpubsub_sql.admin.filters import (
    OF_FAILED,
    AttemptsFilter,
    ChannelFilter,
    FailedAtFilter,
    ReasonFilter,
    ShownFilter,
    SubscriptionFilter,
)
from pgpubsub_sql.admin.limits import page
from pgpubsub_sql.admin.listing import MessageList
from pgpubsub_sql.admin.readonly import id_of
from pgpubsub_sql.admin.selection import Shown, time_in_words
from pgpubsub_sql.inspection import last_line
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.time_limit import limited

SHOWN_ERROR = 200
"""Characters of an error that the list shows."""


def _action(change: MessageChange) -> Any:
    """Return *change* as an action of the list."""

    def act(model_admin: Any, request: HttpRequest, queryset: Any) -> Any:
        ids = list(queryset.values_list("pk", flat=True))
        return model_admin.change_chosen(request, change, ids)

    act.__name__ = change.name
    return admin.action(act, permissions=[change.permission], description=change.label)


def _shows_failed(request: HttpRequest) -> bool:
    return request.GET.get("show", Shown.FAILED) not in (Shown.READY, Shown.WAITING)


class NotificationAdmin(ChangingAdmin):
    """Shows stored messages, and changes them only as :class:`NotificationQuerySet` does."""

    list_filter = (
        ShownFilter,
        ChannelFilter,
        SubscriptionFilter,
        ReasonFilter,
        FailedAtFilter,
        AttemptsFilter,
    )
    search_help_text = _("Search by the id of a message, in any state")
    actions = tuple(map(_action, CHANGES.values()))
    change_list_template = "admin/pgpubsub_sql/message_list.html"

    # --- Permissions

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return CHANGES["discard"].allows(request.user)

    # --- The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[MessageList]:
        return MessageList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Refuse ``?payload__to__startswith=…``, which would tell what nobody may see."""
        return lookup in ("show", "channel", "subscription", *OF_FAILED)

    def get_list_display(self, request: HttpRequest) -> Any:
        shows_failed = _shows_failed(request)
        failed = ("failed", "shown_reason") if shows_failed else ()
        error = ("error",) if shows_failed and self.has_payload_permission(request) else ()
        return ("id", "shown_channel", *failed, "tried", "next_try", "sent", *error)

    @page
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, or do to the messages chosen what was asked for."""
        if request.method == "POST":
            data = request.POST.copy()
            data["select_across"] = "0"  # a page of ours does that
            request.POST = data  # type: ignore[assignment]
            return super().changelist_view(request, extra_context)
        changes = self._changes_of_all(request)
        with self._limited(request):
            return super().changelist_view(request, {"changes": changes} | (extra_context or {}))

    def _changes_of_all(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Return the links to what can be done to all messages of the list."""
        if not _shows_failed(request) or request.GET.get("q"):
            return []
        return [
            {"label": one.label_all, "url": self.all_url(one, request.GET.urlencode())}
            for one in CHANGES.values()
            if one.allows(request.user)
        ]

    def _limited(self, request: HttpRequest) -> Any:
        return limited(self.get_queryset(request).db)

    # The names of the model's fields are not translated.

    @admin.display(description=_("channel"))
    def shown_channel(self, obj: Any) -> str:
        return str(Lane(obj.channel, obj.subscription))

    @admin.display(description=_("reason"))
    def shown_reason(self, obj: Any) -> str:
        return str(obj.reason)

    @admin.display(description=_("sent"))
    def sent(self, obj: Any) -> str:
        return detail.ago(obj.created_at, obj)

    @admin.display(description=_("failed"))
    def failed(self, obj: Any) -> str:
        return detail.ago(obj.failed_at, obj)

    @admin.display(description=_("attempts"))
    def tried(self, obj: Any) -> str:
        return detail.attempts(obj)

    @admin.display(description=_("next try"))
    def next_try(self, obj: Any) -> str:
        return detail.next_try(obj)

    @admin.display(description=_("error"))
    def error(self, obj: Any) -> str:
        # The reason has a column of its own.
        return last_line(obj.error_end).removeprefix(f"{obj.reason}: ")[:SHOWN_ERROR]

    # --- The page of one message

    @page
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show one message."""
        changes = [one for one in CHANGES.values() if one.allows(request.user)]
        extra = {
            "changes": [(one, self.chosen_url(one)) for one in changes],
            "has_payload_permission": self.has_payload_permission(request),
        }
        with self._limited(request):
            extra |= extra_context or {}
            return super().change_view(request, object_id, form_url, extra)

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the message, with what the page shows of it."""
        pk = id_of(object_id)
        found: Any = None if pk is None else detail.load_message(self._rows(request), pk)
        if found is not None:
            found.inspection = detail.inspection(found)
        return found

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("shown_channel", "shown_state", "shown_sent", "expires", "tried", "shown_failed")
        fieldsets: list[Any] = [(None, {"fields": (*shown, "shown_reason", "listeners")})]
        if self.has_payload_permission(request):
            fieldsets += [
                (_("What was sent"), {"fields": ("shown_key", "context", "shown_payload")}),
                (_("What went wrong"), {"fields": ("traceback",)}),
            ]
        return fieldsets

    @admin.display(description=_("state"))
    def shown_state(self, obj: Any) -> str:
        return detail.state(obj)

    @admin.display(description=_("sent"))
    def shown_sent(self, obj: Any) -> str:
        return detail.moment(obj.created_at, obj)

    @admin.display(description=_("failed"))
    def shown_failed(self, obj: Any) -> str:
        return detail.moment(obj.failed_at, obj)

    @admin.display(description=_("expires"))
    def expires(self, obj: Any) -> str:
        return time_in_words(obj.expires_at)

    @admin.display(description=_("key"))
    def shown_key(self, obj: Any) -> str:
        return obj.key or ""

    @admin.display(description=_("listeners"))
    def listeners(self, obj: Any) -> str:
        return detail.listeners(obj.inspection)

    @admin.display(description=_("context"))
    def context(self, obj: Any) -> str:
        return detail.context(obj.inspection)

    @admin.display(description=_("payload"))
    def shown_payload(self, obj: Any) -> str:
        return detail.payload(obj)

    @admin.display(description=_("traceback"))
    def traceback(self, obj: Any) -> str:
        return detail.block(obj.last_error) if obj.last_error else ""
