"""Real packages that watch, wrap or pool connections: ``make test-ecosystem``.

:mod:`.packages` is the table. Each package is installed from PyPI into an environment of its own,
and :mod:`.scenario` is played with it: a copy of ``project`` with the settings that the package
asks for, a real server, real processes. Only the table is part of the everyday suite, which
compares it with ``docs/reference/compatibility.md``.
"""
