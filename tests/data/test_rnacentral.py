import logging

import numpy as np
import pytest
from runs import SAMPLE, fit, words, write_fasta

from rnafm.cli import main
from rnafm.data.rnacentral import RNAcentralDataModule, _places
from rnafm.data.store import Filters


def module(*fasta, **options):
    data = RNAcentralDataModule(list(fasta), **{"tokens_per_batch": 2048, **options})
    data.prepare_data()
    data.setup("fit")
    return data


def sequences(loader):
    return {int(index) for batch in loader for index in batch.indices}


def test_every_sequence_is_in_one_split(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        data = module(SAMPLE, store=tmp_path / "store", val_fraction=0.1)
    train, val = sequences(data.train_dataloader()), sequences(data.val_dataloader())
    assert not train & val
    assert train | val == set(range(5427))
    assert len(val) == pytest.approx(543, abs=80)
    assert "606 longer than 1022" not in caplog.text  # the splits share them
    assert caplog.text.count("longer than 1022 are cropped to a random window") == 2


def test_what_is_left_out_and_cropped_is_said(tmp_path, capsys):
    fasta = tmp_path / "x.fa"
    write_fasta(fasta, count=300)
    fasta.write_text(fasta.read_text() + ">again\nACGUACGUACGU\n>twice\nacgtacgtacgt\n>nothing\n")
    fit(tmp_path, fasta, "--trainer.max_steps=1", "--data.max_length=30")
    text = capsys.readouterr().err
    assert "301 of 303 sequences; left out: 1 empty, 1 duplicate" in text
    assert text.count("longer than 30 are cropped to a random window") == 2


def test_whole_families_are_held_out(tmp_path):
    data = module(SAMPLE, store=tmp_path / "store", val_fraction=0.3, split_by="family")
    codes, families = data.store.column("family")
    sides = [
        set(codes[sorted(sequences(loader))])
        for loader in (data.train_dataloader(), data.val_dataloader())
    ]
    assert not sides[0] & sides[1]
    assert len(sides[1]) > 20 and len(sides[0] | sides[1]) >= len(families) - 1


def test_a_column_can_be_named_by_an_expression(tmp_path):
    fasta = tmp_path / "x.fa"
    fasta.write_text("".join(f">s:{i} kind{i % 9}\n{'ACGU' * 5}{'A' * i}\n" for i in range(60)))
    data = module(fasta, columns=r"\S+ (?P<kind>\S+)", split_by="kind", val_fraction=0.3)
    codes, kinds = data.store.column("kind")
    assert {f"kind{i}" for i in range(9)} <= set(kinds)
    assert not set(codes[sorted(sequences(data.val_dataloader()))]) & set(
        codes[sorted(sequences(data.train_dataloader()))]
    )
    with pytest.raises(ValueError, match=r"has no column 'family' \(it has: kind"):
        module(fasta, columns=r"\S+ (?P<kind>\S+)", split_by="family")


def test_validation_is_the_same_every_time_and_training_is_not(tmp_path):
    data = module(SAMPLE, store=tmp_path / "store", max_length=50)

    def first(loader, epoch):
        loader.sampler.set_epoch(epoch)
        batch = next(iter(loader))
        return batch.tokens.tolist(), batch.key

    val, train = data.val_dataloader(), data.train_dataloader()
    assert first(val, 0) == first(val, 3)
    assert first(train, 0) != first(train, 3)


def test_the_store_lies_beside_the_first_file_and_follows_its_settings(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", count=300)
    first = module(fasta)
    assert first.path == tmp_path / "x.fa.rna.store"
    stamp = (first.path / "store.json").stat().st_mtime_ns
    assert (module(fasta).path / "store.json").stat().st_mtime_ns == stamp
    second = module(fasta, filters=Filters(min_length=50))
    assert len(second.store) < len(first.store)
    third = module(fasta, vocabulary="rna-28")
    assert third.path.name == "x.fa.rna-28.store"
    assert np.array_equal(third.store.offsets, first.store.offsets)


def test_wrong_settings_are_said(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", count=300)
    with pytest.raises(ValueError, match=r"val_fraction \(1.5\) must lie between 0 and 1"):
        RNAcentralDataModule([fasta], val_fraction=1.5)
    with pytest.raises(
        ValueError, match=r"RNAcentralDataModule has no 'test' split \(it has: train, val\)"
    ):
        module(fasta).test_dataloader()
    with pytest.raises(FileNotFoundError, match=r"none.fa.*no such file"):
        module(tmp_path / "none.fa")
    with pytest.raises(ValueError, match=r"tokens_per_batch \(20\) is below the longest sequence"):
        module(fasta, tokens_per_batch=20).train_dataloader()


def test_data_that_the_encoder_would_misread_are_refused_before_training(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa")
    with pytest.raises(
        SystemExit, match=r"vocabulary 'rna' \(26 tokens\), the data are in 'rna-28' \(28"
    ):
        fit(tmp_path, fasta, "--data.vocabulary=rna-28")
    with pytest.raises(
        SystemExit, match=r"data.max_length \(60\) is above the encoder's max_length \(30\)"
    ):
        fit(tmp_path, fasta, "--model.encoder.max_length=30")


def test_a_wrong_option_is_named_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(words(tmp_path, write_fasta(tmp_path / "x.fa"), "--data.tokens_per_bach=3"))
    assert "tokens_per_bach" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99, 1.0])
def test_places_of_many_sequences(share):
    chosen = np.random.default_rng(0).random(200_000) < share
    places = _places(chosen)
    assert places.dtype == np.int32
    assert np.array_equal(places, np.flatnonzero(chosen))
