"""``rnafm compare`` on the command line; what it works out is in tests/reports/test_crossval.py."""

import pytest

from rnafm.cli import main


@pytest.fixture
def runs(tmp_path):
    for name, shift in (("a", 0.0), ("b", -0.25)):
        (tmp_path / name / "test").mkdir(parents=True)
        rows = [f"s{i},60,{i / 40 + shift + i % 3 / 100},{i}" for i in range(30)]
        text = "\n".join(["id,length,f1,recall", *rows, ""])
        (tmp_path / name / "test" / "per_sequence.csv").write_text(text)
    return [str(tmp_path / name) for name in "ab"]


def test_two_folders(runs, capsys):
    main(["compare", *runs])
    printed = capsys.readouterr().out
    assert printed.startswith("f1 of 30 sequences\n")
    assert printed.endswith(f"{runs[0]} is better\n")


def test_another_metric(runs, capsys):
    main(["compare", *runs, "--metric", "recall"])
    printed = capsys.readouterr().out
    assert printed.startswith("recall of 30 sequences\n")
    assert "these sequences show no difference" in printed


def test_refusals(runs, tmp_path):
    with pytest.raises(SystemExit, match="rnafm compare: give two folders to compare, not 1"):
        main(["compare", runs[0]])
    with pytest.raises(SystemExit, match=r"rnafm compare: .*x has no per_sequence.csv"):
        main(["compare", runs[0], str(tmp_path / "x")])
