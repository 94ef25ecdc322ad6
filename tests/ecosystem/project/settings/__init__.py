"""A module for each package, beside what they have in common."""
