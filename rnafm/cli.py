"""The command ``rnafm``: tools first, Lightning's verbs after."""

from __future__ import annotations

import errno
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from rnafm import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "fit": "Train a task: pretraining or fine-tuning.",
    "validate": "Score a checkpoint on the validation split.",
    "test": "Score a checkpoint on the test split: a report beside simple baselines.",
}
TOOLS = (
    "prepare",
    "inspect",
    "plan",
    "convert",
    "fill-mask",
    "embed",
    "predict",
    "fold",
    "crossval",
    "compare",
)


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

        try:
            # Words are passed on only if they are not those of the process: Lightning warns.
            run(None if args is None else words)
        except (ValueError, OSError) as error:
            if not _is_message(error):
                _end_if_disk(words[0], error)
                raise
            sys.exit(f"rnafm {words[0]}: {error}")
    else:
        known = ", ".join([*VERBS, *TOOLS])
        sys.exit(f"rnafm: there is no command {words[0]!r} (there are: {known})")


def _is_message(error: BaseException) -> bool:
    """Whether this package raised it, so that the message says all; else the traceback is shown."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("rnafm.")


def _end_if_disk(verb: str, error: BaseException) -> None:
    """End with one line where a library could not write: its traceback says nothing more."""
    if not isinstance(error, OSError) or error.filename is None:
        return
    remedies = {
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
        **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    }
    if error.errno in remedies:
        sys.exit(
            f"rnafm {verb}: {error.filename}: {error.strerror}; {remedies[error.errno]}, or give "
            "another folder (--trainer.logger.init_args.save_dir)"
        )


def find_tool(name: str) -> Callable[..., Any]:
    """The function behind a tool's name."""
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
        *(f"  {name:<10} {(find_tool(name).__doc__ or '').splitlines()[0]}" for name in TOOLS),
        "",
        "  --version  Show the version.",
    ]
    return "\n".join(lines)


def _run_tool(name: str, words: list[str]) -> None:
    """Turn a tool's signature into options.

    A list without a default becomes bare words; ``*words`` takes what follows ``--``, or without
    it all options that the tool does not have.
    """
    from docstring_parser import parse
    from jsonargparse import ArgumentParser

    function = find_tool(name)
    text = parse(function.__doc__ or "")
    about = "\n\n".join(filter(None, [text.short_description, text.long_description]))
    parser = ArgumentParser(prog=f"rnafm {name}", description=about)
    # Resolved here: jsonargparse would import what stands under TYPE_CHECKING, torch included.
    hints = function.__annotations__ = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    rest: list[str] = []
    if any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
        words, rest = _divide(words, hints)
    bare = [
        name
        for name, parameter in parameters.items()
        if get_origin(hints[name]) is list and parameter.default is parameter.empty
    ]
    for word in bare:
        described = next((each.description for each in text.params if each.arg_name == word), None)
        (kind,) = get_args(hints[word])
        parser.add_argument(word, nargs="+", type=kind, help=described)
    parser.add_function_arguments(function, skip=set(bare))
    options = vars(parser.instantiate_classes(parser.parse_args(_plain(words, hints))))
    try:
        function(*rest, **options)
    except KeyboardInterrupt:  # what there is to say is said
        sys.exit(130)
    except (ValueError, OSError) as error:  # what a user can put right needs no traceback
        sys.exit(f"rnafm {name}: {error}")


def _divide(words: list[str], hints: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The options of a tool with their values, and those of others, which it passes on."""
    if "--" in words:
        return words[: words.index("--")], words[words.index("--") + 1 :]
    parts: tuple[list[str], list[str]] = ([], [])
    part = parts[0]
    for word in words:
        if word.startswith("-"):
            name = word.partition("=")[0].lstrip("-").replace("-", "_")
            part = parts[0 if name in (*hints, "help", "h") else 1]
        part.append(word)
    return parts


def _plain(words: list[str], hints: dict[str, Any]) -> list[str]:
    """Options as the parser knows them: ``--all-tokens`` becomes ``--all_tokens=true``."""
    result = []
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        if not option.startswith("--"):
            result.append(word)
            continue
        option = option.replace("-", "_").replace("__", "--", 1)
        following = words[i + 1] if i + 1 < len(words) else ""
        if hints.get(option[2:]) is bool and not equals and following not in ("true", "false"):
            equals, value = "=", "true"
        result.append(option + equals + value)
    return result
