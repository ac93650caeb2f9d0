"""The invariants of docs/design.md: each has tests with its number."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
INVARIANTS = {f"I{number}" for number in (*range(1, 29), 31, 32)}


def test_every_invariant_has_a_test_that_bears_its_number():
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    named = set(re.findall(r"def test_\w*?(I\d+)_", text))
    assert named == INVARIANTS
