"""Checks of this package's settings: E101 and W101."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from pgpubsub_sql import conf, filters
from pgpubsub_sql.relay.settings import relay_settings_if_any


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """E101 and W101: is every setting valid, and is it advisable?"""
    problems = list(_invalid_settings())
    if not problems and not conf.is_context_bound_to_transaction():
        warning = checks.Warning(
            "PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT is False, so a notification context lasts as "
            "long as its connection. If connections persist, it leaks into the next request.",
            hint="Use notification_context(), then remove PGPUBSUB_TX_BOUND_NOTIFICATION_CONTEXT.",
            id="pgpubsub_sql.W101",
        )
        problems.append(warning)
    return problems


def _invalid_settings() -> Iterator[checks.CheckMessage]:
    for read in (
        conf.is_counting,
        conf.is_context_bound_to_transaction,
        conf.is_context_passed_to_listeners,
        conf.is_notify_used,
        filters.provider,
        relay_settings_if_any,
    ):
        try:
            read()
        except ImproperlyConfigured as error:
            yield checks.Error(str(error), id="pgpubsub_sql.E101")
