"""What ``manage.py test`` runs, in one process or several."""

import unittest

from django.test import TestCase, TransactionTestCase, tag

from pgpubsub_sql.testing import PubSubTestMixin, assert_triggers_installed
from shop.channels import OrderChannel
from shop.listeners import confirm, tell
from shop.models import Mail, Order

try:
    import factory
except ImportError:
    factory = None


class Discarding(PubSubTestMixin):
    """Without the messages that data migrations have sent."""

    databases = frozenset({"default"})

    def setUp(self):
        for using in self.databases - {"replica"}:
            self.pubsub.discard(using=using)


class OrderTest(Discarding, TestCase):
    @classmethod
    def setUpTestData(cls):
        with cls.pubsub.muted():
            Order.objects.create(name="of the class")

    def test_captured_and_handled(self):
        with self.pubsub.capture(on_commit=True):
            Order.objects.create(name="tea")
        self.assertSent(OrderChannel, op="INSERT", new__name="tea", count=1)
        self.pubsub.drain()
        self.assertHandled(confirm, count=1)
        self.assertHandled(tell, name="tea", count=1)
        texts = list(Mail.objects.order_by("id").values_list("text", flat=True))
        self.assertEqual(texts, ["ordered: tea", "shipped: tea"])

    def test_nothing_is_left_of_other_tests(self):
        self.assertEqual(Order.objects.exclude(name="of a migration").count(), 1)
        self.assertEqual(len(self.pubsub.drain()), 0)

    async def test_async(self):
        async with self.pubsub.capture():
            await Order.objects.acreate(name="tea")
        self.assertSent(OrderChannel, new__name="tea")
        await self.pubsub.adrain()
        self.assertHandled(tell, name="tea")

    @unittest.skipUnless(factory, "factory_boy is not installed")
    def test_factories(self):
        class OrderFactory(factory.django.DjangoModelFactory):
            class Meta:
                model = Order

            name = factory.Sequence(lambda number: f"order {number}")

        with self.pubsub.capture():
            OrderFactory.create_batch(3)
        self.assertSent(OrderChannel, count=3)
        with self.pubsub.muted():
            OrderFactory()
        self.pubsub.drain()
        self.assertHandled(confirm, count=3)


class OtherDatabaseTest(Discarding, TestCase):
    databases = frozenset({"default", "other"})

    def test_each_has_its_own_messages(self):
        with self.pubsub.capture() as here, self.pubsub.capture(using="other") as there:
            Order.objects.create(name="here")
            Order.objects.using("other").create(name="there")
        self.assertEqual([message.new.name for message in here], ["here"])
        self.assertEqual([message.new.name for message in there], ["there"])
        self.pubsub.drain(using="other")
        self.assertEqual(Mail.objects.using("other").count(), 2)
        self.assertFalse(Mail.objects.exists())


class TriggersTest(TestCase):
    databases = "__all__"

    def test_triggers(self):
        assert_triggers_installed()


class LiveTest(Discarding, TransactionTestCase):
    databases = frozenset({"default", "replica"})

    def test_a_worker(self):
        with self.pubsub.live_worker():
            Order.objects.create(name="tea")
            self.assertHandled(tell, name="tea", within=20)

    def test_captured_and_handled(self):
        with self.pubsub.capture():
            Order.objects.create(name="tea")
        self.assertSent(OrderChannel, new__name="tea")
        self.pubsub.drain()
        self.assertHandled(tell, name="tea")

    def test_a_mirror(self):
        with self.pubsub.capture(using="replica"):
            Order.objects.create(name="tea")
        self.assertSent(OrderChannel, new__name="tea", count=1)


@tag("serialized")
class SerializedTest(Discarding, TransactionTestCase):
    serialized_rollback = True

    def test_rows_of_data_migrations_are_back(self):
        self.assertEqual(Order.objects.filter(name="of a migration").count(), 1)
        self.assertEqual(len(self.pubsub.drain()), 0)

    test_and_again = test_rows_of_data_migrations_are_back
