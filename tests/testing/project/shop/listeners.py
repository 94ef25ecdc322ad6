import pgpubsub_sql
from shop.channels import OrderChannel, Shipped
from shop.models import Mail, Order


@pgpubsub_sql.post_insert_listener(OrderChannel)
def confirm(new: Order, notification: pgpubsub_sql.Notification) -> None:
    using = notification._state.db
    Mail.objects.using(using).create(text=f"ordered: {new.name}")
    pgpubsub_sql.notify(Shipped(new.name), using=using)


@pgpubsub_sql.listener(Shipped)
def tell(name: str, notification: pgpubsub_sql.Notification) -> None:
    Mail.objects.using(notification._state.db).create(text=f"shipped: {name}")
