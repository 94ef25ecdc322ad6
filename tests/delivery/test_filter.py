"""What a project's ListenerFilterProvider leaves is left."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import FieldError
from django.db.models import Q
from django.utils import timezone

from pgpubsub_sql import ListenerFilterProvider
from pgpubsub_sql.filters import compile_filter
from pgpubsub_sql.subscriptions import Lane
from pgpubsub_sql.worker import claims
from pgpubsub_sql.worker.delivery import Delivery
from tests.app.channels import Job, Step
from tests.app.listeners import called
from tests.delivery.plans import explained
from tests.delivery.sending import drain, jobs
from tests.ledger import sql, stored

pytestmark = pytest.mark.django_db(transaction=True)


class Chosen(ListenerFilterProvider):
    condition = Q()

    def get_filter(self) -> Q:
        return self.condition


def choosing(settings: Any, condition: Q) -> Delivery:
    settings.PGPUBSUB_LISTENER_FILTER = f"{__name__}.Chosen"
    Chosen.condition = condition
    return Delivery([Job, Step], using="default", schema="public")


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        (Q(), [1, 2, 3, 4]),
        (Q(payload__mood="100%s"), [3]),
        (Q(payload__number__gt=1) & ~Q(payload__mood="it's"), [3, 4]),
        (Q(payload__mood__icontains="%"), [3]),
        (Q(created_at__lt=timezone.now()), []),
        (Q(pk__in=[]), []),
        (~Q(pk__in=[]), [1, 2, 3, 4]),
        (Q(payload__mood="it's") | Q(attempts__gt=5), [2]),
    ],
)
def test_a_worker_claims_only_what_the_filter_admits(
    settings: Any, monkeypatch: pytest.MonkeyPatch, condition: Q, numbers: list[int]
) -> None:
    """Values are parameters, quotes and per cent signs or not; the rest stays for others."""
    from tests.app import listeners

    for mood in ("it's", "100%s"):
        monkeypatch.setitem(listeners.MOODS, mood, lambda: None)
    jobs("good", "it's", "100%s", "good")
    drain(choosing(settings, condition))
    assert called == numbers
    assert sorted(stored()) == [one for one in (1, 2, 3, 4) if one not in numbers]


def test_a_message_that_the_filter_excludes_holds_up_its_key(settings: Any) -> None:
    """Somebody else wants it, and first."""
    jobs("quiet", "good", "quiet", channel=lambda **fields: Step(account="a", **fields))
    drain(choosing(settings, Q(payload__mood="quiet")), Step)
    assert called == [1]
    drain(choosing(settings, Q()), Step)
    assert called == [1, 2, 3]


def test_an_unknown_field_is_an_error_before_anything_is_claimed(settings: Any) -> None:
    with pytest.raises(FieldError, match="nothing"):
        choosing(settings, Q(nothing=1))


def test_a_filtered_claim_still_uses_the_index() -> None:
    """P6."""
    sql(
        "INSERT INTO pgpubsub_sql_notification (channel, payload)"
        " SELECT 'app.Job', '{\"region\": 1}' FROM generate_series(1, 100000)"
    )
    sql("ANALYZE pgpubsub_sql_notification")
    compiled = compile_filter(Q(payload__region=1), "default")
    lane = Lane("app.Job")._asdict()
    parameters = lane | {"keyless": False, "limit": 100, "bytes": claims.CLAIM_BYTES}
    where = {"after": "-infinity", "after_id": 0}
    statement = claims.statement("take", compiled.text)
    nodes = explained(statement, parameters | where | dict(compiled.values))
    assert "Seq Scan" not in {one["Node Type"] for one in nodes}
    assert max(one["Actual Rows"] * one["Actual Loops"] for one in nodes) == 100
