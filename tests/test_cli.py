import subprocess
import sys

import pytest

from rnafm import __version__
from rnafm.cli import TOOLS, VERBS, main


def test_help_names_every_command_with_one_line(capsys):
    main(["--help"])
    text = capsys.readouterr().out
    for name in [*VERBS, *TOOLS]:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) > 3
    main([])
    assert capsys.readouterr().out == text


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"rnafm {__version__}\n"


def test_an_unknown_command_is_told_the_known_ones():
    with pytest.raises(
        SystemExit, match=r"no command 'train' \(there are: fit, validate, .*compare\)"
    ):
        main(["train"])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_help_is_fast_because_torch_stays_out(tool):
    program = (
        "import sys; from rnafm.cli import main\n"
        f"try: main([{tool!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"usage: rnafm {tool}" in result.stdout


def test_flags_need_no_value_and_hyphens_are_underscores(tmp_path):
    # The error comes from the tool: every option was understood.
    with pytest.raises(SystemExit, match="no checkpoint at"):
        main(
            [
                "fill-mask",
                "--all-tokens",
                "--json",
                "--top=2",
                "--checkpoint",
                str(tmp_path / "x"),
                "A<mask>",
            ]
        )


def test_a_wrong_option_names_it(capsys):
    with pytest.raises(SystemExit):
        main(["fill-mask", "--checkpont", "x", "A<mask>"])
    assert "checkpont" in capsys.readouterr().err


def test_a_disk_that_a_library_cannot_write_to_is_one_line(monkeypatch):
    def refuse(_):
        raise OSError(30, "Read-only file system", "runs/small")

    monkeypatch.setattr("rnafm.training.run", refuse)
    with pytest.raises(
        SystemExit, match=r"fit: runs/small: Read-only file system; make it writable, or give ano"
    ):
        main(["fit"])

    def fail(_):
        raise OSError(5, "Input/output error", "runs/small")

    monkeypatch.setattr("rnafm.training.run", fail)
    with pytest.raises(OSError, match="Input/output error"):
        main(["fit"])
