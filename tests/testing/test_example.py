"""The tests of the example, which show how a project uses the kit."""

from __future__ import annotations

from example.blog.tests import BlogTest

__all__ = ["BlogTest"]
