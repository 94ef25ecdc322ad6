"""Sources of apps, in the versions that tests need."""

from __future__ import annotations

from tests.migrations.harness import Files


class Source:
    """What stands in a source as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def app(label: str, *, models: str = "", channels: str = "", listeners: str = "") -> Files:
    """Return the files of an app, without a migrations package."""
    return {
        f"{label}/__init__.py": "",
        f"{label}/models.py": f"from django.db import models\n\n{models}",
        f"{label}/channels.py": f"import pgpubsub_sql\nfrom django.db.models import Q\n\n{channels}",
        f"{label}/listeners.py": f"import pgpubsub_sql\n\n{listeners}",
    }


def blog(*, models: str = "", channels: str = "", listeners: str = "") -> Files:
    """Return the files of the app that most projects have, with a migrations package."""
    parts = app("blog", models=models, channels=channels, listeners=listeners)
    return {**parts, "blog/migrations/__init__.py": ""}


def model(name: str = "Author", *fields: str, meta: str = "") -> str:
    """Return the source of a model with a name that can be given, and *fields*."""
    lines = ["name = models.TextField()", *fields]
    if meta:
        lines.append(f"class Meta:\n        {meta}")
    return "\n    ".join([f"class {name}(models.Model):", *lines]) + "\n\n"


def channel(name: str = "Authors", *, model: str = "blog.Author", **options: object) -> str:
    """Return the source of a durable channel."""
    options = {"model": model, "lock_notifications": True} | options
    lines = [f"{option} = {value!r}" for option, value in options.items()]
    return "\n    ".join([f"class {name}(pgpubsub_sql.TriggerChannel):", *lines]) + "\n\n"


def on(*events: str, of: str = "blog.channels.Authors", when: str = "after") -> str:
    """Return the source of one listener an event."""
    return "".join(
        f"@pgpubsub_sql.trigger_listener({of!r}, events=({event!r},), when={when!r})\n"
        f"def {of.rpartition('.')[2].lower()}_{event}(old, new): ...\n\n"
        for event in events
    )


AUTHOR = model("Author")
WRITER = model("Writer")


def authors(*events: str, models: str = AUTHOR, **options: object) -> Files:
    """Return the files of an app with one channel that has a listener for each of *events*."""
    return blog(
        models=models,
        channels=channel("Authors", **options) if events else "",
        listeners=on(*events),
    )


def people(models: str = AUTHOR) -> Files:
    """Return the files of an app that has nothing but models."""
    return app("people", models=models) | {"people/migrations/__init__.py": ""}


def watcher(label: str, watched: str | None, *events: str, **options: object) -> Files:
    """Return the files of an app with a channel on somebody else's model, or without it."""
    channels = channel(model=watched, **options) if watched else ""
    listeners = on(*(events or ("insert",)), of=f"{label}.channels.Authors") if watched else ""
    files = app(label, channels=channels, listeners=listeners)
    return files | {f"{label}/migrations/__init__.py": ""}
