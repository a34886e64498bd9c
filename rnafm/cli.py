"""The command ``rnafm``: tools first, Lightning's verbs after."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, get_type_hints

from rnafm import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "fit": "Train a task: pretraining or fine-tuning.",
    "validate": "Score a checkpoint on the validation split.",
    "test": "Score a checkpoint on the test split.",
    "predict": "Predict with a trained task.",
}
TOOLS = ("prepare", "inspect", "convert", "fill-mask", "embed")


def main(args: Sequence[str] | None = None) -> None:
    """Run ``rnafm``.

    Args:
        args: Words of the command line; those of the process if not given.
    """
    words = sys.argv[1:] if args is None else list(args)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())  # noqa: T201
    elif words[0] == "--version":
        print(f"rnafm {__version__}")  # noqa: T201
    elif words[0] in TOOLS:
        _run_tool(words[0], words[1:])
    elif words[0] in VERBS:
        from rnafm.training import run

        # Words are passed on only if they are not those of the process: Lightning warns otherwise.
        run(None if args is None else words)
    else:
        known = ", ".join([*VERBS, *TOOLS])
        sys.exit(f"rnafm: there is no command {words[0]!r} (there are: {known})")


def _tool(name: str) -> Callable[..., Any]:
    module = name.replace("-", "_")
    return getattr(importlib.import_module(f"rnafm.tools.{module}"), module)  # type: ignore[no-any-return]


def _overview() -> str:
    """Every verb and tool with one line."""
    lines = [
        "usage: rnafm COMMAND [options]      (rnafm COMMAND --help for its options)",
        "",
        "Train, with a configuration (rnafm fit --config configs/pretrain/tiny.yaml):",
        *(f"  {name:<10} {text}" for name, text in VERBS.items()),
        "",
        "Tools:",
        *(f"  {name:<10} {(_tool(name).__doc__ or '').splitlines()[0]}" for name in TOOLS),
        "",
        "  --version  Show the version.",
    ]
    return "\n".join(lines)


def _run_tool(name: str, words: list[str]) -> None:
    """Turn a tool's signature into options; ``*names`` become bare words."""
    from docstring_parser import parse
    from jsonargparse import ArgumentParser

    function = _tool(name)
    text = parse(function.__doc__ or "")
    parser = ArgumentParser(prog=f"rnafm {name}", description=text.description)
    parameters = inspect.signature(function).parameters.values()
    bare = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    for word in bare:
        about = next((p.description for p in text.params if p.arg_name == f"*{word}"), None)
        parser.add_argument(word, nargs="+", type=get_type_hints(function)[word], help=about)
    parser.add_function_arguments(function)
    options = vars(parser.instantiate_classes(parser.parse_args(words)))
    positional = [value for word in bare for value in options.pop(word)]
    try:
        function(*positional, **options)
    except (ValueError, OSError) as error:  # what a user can put right needs no traceback
        sys.exit(f"rnafm {name}: {error}")
