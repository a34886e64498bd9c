"""Fine-tuning through a trainer: steps, scores, what is learned, frozen and kept."""

import logging
from itertools import pairwise

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from batches import TINY
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging

from rnafm.data.labelled import LabelledDataModule
from rnafm.data.partition import Partition
from rnafm.data.structures import StructureDataModule
from rnafm.modules import Encoder
from rnafm.tasks import (
    Binary,
    ContactPrediction,
    MaskedLM,
    Multiclass,
    Multilabel,
    Regression,
    SequencePrediction,
    TokenPrediction,
)
from rnafm.tasks.adaptation import Adaptation
from rnafm.tasks.loading import load_task

BY_COLUMN = Partition(by="column", column="set")
SETS = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
SPOILT = 1e6  # labels of val and test: nothing may be learned from them


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    lengths = generator.integers(8, 30, len(SETS))
    return ["".join(generator.choice(list("ACGU"), n)) for n in lengths]


def table(path, rows, **columns):
    columns = {"sequence": rows, "set": SETS} | columns
    lines = [
        ";".join(columns),
        *(";".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(lines).replace(",", " ").replace(";", ",") + "\n")
    return path


@pytest.fixture
def data(tmp_path, rows):
    """Labels of every kind; call it for a data module with some of them."""
    gc = [round(sum(x in "GC" for x in row) / len(row), 3) for row in rows]
    path = table(
        tmp_path / "x.csv",
        rows,
        gc=gc,
        gc_of_training=[v if s == "train" else SPOILT for v, s in zip(gc, SETS, strict=True)],
        kind=["ab"[i % 2] for i in range(len(rows))],
        flag=[i % 2 for i in range(len(rows))],
        other=["" if i == 1 else i // 2 % 2 for i in range(len(rows))],
        letters=["".join("x" if x in "GC" else "y" for x in row) for row in rows],
        numbers=[",".join(str(i) for i in range(len(row))) for row in rows],
    )

    def make(*labels, **options):
        options = {"split": BY_COLUMN, "tokens_per_batch": 120} | options
        return LabelledDataModule([path], list(labels), **options)

    return make


def sequence_task(objective=None, **options):
    torch.manual_seed(1)
    return SequencePrediction(objective=objective or Regression(), encoder=TINY, **options)


def trainer(tmp_path, *callbacks, **options):
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
            "callbacks": list(callbacks),
            "num_sanity_val_steps": 0,
        }
        | options
    )


class Record(Callback):
    """Losses and weights after every step."""

    def __init__(self):
        self.losses, self.weights = [], []

    def on_train_start(self, trainer, pl_module):  # noqa: ARG002  # Lightning's
        self.note(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, *_):  # noqa: ARG002
        self.losses.append(float(outputs["loss"]))
        self.note(pl_module)

    def note(self, task):
        self.weights.append({name: w.detach().clone() for name, w in task.named_parameters()})


CASES = {
    "regression": (SequencePrediction, Regression, {}, ["gc"]),
    "two numbers": (SequencePrediction, Regression, {"num_outputs": 2}, ["gc", "other"]),
    "binary": (SequencePrediction, Binary, {}, ["flag"]),
    "classes": (SequencePrediction, Multiclass, {"names": ["a", "b"]}, ["kind"]),
    "flags": (SequencePrediction, Multilabel, {"num_outputs": 2}, ["flag", "other"]),
    "letters": (TokenPrediction, Multiclass, {"names": ["x", "y"]}, ["letters"]),
    "values": (TokenPrediction, Regression, {}, ["numbers"]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_level_and_objective_trains_and_is_scored(tmp_path, data, case):
    kind, objective, options, labels = CASES[case]
    task = kind(objective=objective(**options), encoder=TINY)
    record = Record()
    run = trainer(tmp_path, record, limit_train_batches=2)
    run.fit(task, datamodule=data(*labels))
    assert len(record.losses) == 2 and np.isfinite(record.losses).all()
    changed = [n for n, w in record.weights[0].items() if not w.equal(record.weights[-1][n])]
    assert any(name.startswith("head.") for name in changed)
    assert any(name.startswith("encoder.") for name in changed)
    assert np.isfinite(float(run.callback_metrics["val/loss"]))
    assert task.monitor in run.callback_metrics and task.monitor_mode == "max"
    (result,) = run.validate(task, datamodule=data(*labels), verbose=False)
    assert result["val/loss"] == pytest.approx(float(run.callback_metrics["val/loss"]))


def test_scores_are_those_of_the_whole_split(tmp_path, data):
    task, module = sequence_task(), data("gc")
    (result,) = trainer(tmp_path).validate(task, datamodule=module, verbose=False)
    found = {}
    with torch.no_grad():
        for batch in module.val_dataloader():
            found |= dict(zip(batch.indices.tolist(), task.predict_step(batch), strict=True))
    assert sorted(found) == [12, 13, 14, 15]
    predictions = torch.tensor(np.stack([found[row] for row in sorted(found)]))
    labels = torch.from_numpy(module.labels_of("val"))
    for name, value in task.objective.scores(predictions, labels).items():
        assert result[f"val/{name}"] == pytest.approx(float(value), abs=1e-5)


def test_base_pairs_train_and_the_decoder_is_chosen(tmp_path, rows):
    path = tmp_path / "x.dbn"
    lines = [
        f">{s} set={s}\n{x}\n{'.' + '(' + '.' * (len(x) - 4) + ')'}.\n"
        for x, s in zip(rows, SETS, strict=True)
    ]
    path.write_text("".join(lines))
    module = StructureDataModule([str(path)], split=BY_COLUMN, pairs_per_batch=1000)
    run = trainer(tmp_path)
    run.fit(ContactPrediction(encoder=TINY), datamodule=module)
    assert {"val/loss", "val/f1", "val/threshold"} <= set(run.callback_metrics)


class TestStandardisation:
    def test_is_learned_from_training_rows_only(self, tmp_path, data, rows):
        task, module = sequence_task(), data("gc_of_training")
        run = trainer(tmp_path, limit_train_batches=1)
        run.fit(task, datamodule=module)
        gc = np.array([sum(x in "GC" for x in row) / len(row) for row in rows[:12]])
        assert float(task.objective.mean) == pytest.approx(gc.mean(), abs=1e-3)
        assert float(task.objective.sd) == pytest.approx(gc.std(), abs=1e-3)
        assert (module.labels_of("val") == SPOILT).all()
        assert float(run.callback_metrics["val/mse"]) == pytest.approx(SPOILT**2, rel=0.01)

    def test_a_checkpoint_brings_it_back(self, tmp_path, data):
        task = sequence_task(pool="attention", hidden_dim=8)
        run = trainer(tmp_path, max_steps=2)
        module = data("gc")
        run.fit(task, datamodule=module)
        run.save_checkpoint(tmp_path / "x.ckpt")
        again = load_task(tmp_path / "x.ckpt")
        assert again.objective.mean.equal(task.objective.mean) and task.objective.mean != 0
        batch = next(iter(module.test_dataloader()))
        with torch.no_grad():
            for one, other in zip(
                task.eval().predict_step(batch), again.predict_step(batch), strict=True
            ):
                np.testing.assert_array_equal(one, other)


class TestGradualUnfreezing:
    def test_blocks_stay_as_they_are_until_their_turn(self, tmp_path, data):
        record = Record()
        task = sequence_task(adaptation=Adaptation(unfreeze_every=2))
        run = trainer(tmp_path, record, max_epochs=9, max_steps=7, gradient_clip_val=1.0)
        run.fit(task, datamodule=data("gc"))
        turns = {"head.": 0, "encoder.blocks.1.": 2, "encoder.final_norm.": 2,
                 "encoder.blocks.0.": 4, "encoder.embed": 6}  # fmt: skip
        assert len(record.weights) == 8
        for prefix, turn in turns.items():
            names = [name for name in record.weights[0] if name.startswith(prefix)]
            for step, (before, after) in enumerate(pairwise(record.weights)):
                changed = any(not before[name].equal(after[name]) for name in names)
                assert changed == (step >= turn), (prefix, step)

    def test_rates_fall_from_block_to_block(self, tmp_path, data):
        task = sequence_task(adaptation=Adaptation(layer_decay=0.5, head_lr=10.0))
        run = trainer(tmp_path, max_steps=1)
        run.fit(task, datamodule=data("gc"))
        names = {id(parameter): name for name, parameter in task.named_parameters()}
        rates = {
            names[id(parameter)]: group["initial_lr"] / 1e-4
            for group in run.optimizers[0].param_groups
            for parameter in group["params"]
        }
        assert len(rates) == len(list(task.parameters()))
        for name, rate in rates.items():
            assert rate == pytest.approx(task.lr_scale(name)), name
        assert rates["head.predictor.out.weight"] == pytest.approx(10)
        assert rates["encoder.blocks.0.qkv.weight"] == pytest.approx(0.5)


class TestFrozen:
    @pytest.fixture
    def calls(self, monkeypatch):
        """How many tokens the encoder reads."""
        counts, forward = [], Encoder.forward

        def counted(self, tokens, *args, **kwargs):
            counts.append(len(tokens))
            return forward(self, tokens, *args, **kwargs)

        monkeypatch.setattr(Encoder, "forward", counted)
        return counts

    def fit(self, tmp_path, module, seed=1, kind=SequencePrediction, mode="frozen", **options):
        torch.manual_seed(seed)
        objective = options.pop("objective", None) or Regression()
        adaptation = Adaptation(mode=mode)
        task = kind(objective=objective, encoder=TINY, adaptation=adaptation, **options)
        record = Record()
        if mode == "full":  # the same without a cache
            task.encoder.requires_grad_(requires_grad=False)
        run = trainer(tmp_path, record, max_epochs=2)
        run.fit(task, datamodule=module)
        return task, record, dict(run.callback_metrics)

    @pytest.mark.parametrize(
        "case",
        [
            (SequencePrediction, "gc", {}, "mean"),
            (SequencePrediction, "gc", {"pool": "cls"}, "cls"),
            (SequencePrediction, "gc", {"pool": "attention"}, "tokens"),
            (TokenPrediction, "numbers", {}, "tokens"),
        ],
    )
    def test_losses_are_those_without_a_cache(self, tmp_path, data, rows, case):
        kind, labels, options, reads = case
        _, kept, scores = self.fit(tmp_path, data(labels), kind=kind, **options)
        _, computed, expected = self.fit(tmp_path, data(labels), kind=kind, mode="full", **options)
        assert len(kept.losses) > 4
        np.testing.assert_allclose(kept.losses, computed.losses, rtol=1e-5)
        assert float(scores["val/loss"]) == pytest.approx(float(expected["val/loss"]), rel=1e-5)
        (path,) = (tmp_path / "x.csv.embeddings").iterdir()
        assert path.name.endswith(f".{reads}.npy")
        count = sum(len(row) + 2 for row in rows) if reads == "tokens" else len(rows)
        assert np.load(path).shape == (count, TINY.embed_dim)

    def test_every_sequence_is_read_once_in_the_life_of_the_folder(
        self, tmp_path, data, rows, calls
    ):
        task, first, _ = self.fit(tmp_path, data("gc"))
        assert sum(calls) == sum(len(row) + 2 for row in rows)
        calls.clear()
        _, second, _ = self.fit(tmp_path, data("gc"))
        assert calls == [] and second.losses == first.losses
        # Another split, other labels: the same embeddings.
        self.fit(tmp_path, data("flag", split=Partition(val=0.3, test=0.3)), objective=Binary())
        assert calls == []
        # After the fit the encoder is asked again: the next batch may be of other sequences.
        trainer(tmp_path).validate(task, datamodule=data("gc"), verbose=False)
        assert calls

    def test_other_weights_or_sequences_are_computed_anew(self, tmp_path, data, rows, calls):
        folder = tmp_path / "x.csv.embeddings"
        self.fit(tmp_path, data("gc"))
        self.fit(tmp_path, data("gc"), seed=2)
        assert len(list(folder.iterdir())) == 2
        path = tmp_path / "x.csv"
        other = "C" if rows[0][0] != "C" else "G"
        path.write_text(path.read_text().replace(rows[0], other + rows[0][1:]))
        calls.clear()
        self.fit(tmp_path, data("gc"))
        assert calls and len(list(folder.iterdir())) == 3

    def test_embeddings_go_where_one_says(self, tmp_path, data):
        self.fit(tmp_path, data("gc", embedding_folder=tmp_path / "kept"))
        assert len(list((tmp_path / "kept").iterdir())) == 1
        assert not (tmp_path / "x.csv.embeddings").exists()

    def test_the_encoder_stays_as_it_is_and_has_no_dropout(self, tmp_path, data):
        encoder = TINY.__class__(**(vars(TINY) | {"dropout": 0.5, "attention_dropout": 0.5}))
        torch.manual_seed(1)
        task = SequencePrediction(
            objective=Regression(), encoder=encoder, adaptation=Adaptation(mode="probe")
        )
        assert task.head.training and not task.encoder.training
        module, record = data("gc"), Record()
        trainer(tmp_path, record).fit(task, datamodule=module)
        assert any(not w.equal(record.weights[0][n]) for n, w in record.weights[-1].items())
        for name, weight in record.weights[-1].items():
            if name.startswith("encoder."):
                assert weight.equal(record.weights[0][name])
        batch = next(iter(module.val_dataloader()))
        assert task.train()(batch).equal(task.eval()(batch))

    def test_a_run_embeds_in_its_own_precision(self, tmp_path, data, monkeypatch):
        forward, mixed = Encoder.forward, []

        def watched(self, *args, **kwargs):
            mixed.append(torch.is_autocast_enabled("cpu"))
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(Encoder, "forward", watched)
        for precision in ("32-true", "bf16-mixed"):
            mixed.clear()
            task = sequence_task(adaptation=Adaptation(mode="frozen"))
            run = trainer(tmp_path, precision=precision, limit_train_batches=2)
            run.fit(task, datamodule=data("gc"))
            assert set(mixed) == {precision == "bf16-mixed"}
        assert len(list((tmp_path / "x.csv.embeddings").iterdir())) == 2

    def test_low_precision(self, tmp_path, data):
        task = sequence_task(adaptation=Adaptation(mode="frozen"))
        run = trainer(tmp_path, precision="bf16-true", limit_train_batches=2)
        run.fit(task, datamodule=data("gc"))
        assert np.isfinite(float(run.callback_metrics["val/loss"]))


class TestLongSequences:
    def test_train_and_predict_in_windows(self, tmp_path, data, caplog):
        caplog.set_level(logging.INFO, logger="rnafm")
        encoder = TINY.__class__(**(vars(TINY) | {"max_length": 16}))
        task = TokenPrediction(objective=Regression(), encoder=encoder)
        module, record = data("numbers"), Record()
        trainer(tmp_path, record, max_steps=3).fit(task, datamodule=module)
        assert np.isfinite(record.losses).all()
        assert "sequences are longer than the 16 nucleotides" in caplog.text
        for batch in module.test_dataloader():
            lengths = (batch.cu_seqlens.diff() - 2).tolist()
            assert [len(each) for each in task.predict_step(batch)] == lengths
        assert max(lengths) > 16


class TestCallbacks:
    def test_early_stopping_stops(self, tmp_path, data):
        task = sequence_task(
            Multiclass(names=["a", "b"]),
            adaptation=Adaptation(patience=2),
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
        )
        run = trainer(tmp_path, max_epochs=9)
        run.fit(task, datamodule=data("kind"))
        (stopping,) = (each for each in run.callbacks if isinstance(each, EarlyStopping))
        assert stopping.monitor == "val/macro_f1" and stopping.mode == "max"
        assert run.current_epoch == 3

    def test_averaged_weights_are_scored_and_saved(self, tmp_path, data):
        record = Record()
        saving = ModelCheckpoint(tmp_path / "kept", monitor="val/loss", save_last=True)
        task = sequence_task(
            adaptation=Adaptation(ema=0.5),
            optimizer=lambda groups: torch.optim.SGD(groups, lr=0.01),
        )
        run = trainer(tmp_path, record, saving)
        run.fit(task, datamodule=data("gc"))
        assert any(isinstance(each, WeightAveraging) for each in run.callbacks)
        name = "head.predictor.out.weight"
        average = record.weights[1][name]
        for weights in record.weights[2:]:
            average = 0.5 * average + 0.5 * weights[name]
        saved = load_task(tmp_path / "kept" / "last.ckpt")
        torch.testing.assert_close(saved.head.predictor.out.weight, average)
        assert not average.equal(record.weights[-1][name])
        assert saved.objective.mean.equal(task.objective.mean) and saved.objective.mean != 0
        (result,) = trainer(tmp_path).validate(saved, datamodule=data("gc"), verbose=False)
        assert result["val/loss"] == pytest.approx(
            float(run.callback_metrics["val/loss"]), rel=1e-4
        )


class TestRefusals:
    def refused(self, tmp_path, task, module, *callbacks, verb="fit"):
        record = Record()
        with pytest.raises(ValueError) as found:  # noqa: PT011  # the caller looks at the message
            getattr(trainer(tmp_path, record, *callbacks), verb)(task, datamodule=module)
        assert record.weights == []  # before the first step
        return str(found.value)

    def test_data_without_labels(self, tmp_path):
        class Plain(pl.LightningDataModule):
            def train_dataloader(self):
                return [1]

            val_dataloader = train_dataloader

        message = self.refused(tmp_path, sequence_task(), Plain())
        assert message == (
            "SequencePrediction needs data with labels, such as LabelledDataModule or "
            "StructureDataModule; Plain has no labels"
        )

    def test_no_data_module(self, tmp_path):
        with pytest.raises(ValueError, match=r"needs data with labels, .*; there is none"):
            trainer(tmp_path).fit(sequence_task(), [1], [1])

    def test_pretraining_on_labelled_data(self, tmp_path, data):
        message = self.refused(tmp_path, MaskedLM(encoder=TINY), data("gc"))
        assert message.startswith("LabelledDataModule has labels for fine-tuning and no task has")

    def test_base_pairs_of_a_table_of_labels(self, tmp_path, data):
        message = self.refused(tmp_path, ContactPrediction(encoder=TINY), data("gc"))
        assert message.startswith("base pairs come from a StructureDataModule")

    def test_classes_that_the_table_does_not_have(self, tmp_path, data):
        task = sequence_task(Multiclass(names=["tRNA", "rRNA"]))
        message = self.refused(tmp_path, task, data("kind"))
        assert "x.csv:2: column 'kind': 'a' is not among the classes tRNA, rRNA" in message
        assert message.endswith('names: ["a", "b"]')

    def test_another_number_of_outputs(self, tmp_path, data):
        message = self.refused(tmp_path, sequence_task(), data("gc", "flag"))
        assert "columns (gc, flag): are 2 for a task of 1 outputs; set num_outputs to 2" in message

    def test_another_vocabulary(self, tmp_path, data):
        message = self.refused(tmp_path, sequence_task(), data("gc", vocabulary="rna-28"))
        assert "the encoder reads the vocabulary 'rna' (26 tokens), the data are in" in message

    def test_an_output_without_training_labels(self, tmp_path, data, rows):
        table(tmp_path / "x.csv", rows, y=[""] * 12 + [1] * 8)
        assert "no training label" in self.refused(tmp_path, sequence_task(), data("y"))

    def test_no_training_rows(self, tmp_path, data):
        module = data("gc")
        module.files = {"train": [], "val": [], "test": module.files["train"]}
        module.split = Partition()
        message = self.refused(tmp_path, sequence_task(), module)
        assert (
            message
            == "there are no rows for train (there are for test); set data.split, or data.files"
        )

    def test_no_test_rows(self, tmp_path, data):
        message = self.refused(
            tmp_path, sequence_task(), data("gc", split=Partition(val=0.3, test=0)), verb="test"
        )
        assert message.startswith("there are no rows for test (there are for train, val); set data")

    def test_nothing_to_validate_on_where_something_looks_at_it(self, tmp_path, data):
        module = data("gc", split=Partition(val=0, test=0.3))
        saving = ModelCheckpoint(tmp_path / "kept", monitor="val/spearman")
        message = self.refused(tmp_path, sequence_task(), module, saving)
        assert "ModelCheckpoint looks at val/spearman; set data.split.val" in message
        task = sequence_task(adaptation=Adaptation(patience=1))
        assert "EarlyStopping looks at val/spearman" in self.refused(tmp_path, task, module)


def test_training_without_validation(tmp_path, data):
    record = Record()
    run = trainer(tmp_path, record, max_epochs=2)
    run.fit(sequence_task(), datamodule=data("gc", split=Partition(val=0, test=0.3)))
    assert len(record.losses) > 2 and "val/loss" not in run.callback_metrics
