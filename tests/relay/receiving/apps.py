import json
import os

from django.apps import AppConfig


class Receiving(AppConfig):
    name = "tests.relay.receiving"
    label = "receiving"

    def ready(self) -> None:
        from tests.app.channels import Job, Step

        given = json.loads(os.environ["RELAY"])
        Job.relay = "origin" in given
        if "sources" in given:
            (Step if Job.relay else Job).received_from = "nats"
