"""Triggers follow any sequence of changes to models and channels.

Random projects live through random changes, by the real commands. After each step there is nothing
left to write or to repair, and every write tells exactly what is declared. These are a few short
lives; ``make test-long`` runs many long ones.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.migrations.cases import tell
from tests.migrations.harness import Files, Project
from tests.migrations.versions import app, channel, model, on

LABELS = ("aardvark", "zebra")
EVENTS = ("insert", "update", "delete")

labels = st.sampled_from(LABELS)
some_events = st.lists(st.sampled_from(EVENTS), min_size=1, unique=True)
types = st.sampled_from(["IntegerField", "TextField"])
options = st.fixed_dictionaries(
    {"lock_notifications": st.booleans(), "level": st.sampled_from(["statement", "row"])}
)


@dataclasses.dataclass(eq=False)
class Field:
    """A field, by the name and of the type that it has now."""

    name: str
    kind: str

    @property
    def source(self) -> str:
        return f"{self.name} = models.{self.kind}(null=True)"


@dataclasses.dataclass(eq=False)
class Model:
    """A model, in an app, by the name that it has now."""

    label: str
    name: str
    fields: list[Field] = dataclasses.field(default_factory=list)

    @property
    def source(self) -> str:
        return model(self.name, *(field.source for field in self.fields))

    @property
    def table(self) -> str:
        return f"{self.label}_{self.name.lower()}"


@dataclasses.dataclass(eq=False)
class Channel:
    """A channel, and the events that it has listeners for."""

    label: str
    name: str
    model: Model
    events: list[str]
    options: dict[str, object]
    named: Field | None = None
    """A field that travels alone, and without whose change no update is told."""

    @property
    def source(self) -> str:
        names = (self.named.name,) if self.named else ()
        named = {"columns": names, "watch": names} if names else {}
        model = f"{self.model.label}.{self.model.name}"
        return channel(self.name, model=model, **self.options, **named)

    @property
    def listeners(self) -> str:
        return on(*self.events, of=f"{self.label}.channels.{self.name}")

    @property
    def tells(self) -> list[str]:
        told = [event for event in self.events if event != "update" or not self.named]
        return [f"{self.label}.{self.name} {event.upper()}" for event in told]


class Life(RuleBasedStateMachine):
    """Each rule is a change of the code; the invariant brings the database there."""

    new_project: Callable[..., Project]

    def __init__(self) -> None:
        super().__init__()
        self.project = self.new_project(apps=["pgpubsub_sql", *LABELS])
        self.numbers = itertools.count()
        self.models: list[Model] = []
        self.channels: list[Channel] = []
        self.answers = ""

    def fresh(self, prefix: str) -> str:
        """Return a name that was never used before."""
        return f"{prefix}{next(self.numbers)}"

    # --- Models -----------------------------------------------------------------------------------

    @initialize(label=labels)
    def begin(self, label: str) -> None:
        self.a_model_comes(label)
        self.channels.append(Channel("zebra", "First", self.models[0], ["insert"], {}))

    @rule(label=labels)
    def a_model_comes(self, label: str) -> None:
        self.models.append(Model(label, self.fresh("Model")))

    @precondition(lambda self: len(self.models) > 1)
    @rule(data=st.data())
    def a_model_goes_with_its_channels(self, data: st.DataObject) -> None:
        gone = self._some_model(data)
        self.models.remove(gone)
        self.channels = [one for one in self.channels if one.model is not gone]

    @rule(data=st.data())
    def a_model_is_renamed(self, data: st.DataObject) -> None:
        self._some_model(data).name = self.fresh("Model")
        self.answers = "y\n"

    @rule(data=st.data())
    def a_model_moves_to_another_app_without_its_rows(self, data: st.DataObject) -> None:
        moved = self._some_model(data)
        (moved.label,) = {*LABELS} - {moved.label}

    # --- Fields -----------------------------------------------------------------------------------

    @rule(data=st.data(), kind=types)
    def a_field_comes(self, data: st.DataObject, kind: str) -> None:
        self._some_model(data).fields.append(Field(self.fresh("field"), kind))

    @precondition(lambda self: any(one.fields for one in self.models))
    @rule(data=st.data())
    def a_field_goes(self, data: st.DataObject) -> None:
        changed, gone = self._some_field(data)
        changed.fields.remove(gone)
        for one in self.channels:
            one.named = None if one.named is gone else one.named

    @precondition(lambda self: any(one.fields for one in self.models))
    @rule(data=st.data())
    def a_field_is_renamed(self, data: st.DataObject) -> None:
        self._some_field(data)[1].name = self.fresh("field")
        self.answers = "y\n"

    @precondition(lambda self: any(one.fields for one in self.models))
    @rule(data=st.data())
    def a_field_is_of_another_type(self, data: st.DataObject) -> None:
        _, changed = self._some_field(data)
        changed.kind = "CharField" if changed.kind == "TextField" else "TextField"

    # --- Channels ---------------------------------------------------------------------------------

    @rule(data=st.data(), label=labels, events=some_events, options=options)
    def a_channel_comes(
        self, data: st.DataObject, label: str, events: list[str], options: dict[str, object]
    ) -> None:
        watched = self._some_model(data)
        self.channels.append(Channel(label, self.fresh("Channel"), watched, events, options))

    @precondition(lambda self: self.channels)
    @rule(data=st.data())
    def a_channel_goes(self, data: st.DataObject) -> None:
        self.channels.remove(self._some_channel(data))

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), events=some_events)
    def other_events_are_listened_to(self, data: st.DataObject, events: list[str]) -> None:
        self._some_channel(data).events = events

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), options=options)
    def a_channel_has_other_options(self, data: st.DataObject, options: dict[str, object]) -> None:
        self._some_channel(data).options = options

    @precondition(lambda self: self.channels)
    @rule(data=st.data())
    def a_channel_is_renamed(self, data: st.DataObject) -> None:
        self._some_channel(data).name = self.fresh("Channel")

    @precondition(lambda self: self.channels)
    @rule(data=st.data())
    def a_channel_moves_to_another_app(self, data: st.DataObject) -> None:
        moved = self._some_channel(data)
        (moved.label,) = {*LABELS} - {moved.label}

    @precondition(lambda self: self.channels)
    @rule(data=st.data())
    def a_channel_moves_to_another_model(self, data: st.DataObject) -> None:
        moved = self._some_channel(data)
        moved.model, moved.named = self._some_model(data), None

    @precondition(lambda self: any(one.model.fields for one in self.channels))
    @rule(data=st.data())
    def a_channel_names_a_field(self, data: st.DataObject) -> None:
        able = [one for one in self.channels if one.model.fields]
        changed = data.draw(st.sampled_from(able))
        changed.named = data.draw(st.sampled_from(changed.model.fields))

    @precondition(lambda self: self.channels)
    @rule(data=st.data())
    def a_channel_names_no_field(self, data: st.DataObject) -> None:
        self._some_channel(data).named = None

    # --- Migrations -------------------------------------------------------------------------------

    @rule(data=st.data(), label=labels)
    def an_app_goes_back(self, data: st.DataObject, label: str) -> None:
        """What is unapplied is applied again by the invariant."""
        names = ["zero", *self.project.migrations(label)]
        self.project.run("migrate", label, data.draw(st.sampled_from(names)))
        for one in self.models:  # whatever is there by now
            tell(self.project, one.table)

    # --- What is always so ------------------------------------------------------------------------

    @invariant()
    def the_triggers_follow(self) -> None:
        self._bring_up_to_date()
        assert "No changes detected" in self.project.run("makemigrations", "--check")
        assert "agree" in self.project.run("pgpubsub", "verify")
        for one in self.models:
            told = tell(self.project, one.table)
            declared = [
                what for channel in self.channels if channel.model is one for what in channel.tells
            ]
            assert collections.Counter(told) == collections.Counter(declared)
        functions = {(one.label, one.name) for one in self.channels}
        assert len(self.project.catalogue().functions) == len(functions)

    def _bring_up_to_date(self) -> None:
        files: Files = {}
        for label in LABELS:
            files |= {f"{label}/migrations/__init__.py": "", **self._app(label)}
        self.project.write(files)
        note(self.project.run("makemigrations", answers=self.answers))
        self.answers = ""
        self.project.run("migrate")

    def _app(self, label: str) -> Files:
        ours = [one for one in self.channels if one.label == label]
        return app(
            label,
            models="".join(one.source for one in self.models if one.label == label),
            channels="".join(one.source for one in ours),
            listeners="".join(one.listeners for one in ours),
        )

    def _some_model(self, data: st.DataObject) -> Model:
        return data.draw(st.sampled_from(self.models))

    def _some_channel(self, data: st.DataObject) -> Channel:
        return data.draw(st.sampled_from(self.channels))

    def _some_field(self, data: st.DataObject) -> tuple[Model, Field]:
        fields = [(one, field) for one in self.models for field in one.fields]
        return data.draw(st.sampled_from(fields))


def test_triggers_follow_any_changes_in_any_order(new_project: Callable[..., Project]) -> None:
    """T1, T2, T3, T9, P24: see the head of this file."""
    long = settings.get_current_profile_name() == "long"
    lives = settings(
        max_examples=100 if long else 3,
        stateful_step_count=25 if long else 8,
        derandomize=not long,  # every day the same
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine = type("Life", (Life,), {"new_project": staticmethod(new_project)})
    run_state_machine_as_test(machine, settings=lives)
