"""What pytest runs besides, with the fixture."""

import pytest

from shop.channels import OrderChannel, Shipped
from shop.listeners import confirm, tell
from shop.models import Mail, Order


@pytest.mark.django_db
@pytest.mark.timeout(60, method="signal")
@pytest.mark.parametrize("number", range(4))
def test_captured_and_handled(pubsub, number):
    pubsub.discard()  # what data migrations have sent
    with pubsub.capture() as sent:
        Order.objects.create(name=f"tea {number}")
    assert [message.new.name for message in sent.of(OrderChannel)] == [f"tea {number}"]
    pubsub.drain()
    pubsub.assert_handled(confirm, count=1)
    pubsub.assert_handled(tell, name=f"tea {number}")
    assert Mail.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_committed(pubsub):
    pubsub.discard()
    with pubsub.capture():
        Order.objects.create(name="tea")
    pubsub.drain()
    pubsub.assert_handled(tell, name="tea")


@pytest.mark.django_db(databases=["other"])
def test_another_database(pubsub):
    with pubsub.capture(using="other"):
        Order.objects.using("other").create(name="tea")
    pubsub.assert_sent(OrderChannel, new__name="tea")
    pubsub.assert_not_sent(Shipped)
