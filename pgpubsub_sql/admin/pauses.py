"""Pause and resume, from the page of channels."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest
from django.utils.translation import gettext as _

from pgpubsub_sql.inspection import declared, our_databases, paused_lanes
from pgpubsub_sql.models import Channel
from pgpubsub_sql.pausing import pause, resume
from pgpubsub_sql.subscriptions import Lane


def may_pause(user: Any) -> bool:
    """Whether *user* may pause and resume channels."""
    return bool(user.has_perm("pgpubsub_sql.pause"))


def can_be_paused(name: str) -> bool:
    """Whether a channel of this name is durable: messages of others would be lost."""
    channel = declared(name)
    return channel is not None and channel.lock_notifications


def change_pause(user: Any, posted: Any) -> str:
    """Pause or resume the subscription of a form; return what to say.

    Raises :class:`BadRequest` for what the page does not offer.
    """
    alias, name = posted.get("database"), posted.get("channel", "")
    lane = Lane(name, posted.get("subscription", ""))
    if alias not in our_databases():
        raise BadRequest("The form names no database of ours.")
    if posted.get("do") == "resume":
        resume(alias, [name], lane.subscription)
        return _log(user, lane, _("Resumed: %(channel)s."))
    if posted.get("do") != "pause" or not can_be_paused(name):
        raise BadRequest("The form names no durable channel, or nothing to do with it.")
    if lane not in paused_lanes(alias) and not pause(alias, [name], lane.subscription):
        raise BadRequest("The form names a subscription that is not registered.")
    return _log(
        user,
        lane,
        _("Paused: %(channel)s. What workers have taken before is still handled."),
    )


def _log(user: Any, lane: Lane, words: str) -> str:
    """Record it in the admin's log."""
    told = words % {"channel": lane}
    LogEntry.objects.create(
        user_id=user.pk,
        content_type_id=ContentType.objects.get_for_model(Channel, for_concrete_model=False).pk,
        object_id=None,
        object_repr=str(lane),
        action_flag=CHANGE,
        change_message=told,
    )
    return told
