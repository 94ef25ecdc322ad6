"""What lies here for others to collect."""

collect_ignore = ["project"]
"""Its tests are run in a copy, by ``trials.py``."""
