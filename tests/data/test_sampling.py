"""Which sequences are used, how often, and from which of several stores."""

import logging

import numpy as np
import pytest
from runs import fit, write_fasta

from rnafm.data.fasta import Record
from rnafm.data.fasta import write_fasta as write
from rnafm.data.mixture import Mixture
from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.data.sampling import Sampling
from rnafm.data.store import SequenceStore, build_store
from rnafm.data.vocabulary import Vocabulary

SIZES = {"tRNA": 90, "rRNA": 300, "miRNA": 10}
OPTIONS = {"tokens_per_batch": 2048, "max_length": 60}


def make(path, sizes=SIZES, vocabulary="rna", seed=0):
    """A store of random sequences with a column of types."""
    generator = np.random.default_rng(seed)
    records = [
        Record(
            f"{kind}{i}",
            "".join(generator.choice(list("ACGU"), generator.integers(20, 70))),
            f"type={kind} cluster={kind}{i // 5}",
        )
        for kind, size in sizes.items()
        for i in range(size)
    ]
    fasta = path.with_suffix(".fa")
    write(fasta, records)
    return build_store([fasta], path, vocabulary=Vocabulary.named(vocabulary), progress=False)


def module(store, **options):
    data = RNAcentralDataModule(store=store, **{**OPTIONS, **options})
    data.prepare_data()
    data.setup("fit")
    return data


def drawn(data, epoch=0):
    """Numbers of the sequences of a training epoch, as often as they come."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [int(i) for batch in loader if not batch.filler for i in batch.indices]


def types(data, numbers):
    """How often each type comes."""
    codes, names = data.mixture.column("type")
    counts = np.bincount(codes[np.array(numbers) % len(data.mixture)], minlength=len(names))
    return {name: int(n) for name, n in zip(names, counts, strict=True) if name}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make(tmp_path_factory.mktemp("store") / "one").path


def test_by_default_every_sequence_comes_once(store):
    data = module(store)
    indices = data.splits()["train"].indices.tolist()
    assert sorted(drawn(data)) == indices


def test_values_of_columns_are_kept_and_dropped(store):
    kept = module(store, val_fraction=0.1, sampling=Sampling(keep={"type": ["tRNA", "miRNA"]}))
    counts = types(kept, drawn(kept))
    assert counts["rRNA"] == 0 and counts["tRNA"] > 70 and counts["miRNA"] > 5
    val = {int(i) for batch in kept.val_dataloader() for i in batch.indices}
    assert types(kept, sorted(val))["rRNA"] == 0
    dropped = module(store, val_fraction=0.1, sampling=Sampling(drop={"type": ["rRNA"]}))
    assert sorted(drawn(dropped)) == sorted(drawn(kept))


def test_a_split_without_sequences_is_said(store):
    with pytest.raises(ValueError, match=r"no sequence for val; .*val_fraction \(0.01\)"):
        module(store, sampling=Sampling(keep={"type": ["miRNA"]}))


def test_temperature_makes_groups_more_equal_and_epochs_stay_as_long(store):
    data = module(store, sampling=Sampling(by="type", temperature=0.5))
    plain = types(module(store), drawn(module(store)))
    total = sum(plain.values())
    counts = types(data, drawn(data))
    roots = {name: n**0.5 for name, n in plain.items()}
    assert sum(counts.values()) == total
    for name, count in counts.items():
        assert count == pytest.approx(total * roots[name] / sum(roots.values()), abs=1)
    equal = module(store, sampling=Sampling(by="type", temperature=0))
    assert max(types(equal, drawn(equal)).values()) - total / 3 < 1


def test_weights_change_single_groups(store, caplog):
    with caplog.at_level(logging.INFO):
        data = module(store, sampling=Sampling(by="type", weights={"rRNA": 0.1, "miRNA": 3}))
    plain, counts = types(module(store), drawn(module(store))), types(data, drawn(data))
    assert counts["tRNA"] == plain["tRNA"]
    assert counts["rRNA"] == pytest.approx(plain["rRNA"] * 0.1, abs=1)
    assert counts["miRNA"] == pytest.approx(plain["miRNA"] * 3, abs=1)
    assert f"rRNA: {counts['rRNA']:,} draws of {plain['rRNA']:,} sequences" in caplog.text
    # What comes again in an epoch has another window and another mask.
    numbers = drawn(data)
    assert len(set(numbers)) == len(numbers) > len({i % 400 for i in numbers})


def test_one_member_of_every_cluster_in_each_epoch_and_all_in_turn(store):
    data = module(store, sampling=Sampling(by="cluster", one_each=True))
    codes, _ = data.mixture.column("cluster")
    used = set(data.splits()["train"].indices.tolist())
    seen = set()
    for epoch in range(5):
        numbers = [i % 400 for i in drawn(data, epoch)]
        clusters = codes[numbers]
        assert len(set(clusters)) == len(numbers) == len({codes[i] for i in used})
        seen.update(numbers)
    assert seen == used  # clusters have at most five members


def test_an_epoch_of_draws_resumes_and_divides_anew(tmp_path, store):
    from test_elastic import last

    options = (
        f"--data.store={store}",
        "--data.fasta=null",
        "--data.sampling.by=type",
        "--data.sampling.temperature=0.5",
    )
    fasta = write_fasta(tmp_path / "x.fa")
    fit(tmp_path, fasta, *options, "--trainer.max_steps=3")
    run = fit(
        tmp_path,
        fasta,
        *options,
        "--trainer.max_steps=12",
        "--data.tokens_per_batch=700",
        "--ckpt_path=last",
    )
    step, state = last(run)
    assert step == 12
    assert state["draws"] == state["sequences"] > state["position"] > 0
    with pytest.raises(SystemExit, match=r"with sampling \d+, this run has \d+"):
        fit(
            tmp_path,
            fasta,
            *options,
            "--data.sampling.temperature=0.9",
            "--ckpt_path=last",
        )


class TestSeveralStores:
    def test_an_epoch_visits_each_as_often_as_said(self, tmp_path):
        make(tmp_path / "a", {"tRNA": 60})
        make(tmp_path / "b", {"rRNA": 200}, seed=1)
        data = module({str(tmp_path / "a"): 2.0, str(tmp_path / "b"): 0.5})
        indices = data.splits()["train"].indices
        first, second = int((indices < 60).sum()), int((indices >= 60).sum())
        counts = types(data, drawn(data))
        assert counts["tRNA"] == 2 * first
        assert counts["rRNA"] == pytest.approx(second / 2, abs=1)

    def test_sequences_are_those_of_their_store(self, tmp_path):
        stores = [make(tmp_path / "a", {"x": 30}), make(tmp_path / "b", {"y": 40}, seed=1)]
        data = module({str(store.path): 1.0 for store in stores})
        vocabulary, seen = data.vocabulary, 0
        for batch in data.train_dataloader():
            bounds = batch.cu_seqlens.tolist()
            for number, begin, end in zip(batch.indices.tolist(), bounds, bounds[1:], strict=False):
                text = vocabulary.decode(batch.tokens[begin + 1 : end - 1].numpy())
                store = stores[number >= 30]
                whole = store.sequence(number - 30 * (number >= 30))
                assert text in whole and len(text) == min(len(whole), 60)
                seen += 1
        assert seen == len(data.splits()["train"].indices)

    def test_columns_are_joined_by_name_and_numbers_kept_apart(self):
        class Fake:
            path, vocabulary = "x", Vocabulary.named("rna")

            def __init__(self, codes, categories):
                self.column = lambda _: (np.array(codes, np.int32), categories)

            def __len__(self):
                return 3

        named = Mixture([Fake([0, 1, 2], ["", "b", "a"]), Fake([1, 0, 1], ["", "a"])])
        codes, names = named.column("type")
        assert [names[code] for code in codes] == ["", "b", "a", "a", "", "a"]
        numbered = Mixture([Fake([0, 2, 1], None), Fake([0, 0, 1], None)])
        assert numbered.column("cluster")[0].tolist() == [0, 2, 1, 3, 3, 4]
        assert numbered.column("cluster")[1] is None
        with pytest.raises(ValueError, match=r"'type' has names in one store and numbers"):
            Mixture([Fake([0, 1, 1], None), Fake([1, 0, 1], ["", "a"])]).column("type")

    def test_wrong_mixtures_are_refused(self, tmp_path):
        make(tmp_path / "a", {"x": 30})
        make(tmp_path / "b", {"x": 30}, vocabulary="rna-28")
        both = {str(tmp_path / "a"): 1.0, str(tmp_path / "b"): 1.0}
        with pytest.raises(ValueError, match=r"b: is in the vocabulary 'rna-28', .*a in 'rna'"):
            module(both)
        with pytest.raises(
            ValueError, match=r"b: is in the vocabulary 'rna-28', data.vocabulary is 'rna'"
        ):
            module(tmp_path / "b")
        with pytest.raises(ValueError, match=r"data.store.a \(0\) must be above 0"):
            RNAcentralDataModule(store={"a": 0})
        with pytest.raises(ValueError, match=r"leave data\.fasta out"):
            RNAcentralDataModule([tmp_path / "a.fa"], store={"a": 1.0})
        with pytest.raises(ValueError, match=r"set data\.fasta, or data\.store"):
            RNAcentralDataModule()
        with pytest.raises(FileNotFoundError, match=r"none: holds no token store; .*prepare"):
            module(tmp_path / "none")


def test_a_damaged_store_is_noticed_before_training(tmp_path):
    store = make(tmp_path / "one", {"x": 50})
    tokens = store.path / "tokens.bin"
    text = bytearray(tokens.read_bytes())
    text[100] ^= 1
    tokens.write_bytes(bytes(text))
    with pytest.raises(ValueError, match=r"tokens.bin.*prepare"):
        RNAcentralDataModule(store=store.path, **OPTIONS).prepare_data()


def test_wrong_settings_are_said(store):
    mixture = Mixture([SequenceStore.open(store)])
    for options, message in (
        ({"temperature": 0.5}, r"need sampling.by"),
        ({"by": "type", "temperature": 2.0}, r"temperature \(2.0\) must lie between 0"),
        ({"by": "type", "one_each": True, "temperature": 0.5}, r"no room for a temperature"),
        ({"by": "type", "weights": {"x": -1.0}}, r"weights.x \(-1.0\) must be 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampling(**options)
    for options, message in (
        ({"keep": {"type": ["xRNA"]}}, r"keep.type \(xRNA\): no sequence .*miRNA, rRNA, tRNA"),
        ({"drop": {"kind": ["x"]}}, r"has no column 'kind' \(it has: type, cluster"),
        ({"drop": {"type": list(SIZES)}}, r"leave no sequence; loosen them"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampling(**options).chosen(mixture)
    for options, message in (
        ({"by": "type", "weights": {"xRNA": 1.0}}, r"weights \(by type\) \(xRNA\): no sequence"),
        ({"by": "type", "weights": dict.fromkeys(SIZES, 0.0)}, r"draws no sequence from any"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampling(**options).order(mixture, np.arange(400), [1.0], 0)


def test_the_default_split_says_what_it_is_good_for(store, caplog):
    with caplog.at_level(logging.INFO):
        module(store)
    assert "Most have relatives in training" in caplog.text
    assert "set data.split_by to a column (cluster)" in caplog.text
