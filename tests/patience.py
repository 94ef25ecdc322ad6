"""Tests do not wait minutes for a worker of another version; those that are about this say so."""

from __future__ import annotations

from pgpubsub_sql.worker import outcomes

WAITS = outcomes.READ_AGAIN_SECONDS
"""What users have."""

outcomes.READ_AGAIN_SECONDS = ()
