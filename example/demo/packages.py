"""The demo's input: what is known about the Python packages that are installed here."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from email.utils import getaddresses
from importlib.metadata import Distribution, distributions

# A line of an AUTHORS file: a name, perhaps an address. Prose has other marks or more words.
_PERSON = re.compile(r"\s*([^\W\d_][^<>@:/,()!?]*?)\.?(?:\s*<[^<>]+>)?")
_MOST_WORDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """One installed package."""

    name: str
    """With its version."""
    people: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    """Titles and contents: the description, and the licences that came with it."""
    tags: tuple[str, ...]
    """Its classifiers."""


def summarise(packages: Sequence[Package]) -> str:
    """Return in a few words how much there is."""
    people = {person for package in packages for person in package.people}
    accented = sum(not person.isascii() for person in people)
    sizes = [len(text.encode()) for package in packages for _, text in package.texts]
    return (
        f"{len(packages)} packages by {len(people):,} people, {accented} of them not in ASCII; "
        f"{len(sizes)} texts, {max(sizes) // 1000} kB the longest"
    )


def read_packages(limit: int | None = None) -> list[Package]:
    """Return the installed packages by name, at most *limit*."""
    named = ((one.metadata["Name"], one) for one in distributions())
    # What pip left half uninstalled has no name.
    found = {name.lower(): one for name, one in named if name}
    return [_read(found[name]) for name in sorted(found)[:limit]]


def _read(distribution: Distribution) -> Package:
    metadata = distribution.metadata
    name = _clean(f"{metadata['Name']} {distribution.version}")
    summary = _clean(metadata.get("Summary") or "")
    description = metadata.get("Description") or metadata.get_payload() or summary
    documents = [(f"{name}: {summary}", _clean(description))]
    documents += [(f"{name}: {path}", text) for path, text in _documents(distribution)]
    return Package(
        name=name,
        people=tuple(dict.fromkeys(_people(distribution))) or (f"The authors of {name}",),
        texts=tuple(documents),
        tags=tuple(dict.fromkeys(metadata.get_all("Classifier") or ())),
    )


def _documents(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Yield the licences and lists of authors that a package brings along."""
    for path in distribution.files or ():
        if re.search(r"\.dist-info/.*(AUTHORS|LICEN[CS]E|COPYING|NOTICE)", str(path)):
            text = path.locate().read_text(encoding="utf-8", errors="replace")
            yield str(path), _clean(text)


def _people(distribution: Distribution) -> Iterator[str]:
    metadata = distribution.metadata
    for role in ("Author", "Maintainer"):
        addresses = getaddresses(metadata.get_all(f"{role}-email") or [])
        yield from (_clean(name) for name, _ in addresses if name)
        if name := metadata.get(role):
            yield _clean(name)
    for path, text in _documents(distribution):
        if "AUTHORS" in path:
            yield from _listed(text)


def _listed(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = _PERSON.fullmatch(line.rstrip())
        if match and len(match[1].split()) <= _MOST_WORDS:
            yield match[1]


def _clean(text: object) -> str:
    """Return *text* without what PostgreSQL's text cannot hold."""
    return str(text).replace("\0", "").encode(errors="replace").decode()
