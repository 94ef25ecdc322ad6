"""What is known of the models of migrations without rendering them."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import models
from django.db.migrations.state import ModelState, ProjectState

from pgpubsub_sql.django_internals import table_of


def in_state(*states: ModelState) -> ProjectState:
    return ProjectState({(one.app_label, one.name_lower): one for one in states})


def named(name: str, *bases: str, **options: object) -> ModelState:
    fields = [] if bases else [("id", models.BigAutoField(primary_key=True))]
    return ModelState("blog", name, fields, options=options, bases=bases or None)


@pytest.mark.parametrize(
    ("states", "model"),
    [
        ([named("Post")], "blog.Post"),
        ([named("Post")], "blog.post"),
        ([named("Post", db_table="Some Posts")], "blog.Post"),
        ([named("P" * 80)], f"blog.{'P' * 80}"),
        ([named("Post", db_table="posts"), named("Short", "blog.post", proxy=True)], "blog.Short"),
    ],
)
def test_a_models_table_is_the_one_that_django_renders(
    states: list[ModelState], model: str
) -> None:
    state = in_state(*states)
    found = table_of(state, model)
    assert found == state.apps.get_model(model)._meta.db_table


def test_tables_of_many_to_many_fields_are_found() -> None:
    state = ProjectState.from_apps(apps)
    assert table_of(state, "auth.User_groups") == "auth_user_groups"


def test_only_a_model_that_needs_it_is_rendered() -> None:
    state = in_state(named("Post"))
    assert table_of(state, "blog.Post") == "blog_post"
    assert "apps" not in state.__dict__


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(LookupError):
        table_of(in_state(named("Post")), "blog.Author")
