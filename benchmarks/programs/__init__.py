"""The contestants. Each module is a child process that reads requests; see ``program``.

They run in the environments of the peers, so ``program`` needs only the standard library.
"""
