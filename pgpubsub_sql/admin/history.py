"""The pages of the history: a list, a page of each message, and sending some again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import InvalidPage, Paginator
from django.db import connections
from django.db.models import TextField
from django.db.models.functions import Cast, Left, Length, Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from pgpubsub_sql.admin import detail
from pgpubsub_sql.admin.changes import REPLAY
from pgpubsub_sql.admin.changing import MOST_CHOSEN
from pgpubsub_sql.admin.filters import SelectionFilter, SubscriptionFilter, recent_choices
from pgpubsub_sql.admin.limits import page
from pgpubsub_sql.admin.listing import AtLeast
from pgpubsub_sql.admin.readonly import ReadOnlyAdmin, id_of
from pgpubsub_sql.admin.selection import RECENT, time_in_words
from pgpubsub_sql.handled import HandledQuerySet
from pgpubsub_sql.inspection import MOST
from pgpubsub_sql.keeping import is_kept
from pgpubsub_sql.listeners import registry
from pgpubsub_sql.models import Handled, Outcome
from pgpubsub_sql.sql import query
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.time_limit import limited

AGAIN = dataclasses.replace(
    REPLAY,
    label=_("Send again"),
    label_all=_("Send again"),
    help=_("They become new messages, and their listeners are called again."),
    done=ngettext_lazy(
        "%(number)d message was sent again.", "%(number)d messages were sent again.", "number"
    ),
    model=Handled,
)


class OutcomeFilter(SelectionFilter):
    """What has become of messages."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Outcome.choices


class KeptChannelFilter(SelectionFilter):
    """The channel, of those of which something is kept."""

    title = _("channel")
    parameter_name = "channel"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        with connections[model_admin.get_queryset(request).db].cursor() as cursor:
            cursor.execute(query("kept_channels"))
            names = {name for (name,) in cursor.fetchall()}
        return [(name, name) for name in sorted({*names, self.value() or ""} - {""})]


class KeptSubscriptionFilter(SubscriptionFilter):
    """The subscription, where listeners name one of a channel that keeps its messages."""

    def lanes(self, using: str) -> list[Lane]:
        return registry.lanes_of(filter(is_kept, registry.channels()))


class HandledAtFilter(SelectionFilter):
    """How long ago messages were handled at most."""

    title = _("time when it was handled")
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return recent_choices()


PARAMETERS = ("outcome", "channel", "subscription", "since")


class HistoryList(ChangeList):
    """The newest messages of the history that the address selects, counted to 10,000."""

    root_queryset: Any

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        rows: Any = super().get_queryset(request, exclude_parameters)
        return rows if self.query else selected(rows, request.GET.dict())

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        """Order as an index does."""
        return ["-handled_at", "-id"]

    def get_results(self, request: HttpRequest) -> None:
        found = list(self.queryset.values_list("slot", "batch", "pk")[: MOST + 1])
        keys = found[:MOST]
        self.paginator = Paginator(keys, self.list_per_page)
        self.result_count = len(keys) if len(found) <= MOST else AtLeast(len(keys))
        self.show_full_result_count = self.can_show_all = False
        self.full_result_count = self.result_count
        self.show_admin_actions = bool(keys)
        self.multi_page = len(keys) > self.list_per_page
        try:
            shown = self.paginator.page(self.page_num)
        except InvalidPage as error:
            raise IncorrectLookupParameters(str(error)) from error
        self.result_list = _load(self.root_queryset, list(shown.object_list))


def selected(rows: HandledQuerySet, parameters: dict[str, str]) -> HandledQuerySet:
    """Return those of *rows* that the *parameters* of an address select."""
    outcome, since = parameters.get("outcome", ""), parameters.get("since", "")
    if (outcome and outcome not in Outcome.values) or (since and since not in RECENT):
        raise IncorrectLookupParameters(f"There is no such choice: {outcome or since!r}.")
    if channel := parameters.get("channel"):
        rows = rows.filter(channel=channel)
    if (subscription := parameters.get("subscription")) is not None:
        rows = rows.filter(subscription=subscription)
    if outcome:
        rows = rows.with_outcome(outcome)
    if since:
        rows = rows.filter(handled_at__gte=timezone.now() - RECENT[since])
    return rows


Key = tuple[int, int, int]
"""Slot, batch and id."""


def _load(rows: HandledQuerySet, keys: Sequence[Key]) -> list[Handled]:
    """Return the messages with these keys in this order, without their payloads."""
    slots, batches, ids = map(set, zip(*keys, strict=True)) if keys else [()] * 3
    chosen = rows.filter(slot__in=slots, batch__in=batches, pk__in=ids)
    found = chosen.annotate(now=Now()).defer("payload", "key")
    by_key = {(one.slot, one.batch, one.pk): one for one in found}
    return [by_key[key] for key in keys if key in by_key]


@admin.action(permissions=["replay"], description=AGAIN.label)
def send_again(model_admin: HandledAdmin, request: HttpRequest, queryset: Any) -> HttpResponse:
    """Ask whether to send the chosen messages again, which their ids alone would not find soon."""
    chosen = map(id_of, request.POST.getlist(ACTION_CHECKBOX_NAME))
    rows = queryset.with_ids(pk for pk in chosen if pk is not None)
    return model_admin.confirm(request, sorted(rows.values_list("pk", flat=True)))


class HandledAdmin(ReadOnlyAdmin):
    """Shows messages that were handled, and sends them again."""

    list_display = ("id", "shown_channel", "handled", "shown_outcome", "tried", "took", "sent")
    list_filter = (OutcomeFilter, KeptChannelFilter, KeptSubscriptionFilter, HandledAtFilter)
    actions = (send_again,)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.chosen_view)
        return [path("chosen/", view, name="pgpubsub_sql_handled_chosen"), *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[HistoryList]:
        return HistoryList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Refuse ``?payload__to__startswith=…``, which would tell what nobody may see."""
        return lookup in PARAMETERS

    @page
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, or ask whether to send the chosen messages again."""
        if request.method == "POST":
            data = request.POST.copy()
            data["select_across"] = "0"  # the command does that
            request.POST = data  # type: ignore[assignment]
        with limited(self.get_queryset(request).db):
            return super().changelist_view(request, extra_context)

    # --- Sending again

    @page
    def chosen_view(self, request: HttpRequest) -> HttpResponse:
        """Send the messages again whose ids a form has, once that is confirmed."""
        if not (self.has_view_permission(request) and self.has_replay_permission(request)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseRedirect(self._url("changelist"))
        try:
            ids = [int(one) for one in request.POST.getlist("id")][:MOST_CHOSEN]
        except ValueError as error:
            raise BadRequest("An id is not a number.") from error
        if "confirmed" not in request.POST:
            return self.confirm(request, ids)
        number = self._rows(request).with_ids(ids).replay()
        what = ", ".join(f"#{pk}" for pk in ids)
        AGAIN.log(request.user, number, what, pk=ids[0] if len(ids) == 1 else None)
        messages.success(request, AGAIN.done % {"number": number})
        return HttpResponseRedirect(self._url("changelist"))

    def confirm(self, request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        """Return the page that says how many messages would be sent again."""
        number = self._rows(request).with_ids(ids).count_again()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": AGAIN.label,
            "change": AGAIN,
            "number": number,
            "hidden": [("id", pk) for pk in ids],
            "url": self._url("chosen"),
            "list_url": self._url("changelist"),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/pgpubsub_sql/confirm.html", context)

    def with_id(self, queryset: Any, pk: int) -> Any:
        """Return those of *queryset* that have this id."""
        return queryset.with_ids([pk])

    def _rows(self, request: HttpRequest) -> Any:
        return self.get_queryset(request)

    def _url(self, name: str) -> str:
        return reverse(f"admin:pgpubsub_sql_handled_{name}", current_app=self.admin_site.name)

    # --- The page of one message

    @page
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show one message."""
        changes = [(AGAIN, self._url("chosen"))] if self.has_replay_permission(request) else []
        extra = {
            "changes": changes,
            "has_payload_permission": self.has_payload_permission(request),
        }
        with limited(self.get_queryset(request).db):
            return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the message, with what the page shows of it; of several the last one."""
        pk = id_of(object_id)
        if pk is None:
            return None
        text = Cast("payload", TextField())
        rows = (
            self.with_id(self._rows(request), pk)
            .defer("payload")
            .annotate(now=Now(), text=Left(text, detail.READ_CHARACTERS), size=Length(text))
        )
        found = rows.order_by("-handled_at").first()
        if found is not None:
            found.inspection = detail.inspection(found)
        return found

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = ("shown_channel", "shown_outcome", "shown_sent", "shown_handled", "kept", "tried")
        fieldsets: list[Any] = [(None, {"fields": (*shown, "took", "listeners")})]
        if self.has_payload_permission(request):
            fields = ("shown_reason", "shown_key", "context", "shown_payload")
            fieldsets.append((_("What was sent"), {"fields": fields}))
        return fieldsets

    @admin.display(description=_("channel"))
    def shown_channel(self, obj: Any) -> str:
        return str(Lane(obj.channel, obj.subscription))

    @admin.display(description=_("outcome"))
    def shown_outcome(self, obj: Any) -> str:
        return str(Outcome(obj.outcome).label)

    @admin.display(description=_("sent"))
    def sent(self, obj: Any) -> str:
        return detail.ago(obj.created_at, obj)

    @admin.display(description=_("handled"))
    def handled(self, obj: Any) -> str:
        return detail.ago(obj.handled_at, obj)

    @admin.display(description=_("failed attempts"))
    def tried(self, obj: Any) -> int:
        return int(obj.attempts)

    @admin.display(description=_("seconds that it took"))
    def took(self, obj: Any) -> str:
        return "" if obj.duration is None else f"{obj.duration:.2f}"

    @admin.display(description=_("sent"))
    def shown_sent(self, obj: Any) -> str:
        return detail.moment(obj.created_at, obj)

    @admin.display(description=_("handled"))
    def shown_handled(self, obj: Any) -> str:
        return detail.moment(obj.handled_at, obj)

    @admin.display(description=_("kept until"))
    def kept(self, obj: Any) -> str:
        return time_in_words(obj.kept_until)

    @admin.display(description=_("listeners"))
    def listeners(self, obj: Any) -> str:
        return detail.listeners(obj.inspection)

    @admin.display(description=_("reason"))
    def shown_reason(self, obj: Any) -> str:
        return str(obj.reason)

    @admin.display(description=_("key"))
    def shown_key(self, obj: Any) -> str:
        return obj.key or ""

    @admin.display(description=_("context"))
    def context(self, obj: Any) -> str:
        return detail.context(obj.inspection)

    @admin.display(description=_("payload"))
    def shown_payload(self, obj: Any) -> str:
        return detail.payload(obj)
