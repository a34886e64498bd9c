"""Who may import whom, read from the import statements at module level."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rnafm"
COUNTS = ("costs", "devices")  # formulas and tables, which need nothing but Python
# What each layer may import from the package, and what it may not import from outside.
ALLOWED = {
    "modules": ("rnafm.modules",),
    "data": ("rnafm.data", "rnafm.files"),
    "tasks": ("rnafm.tasks", "rnafm.modules", "rnafm.data", "rnafm.moments"),
    "reports": ("rnafm.reports", "rnafm.files"),
    "callbacks": (
        "rnafm.callbacks",
        "rnafm.files",
        "rnafm.moments",
        *(f"rnafm.planning.{each}" for each in COUNTS),
    ),
    "tools": ("rnafm.tools", "rnafm.files"),
}
# Tasks take batches, vocabularies, masks, what labels are and kept embeddings from data, but no
# tables, stores or data modules; and a task takes nothing from another one.
TASKS_TAKE = {
    f"rnafm.data.{name}"
    for name in ("batch", "counter", "embedding_cache", "labels", "masking", "resume", "vocabulary")
}
TASKS = {f"rnafm.tasks.{name}" for name in ("contact", "masked_lm", "sequence", "token")}
SMALL = {"modules": {"torch", "numpy"}, "reports": {"numpy"}, "tools": {"numpy"}}
STANDARD = set(__import__("sys").stdlib_module_names)


def imports(path):
    """Modules imported at module level, those for type checking left out."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("name", COUNTS)
def test_formulas_need_nothing(name):
    for imported in imports(PACKAGE / "planning" / f"{name}.py"):
        assert imported in STANDARD, imported


FILES = [path for layer in ALLOWED for path in sorted((PACKAGE / layer).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_layer_imports_only_what_lies_below(path):
    layer = path.relative_to(PACKAGE).parts[0]
    for name in imports(path):
        if name.startswith("rnafm"):
            own_init = path.name == "__init__.py" and name.startswith(f"rnafm.{layer}")
            assert own_init or name.startswith(ALLOWED[layer]), name
            if layer == "tasks" and name.startswith("rnafm.data"):
                assert name in TASKS_TAKE, name
            assert layer != "tasks" or own_init or name not in TASKS, name
        elif layer in SMALL:
            assert name.split(".")[0] in STANDARD | SMALL[layer], name
