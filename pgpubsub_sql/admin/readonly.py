"""What all pages of messages have in common: nothing is changed there but by ways of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

LARGEST_ID = 2**63 - 1


class ReadOnlyAdmin(_ModelAdmin):
    """Lists messages without counting them all, and finds them by their id alone."""

    list_per_page = 100
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ("id",)
    search_help_text = _("Search by the id of a message")
    change_form_template = "admin/pgpubsub_sql/message.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("pgpubsub_sql.replay"))

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whether to show payload, key, context and error."""
        return bool(request.user.has_perm("pgpubsub_sql.view_payload"))

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Search for an id, and for nothing else."""
        if not search_term:
            return queryset, False
        pk = id_of(search_term.strip().removeprefix("#"))
        if pk is not None:
            return self.with_id(queryset, pk), False
        messages.warning(request, gettext("Only ids of messages can be searched for."))
        return queryset.none(), False

    def with_id(self, queryset: Any, pk: int) -> Any:
        """Return those of *queryset* that have this id."""
        return queryset.filter(pk=pk)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for _, options in self.get_fieldsets(request) for name in options["fields"]]


def id_of(text: str) -> int | None:
    """Return the id of a message that *text* spells; None if it spells none."""
    if text.isascii() and text.isdigit() and int(text) <= LARGEST_ID:
        return int(text)
    return None
