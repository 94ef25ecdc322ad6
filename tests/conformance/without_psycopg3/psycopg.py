"""Stands before psycopg 3, where that is installed, so that Django finds none."""

raise ModuleNotFoundError("The tests want this process to use psycopg2.")
