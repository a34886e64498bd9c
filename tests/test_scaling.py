"""The page about many devices says what the model of scaling computes, and its commands work."""

import importlib
import json
import re
import shlex

import pytest
from runs import ROOT

from rnafm.cli import main
from rnafm.planning.plan import make_plan

PAGE = ROOT / "docs" / "scale.md"


@pytest.fixture(scope="module")
def scaling():
    return importlib.import_module("scaling")


def test_the_page_shows_the_figures_that_the_command_computes(scaling):
    (row,) = json.loads(scaling.RESULTS.read_text())["rows"]
    for name, values in json.loads(json.dumps(scaling.compute())).items():
        again = "run: python benchmarks/scaling.py"
        if isinstance(values, dict):
            assert row[name] == pytest.approx(values), again
        else:
            assert len(row[name]) == len(values), again
            for found, expected in zip(row[name], values, strict=True):
                assert found == pytest.approx(expected), again
    text = PAGE.read_text()
    assert scaling.render(text, row) == text
    assert scaling.PICTURE.stat().st_size > 10_000


def test_parameters_are_those_of_the_model(scaling):
    assert scaling.parameters(scaling.MODELS["RNA-FM"]) == 99_521_946


def test_what_the_page_says_of_the_figures(scaling):
    rows = {row["gpus"]: row for row in scaling.compute()["scaling"]}
    most = rows[1024]
    assert most["ddp"] > 0.99 and most["ddp_ethernet"] > 0.9
    assert most["communication_ethernet_ms"] > most["compute_ms"] * 0.6  # no room is left
    assert most["fsdp2_3b"] > 0.95 and most["fsdp2_3b_ethernet"] < 0.5
    assert rows[256]["constant_step"] > 0.9 and most["constant_step"] < 2 / 3


TEXTS = [PAGE, ROOT / "configs" / "trainer" / "torchrun.yaml"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_of_torchrun_are_understood(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = re.sub(r"\\\n#?", " ", path.read_text())
    (line,) = re.findall(r"^(?:# )?(torchrun .*)$", text, re.MULTILINE)
    launcher, _, words = line.partition(" -m rnafm ")
    words = shlex.split(words.replace("RECIPE", "configs/pretrain/rnacentral.yaml"))
    with pytest.raises(SystemExit) as exit_info:
        main([*words, "--print_config"])
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    (nodes,) = re.findall(r"--nnodes (\d+)", launcher)
    (each,) = re.findall(r"--nproc-per-node (\d+)", launcher)
    assert f"num_nodes: {nodes}" in printed and f"devices: {each}" in printed
    sample = "--data.fasta=[examples/ncrna_sample.fa.gz]"
    assert make_plan([*words[1:], sample]).errors == []
