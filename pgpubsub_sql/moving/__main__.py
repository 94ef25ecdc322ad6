"""``python -m pgpubsub_sql.moving PATH``: show or write what changes in the source."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

try:
    import libcst
except ImportError:
    sys.exit("This needs libcst. Run: pip install 'pgpubsub-sql[moving]'")

from pgpubsub_sql.moving.fields import Fields, fields_of
from pgpubsub_sql.moving.rewriting import rewrite

_HELP = """Rewrite the source of a project from django-pgpubsub to pgpubsub_sql.

Imports, INSTALLED_APPS and names of loggers are changed. What has no counterpart is listed, by file
and line. Without --write, nothing is written, and the changes are shown as a diff. Migrations are
never changed.
"""
_IGNORED = {"node_modules", "site-packages", "__pycache__"}


def main(arguments: list[str] | None = None) -> int:
    """Show or write the changes; return 1 if something is left to do by hand."""
    parser = argparse.ArgumentParser(
        prog="python -m pgpubsub_sql.moving",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="A file or directory.")
    parser.add_argument("--write", action="store_true", help="Write the changes.")
    options = parser.parse_args(arguments)
    if missing := [path for path in options.paths if not path.exists()]:
        parser.error(f"there is no {missing[0]}")
    files = [*_files(options.paths)]
    fields = {name: found for path in files for name, found in _fields(path)}
    left = [line for path in files for line in _move(path, fields, write=options.write)]
    print("\n".join(left), end="\n" if left else "")
    return 1 if left else 0


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the Python files at *paths*, but none in hidden directories or environments."""
    for path in paths:
        if path.is_file():
            yield path
            continue
        for file in sorted(path.rglob("*.py")):
            parts = file.relative_to(path).parts
            if not any(part in _IGNORED or part.startswith(".") for part in parts):
                yield file


def _fields(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the channels that a file declares, with the annotations of their fields."""
    source = path.read_bytes()
    with suppress(libcst.ParserSyntaxError, UnicodeDecodeError):  # _move() says so
        if b"Channel" in source:
            yield from fields_of(source).items()


def _move(path: Path, fields: Fields, *, write: bool) -> Iterator[str]:
    """Change one file, or show how, and yield what is left to do in it."""
    source = path.read_bytes()
    try:
        changed, left = rewrite(source, fields=fields, is_migration="migrations" in path.parts)
    except (libcst.ParserSyntaxError, UnicodeDecodeError) as error:
        yield f"{path}: it cannot be read as Python: {str(error).partition('.')[0]}"
        return
    if changed != source:
        if write:
            path.write_bytes(changed)
            print(f"Changed {path}")
        else:
            sys.stdout.writelines(_diff(path, source, changed))
    yield from (f"{path}:{line}: {text}" for line, text in left)


def _diff(path: Path, old: bytes, new: bytes) -> Iterator[str]:
    before, after = (text.decode(errors="replace").splitlines(True) for text in (old, new))
    return difflib.unified_diff(before, after, str(path), str(path))


if __name__ == "__main__":
    sys.exit(main())
