"""Benchmarks of pgpubsub_sql, its peers and the raw limit: ``python -m benchmarks --help``.

``goals`` says what is measured, ``programs`` holds one child process for each contestant,
``stage`` starts the server and the children, ``reporting`` and ``plots`` show the results.
"""
