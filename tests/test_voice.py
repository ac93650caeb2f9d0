"""Plain English in everything that users and maintainers read: nouns of the field in place of unnamed persons."""

import re

import pytest

from tests.support import ROOT

PERSON = re.compile(r"\b(whoever|nobody|everybody|somebody|anybody)\b", re.IGNORECASE)
WHO = re.compile(r"\bWho\b[^.?!|]*(.?)", re.DOTALL)
"""A capital letter begins a sentence; the group is its end."""

PLACES = ("hotconf", "docs", "examples", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".js", ".html", ".css", ".toml", ".md", ".yaml", ".service"}
FILES = sorted(
    str(path.relative_to(ROOT))
    for place in PLACES
    for path in [ROOT / place, *(ROOT / place).rglob("*")]
    if path.is_file() and path.suffix in SUFFIXES
)


def offences(text):
    """Yield the line number and the words of each sentence that speaks of an unnamed person."""
    for found in [*PERSON.finditer(text), *WHO.finditer(text)]:
        if found.re is PERSON or found[1] != "?":
            yield text.count("\n", 0, found.start()) + 1, found[0].split("\n")[0]


@pytest.mark.parametrize("file", FILES)
def test_a_file_speaks_of_readers_tasks_and_clients(file):
    found = [f"{file}:{line}: {words}" for line, words in offences((ROOT / file).read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_an_offence_is_found_by_its_line():
    assert list(offences("# one\n# Whoever reads this.\n")) == [(2, "Whoever")]
    assert list(offences("Who asks\nmust wait. Who asks?\n")) == [(1, "Who asks")]
    assert not list(offences("Those who ask. Whole. A whoeverness."))
