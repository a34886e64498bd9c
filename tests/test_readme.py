"""The commands and programs in the documentation are valid."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch
from batches import RNA, TINY

from rnafm import cli
from rnafm.checkpoints import Checkpoint, save_checkpoint
from rnafm.modules import Encoder

ROOT = Path(__file__).parents[1]
TEXTS = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCKS = [
    (path.name, kind, body)
    for path in TEXTS
    for kind, body in re.findall(
        r"^```(\w*)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL
    )
]
COMMANDS = [
    line
    for _, kind, body in BLOCKS
    if kind not in ("python", "text")
    for line in body.replace("\\\n", " ").splitlines()
    if line.startswith("rnafm ")
]
PROGRAMS = [body for _, kind, body in BLOCKS if kind == "python"]


def recipe(name):
    """The recipe of a run."""
    (path,) = (ROOT / "configs").glob(f"[pf]*/{name}.yaml")  # pretrain, finetune
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)[1:]
    if words[0] in cli.VERBS:
        # A saved configuration of a run has the form of its recipe.
        words = [
            re.sub(r"runs/(\w+)/.*\.yaml", lambda found: recipe(found[1]), word) for word in words
        ]
        with pytest.raises(SystemExit) as exit_info:
            cli.main([*words, "--print_config"])
        assert exit_info.value.code == 0, capsys.readouterr().err
        return
    calls = []
    tool = cli.find_tool(words[0])

    @functools.wraps(tool)
    def record(*rest, **options):
        calls.append((rest, options))

    monkeypatch.setattr(cli, "find_tool", lambda _: record)
    cli.main(words)
    assert len(calls) == 1


def test_there_are_commands_for_every_tool():
    named = {line.split()[1] for line in COMMANDS}
    assert set(cli.TOOLS) - {"prepare"} <= named
    assert "rnafm prepare" in (ROOT / "README.md").read_text()
    assert len(PROGRAMS) >= 2


@pytest.mark.filterwarnings("ignore:The .*dataloader.*")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    torch.manual_seed(0)
    save_checkpoint(Checkpoint(Encoder(TINY, RNA)), tmp_path / "rnafm.safetensors")
    program = program.replace("max_steps=100", "max_steps=2, logger=False, limit_val_batches=1")
    program = program.replace("tokens_per_batch=2048", "tokens_per_batch=2048, store='store'")
    exec(compile(program, "README", "exec"), {})  # noqa: S102


def test_the_readme_is_short_and_starts_with_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    code = next(body for name, _, body in BLOCKS if name == "README.md")
    assert [line.split("#")[0].strip() for line in code.splitlines()] == ["make demo", "make test"]
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60
