from types import SimpleNamespace

import pytest
from batches import TINY
from runs import words, write_fasta

from rnafm.callbacks import ModelTable
from rnafm.cli import main
from rnafm.tasks import MaskedLM


def shown(capsys):
    return {
        cells[0]: cells[1:]
        for line in capsys.readouterr().out.splitlines()
        if len(cells := line.replace("│", " ").split()) in (3, 4) and cells[-1] != "Trained"
    }


def test_parts_with_their_parameters(capsys):
    task = MaskedLM(encoder=TINY)
    for parameter in task.encoder.parameters():
        parameter.requires_grad = False
    ModelTable().on_fit_start(SimpleNamespace(is_global_zero=True), task)
    encoder = sum(each.numel() for each in task.encoder.parameters())
    head = sum(each.numel() for each in task.head.parameters())
    assert shown(capsys) == {
        "encoder": ["Encoder", f"{encoder:,}", "none"],
        "head": ["MaskedLMHead", f"{head:,}", "all"],
        "all": [f"{encoder + head:,}", f"{head:,}"],
    }


def test_once_and_not_on_every_device(capsys):
    ModelTable().on_fit_start(SimpleNamespace(is_global_zero=False), MaskedLM(encoder=TINY))
    assert not capsys.readouterr().out


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_shows_it_unless_told_not_to(wanted, tmp_path, capsys):
    options = (f"--trainer.enable_model_summary={wanted}".lower(), "--trainer.max_steps=1")
    main(words(tmp_path, write_fasta(tmp_path / "x.fa", 60), *options))
    printed = capsys.readouterr().out
    assert ("MaskedLMHead" in printed) == wanted
    assert "FLOPs" not in printed
