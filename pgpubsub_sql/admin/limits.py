"""No page of the admin keeps the database busy for long."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from pgpubsub_sql.time_limit import TookTooLong


def page(view: Callable[..., Any]) -> Callable[..., Any]:
    """Make *view*, a method of a model's admin, say so if a statement took too long.

    It begins outside of any transaction, whatever ``ATOMIC_REQUESTS`` says.
    """

    @wraps(view)
    def respond(admin: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(admin, request, *args, **kwargs)
        except TookTooLong:
            title = _("The database took longer than five seconds")
            context = {**admin.admin_site.each_context(request), "title": title}
            return TemplateResponse(request, "admin/pgpubsub_sql/slow.html", context, status=503)

    return transaction.non_atomic_requests(respond)
