"""What the page of a run is made of, each part by itself."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batches import CODON, RNA, TINY, random_batch

from rnafm.callbacks.tracking import _summary
from rnafm.callbacks.tracking_artifacts import checkpoint_files, staged_beside
from rnafm.callbacks.tracking_attention import Watched, attention_of, draw_attention
from rnafm.callbacks.tracking_data import artifact_name, data_page, describe_data, manifests
from rnafm.callbacks.tracking_environment import commits, saved_config
from rnafm.callbacks.tracking_tables import prediction_table, scores_of_test
from rnafm.data.labelled import LabelledDataModule
from rnafm.data.labels import LabelSpec
from rnafm.data.partition import Partition
from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.modules import Encoder


def pretraining(folder, **options):
    folder.mkdir(exist_ok=True)
    sequences = [
        f"ACGUAC{'ACGU'[i % 4]}{'ACGU'[i // 4 % 4]}GGCC{'U' * (i // 16)}" for i in range(64)
    ]
    text = "".join(f">s{i}\n{each}\n" for i, each in enumerate(sequences))
    (folder / "x.fa").write_text(text)
    data = RNAcentralDataModule([folder / "x.fa"], val_fraction=0.2, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def labelled(folder, values=(1, 2, 3), **options):
    folder.mkdir(exist_ok=True)
    rows = [f"{'ACGU' * (3 + i)}{'A' * i},{values[i % 3]}" for i in range(12)]
    (folder / "x.csv").write_text("\n".join(["sequence,y", *rows]))
    split = Partition(by="hash", val=0.25, test=0.25)
    data = LabelledDataModule(files=[folder / "x.csv"], labels=["y"], split=split, **options)
    data.bind(LabelSpec("value", "sequence", 1), 100)
    return data


def test_a_digest_names_the_data_wherever_they_lie(tmp_path):
    one, same = pretraining(tmp_path / "a"), pretraining(tmp_path / "b")
    facts = describe_data(one)
    assert describe_data(same)["digest"] == facts["digest"]
    assert describe_data(pretraining(tmp_path / "c", seed=3))["digest"] == facts["digest"]
    other = RNAcentralDataModule([tmp_path / "a" / "x.fa"], val_fraction=0.5)
    other.setup("fit")
    assert describe_data(other)["digest"] != facts["digest"]  # another split of the same store
    assert str(tmp_path) not in json.dumps(facts) + json.dumps(manifests(one))
    assert manifests(one) == manifests(same)  # though the files have other times
    assert artifact_name(one) == artifact_name(same) == "data-x.fa.rna.store"


def test_labels_and_leaks_are_part_of_the_data(tmp_path):
    data = labelled(tmp_path / "a")
    facts = describe_data(data)
    assert describe_data(labelled(tmp_path / "b"))["digest"] == facts["digest"]
    assert describe_data(labelled(tmp_path / "c", (1, 2, 4)))["digest"] != facts["digest"]
    assert facts["description"] == "y of x.csv" and facts["split"].startswith("by hash")
    assert sum(split["sequences"] for split in facts["splits"].values()) == 12
    assert facts["splits"]["test"]["tokens"] == sum(
        len(data.sequences[row]) + 2 for row in data.rows["test"]
    )
    page = data_page(facts)
    assert page["data/test_near_copies"] == facts["leaks"]["test"]["near_copies"] > 0
    assert str(tmp_path) not in json.dumps(facts)


def test_data_of_a_users_own_are_described_as_far_as_they_tell():
    part = SimpleNamespace(indices=np.arange(3), lengths=lambda: np.array([4, 5, 6]))
    facts = describe_data(SimpleNamespace(splits=lambda: {"train": part}))
    assert facts["splits"]["train"]["sequences"] == 3 and facts["splits"]["train"]["tokens"] == 15
    assert artifact_name(SimpleNamespace(path=Path("a b/ä?.fa"))) == "data-__.fa"


def test_summaries_of_metrics():
    kinds = {
        "val/loss": "min,last",
        "val/macro_f1": "max,last",
        "test/rmse": "min,last",
        "val/baseline_loss": None,
        "val/threshold": None,
        "best/loss": None,
        "lr-AdamW/pg1": None,
        "throughput/peak_memory_gib": "max",
        "throughput/tokens": None,
        "throughput/mfu": "mean,last",
        "epoch": None,
    }
    assert {name: _summary(name) for name in kinds} == kinds


def git(folder, *words):
    name = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    command = ["git", "-C", str(folder), *name, *words]
    subprocess.run(command, check=True, capture_output=True)


def test_the_commit_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = commits()
    assert "commit" not in before
    git(tmp_path, "init", "-b", "work")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    found = commits()
    assert len(found["commit"]) == 40 and found["branch"] == "work" and found["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert commits()["dirty"] is True
    monkeypatch.setenv("PATH", "")
    assert commits() == {}


def test_a_saved_configuration(tmp_path):
    assert saved_config(tmp_path, "fit") == {}
    (tmp_path / "fit.yaml").write_text("a: {b: [1, x]}\n")
    assert saved_config(tmp_path, "fit") == {"a": {"b": [1, "x"]}}


def keeper(folder, monitor, best, last):
    from lightning.pytorch.callbacks import ModelCheckpoint

    made = ModelCheckpoint(folder, monitor=monitor, save_last=True)
    made.best_model_path, made.last_model_path = (str(folder / name) for name in (best, last))
    made.best_model_score = torch.tensor(0.5)
    return made


def test_aliases_of_checkpoints(tmp_path):
    for name in ("one.ckpt", "two.ckpt", "last.ckpt"):
        (tmp_path / name).touch()
    first = keeper(tmp_path, "val/f1", "one.ckpt", "last.ckpt")
    found = checkpoint_files(SimpleNamespace(checkpoint_callbacks=[first]))
    assert {path.name: about for path, about in found.items()} == {
        "one.ckpt": (["best"], {"val/f1": 0.5}),
        "last.ckpt": (["last"], {}),
    }
    second = keeper(tmp_path, "val/loss", "two.ckpt", "gone.ckpt")
    found = checkpoint_files(SimpleNamespace(checkpoint_callbacks=[first, second]))
    assert {path.name: aliases for path, (aliases, _) in found.items()} == {
        "one.ckpt": ["best"],
        "last.ckpt": ["last"],
        "two.ckpt": ["best-val-loss"],
    }
    without = keeper(tmp_path, None, "one.ckpt", "last.ckpt")
    found = checkpoint_files(SimpleNamespace(checkpoint_callbacks=[without]))
    assert [aliases for aliases, _ in found.values()] == [["last"]]


def test_copies_lie_beside_the_run_unless_the_user_says_where(tmp_path, monkeypatch):
    import os

    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    run = SimpleNamespace(dir=str(tmp_path / "files"))
    with staged_beside(run):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path)
    assert "WANDB_DATA_DIR" not in os.environ
    monkeypatch.setenv("WANDB_DATA_DIR", "mine")
    with staged_beside(run):
        assert os.environ["WANDB_DATA_DIR"] == "mine"


@pytest.mark.parametrize("vocabulary", [RNA, CODON], ids=lambda each: each.name)
def test_attention_is_that_of_the_encoder(vocabulary):
    encoder = Encoder(TINY, vocabulary).train()
    encoder.blocks[0].eval()
    batch = random_batch([30, 12, 20], vocabulary)
    watched = Watched()
    watched.choose(batch, 2)
    assert list(watched.sequences) == [0, 2]
    state = torch.get_rng_state()
    maps = attention_of(encoder, watched.sequences[2])
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training and not encoder.blocks[0].training and encoder.blocks[1].training
    assert list(maps) == ["layer 1", "layer 2"]
    encoder.eval()
    for own, layer in zip(
        maps.values(),
        encoder.attention_maps(batch.tokens, batch.cu_seqlens, batch.max_seqlen),
        strict=True,
    ):
        expected = layer[2].mean(0)[1:-1, 1:-1].detach().numpy()
        np.testing.assert_allclose(own, expected, atol=1e-6)


def test_of_long_sequences_the_beginning_is_watched():
    watched = Watched()
    watched.choose(random_batch([300, 400]), 1)
    (tokens,) = watched.sequences.values()
    assert len(tokens) == 200 and int(tokens[-1]) != RNA.eos_id
    maps = attention_of(Encoder(TINY, RNA), tokens)
    assert maps["layer 2"].shape == (199, 199)


def test_layers_are_chosen_evenly_and_share_their_colours():
    config = {"num_layers": 14, "embed_dim": 8, "num_heads": 2, "ffn_dim": 8}
    encoder = Encoder(type(TINY)(**config), RNA)
    maps = attention_of(encoder, random_batch([10]).tokens, 12)
    assert len(maps) == 12 and (*maps,)[0:12:11] == ("layer 1", "layer 14")
    figure = draw_attention(maps, "title")
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in figure.axes[:12]] == list(maps)
    assert len({image.get_clim() for image in images}) == 1
    with pytest.raises(ValueError, match=r"maps \(13\): there is room for 12"):
        draw_attention({str(i): maps["layer 1"] for i in range(13)}, "")


def test_scores_of_a_test_are_flat(tmp_path):
    interval = {"value": 0.5, "low": 0.4, "high": None}
    beside = {"3-mers": {"about": "x", "metrics": {"f1": {"value": 0.2}}, "differences": {}}}
    report = {"num_sequences": 7, "metrics": {"f1": interval}, "floors": beside}
    (tmp_path / "metrics.json").write_text(json.dumps(report))
    assert scores_of_test(tmp_path) == {
        "test/sequences": 7,
        "test/f1": 0.5,
        "test/f1_low": 0.4,
        "test_beside/3-mers/f1": 0.2,
    }


def stand_in(spec, labels):
    sequences = ["GGGAAACCC", "ACGU", "GGCC"]
    return SimpleNamespace(names=["a", "b", "c"], sequences=sequences, labels=labels, spec=spec)


def test_a_table_of_whole_sequences_is_the_file_with_sequences(tmp_path):
    text = "id,length,id2,label y,prediction y\na,9,x,1.5,1\nb,4,,,2\nc,4,007,3,4\n"
    (tmp_path / "per_sequence.csv").write_text(text)
    data = stand_in(LabelSpec("value", "sequence", 1), [None] * 3)
    columns, rows = prediction_table(tmp_path, data, {0: 1, 1: 2, 2: 4}, 2, None)
    assert columns == ["id", "sequence", "length", "id2", "label y", "prediction y"]
    assert rows == [["a", "GGGAAACCC", 9.0, "x", 1.5, 1.0], ["b", "ACGU", 4.0, "", None, 2.0]]


def test_a_table_of_structures_has_arcs(tmp_path):
    text = "id,length,f1,label\na,9,1,x\nb,4,0,y\nc,4,0,z\n"
    (tmp_path / "per_sequence.csv").write_text(text)
    pairs = [np.array([[0, 8], [1, 7]]), np.zeros((0, 2), int), np.array([[0, 3]])]
    data = stand_in(LabelSpec("pairs", "pairs", 1), pairs)
    shown = []
    columns, rows = prediction_table(
        tmp_path,
        data,
        {0: pairs[0], 2: pairs[1]},  # one of the rows was on another device
        100,
        lambda path, caption: shown.append((path, caption)) or "picture",
    )
    assert columns == ["id", "sequence", "label", "prediction", "arcs", "length", "f1", "label_"]
    assert rows == [
        ["a", "GGGAAACCC", "((.....))", "((.....))", "picture", 9.0, 1.0, "x"],
        ["c", "GGCC", "(..)", "....", "picture", 4.0, 0.0, "z"],
    ]
    assert [caption for _, caption in shown] == ["a", "c"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path, _ in shown)


def test_a_table_of_nucleotides_has_lists(tmp_path):
    (tmp_path / "per_sequence.csv").write_text("id,length,rmse\nb,4,0.5\n")
    label = np.array([[0.5], [np.nan], [1], [2]], np.float32)
    data = stand_in(LabelSpec("value", "token", 1), [None, label, None])
    _, rows = prediction_table(tmp_path, data, {1: np.zeros((4, 1))}, 5, None)
    assert [json.loads(cell) for cell in rows[0][2:4]] == [[0.5, None, 1, 2], [0, 0, 0, 0]]
    spec = LabelSpec("class", "token", 2, ("loop", "stem"))
    data = stand_in(spec, [None, np.array([0, -100, 1, 1]), None])
    guess = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    _, rows = prediction_table(tmp_path, data, {1: guess}, 5, None)
    assert rows[0][2:4] == ["loop  stem stem", "loop loop stem loop"]


def test_an_empty_table(tmp_path):
    (tmp_path / "per_sequence.csv").write_text("id,length\n")
    data = stand_in(LabelSpec("value", "sequence", 1), [None] * 3)
    assert prediction_table(tmp_path, data, {0: 1}, 5, None) == (["id", "sequence", "length"], [])
