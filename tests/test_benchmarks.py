"""The tables in the documentation are those of the results."""

import importlib
import json

import pytest
from runs import ROOT

PAGES = [ROOT / "docs" / name for name in ("benchmarks.md", "adaptation.md")]


@pytest.fixture(scope="module")
def tables():
    return importlib.import_module("tables")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_tables_are_those_of_the_results(page, tables):
    text = page.read_text()
    assert tables.render(text) == text, "run: python benchmarks/tables.py"


def test_results_say_where_they_come_from():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        content = json.loads(path.read_text())
        rows = content.get("rows") or [row["run"] for row in content.values()]
        assert rows
        for row in rows:
            assert {"command", "date", "versions", "commit"} <= row.keys(), path.name
