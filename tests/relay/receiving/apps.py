import os

from django.apps import AppConfig


class Receiving(AppConfig):
    name = "tests.relay.receiving"
    label = "receiving"

    def ready(self) -> None:
        from tests.app.channels import Job

        if "origin" in os.environ["RELAY"]:
            Job.relay = True
        else:
            Job.received_from = "nats"
