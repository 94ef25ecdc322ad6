"""What ``listen --relay`` does: it publishes, and receives beside that."""

from __future__ import annotations

from collections.abc import Iterable

from pgpubsub_sql.channels import BaseChannel, relayed_channels
from pgpubsub_sql.relay.publisher import PublishingWorker
from pgpubsub_sql.relay.receiver import Beside, Receiver, received_channels
from pgpubsub_sql.relay.settings import RelaySettings
from pgpubsub_sql.worker.shutdown import Shutdown


def run(
    channels: Iterable[type[BaseChannel]], settings: RelaySettings, *, using: str, name: str = ""
) -> None:
    """Publish and receive the messages of *channels* until SIGTERM or SIGINT."""
    chosen = list(channels)
    published = [one for one in relayed_channels() if one in chosen]
    received = [one for one in received_channels() if one in chosen]

    def receiver(shutdown: Shutdown) -> Receiver:
        return Receiver(received, settings, using=using, shutdown=shutdown)

    if not published:
        with Shutdown(aborts=True) as shutdown:
            receiver(shutdown).run()
        return
    worker = PublishingWorker(published, settings, using=using, name=name)
    if not received:
        worker.run()
        return
    with Beside(receiver, worker.shutdown.request):
        worker.run()
