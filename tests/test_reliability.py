"""Every row of docs/reliability.md names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("|") and "`tests/" in line
]


def names_in(path):
    """Tests of a file, those of classes as ``Class::test``."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{part.name}" for part in node.body if hasattr(part, "name")}
    return found


def test_there_are_thirty_rows_at_least():
    assert len(ROWS) >= 30
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_test_of_a_row_is_there(row):
    assert len(row) == 3 and all(row), "what happens | what the user sees | test"
    tests = re.findall(r"`(tests/[^`]+)`", row[2])
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name in names_in(ROOT / file), test
