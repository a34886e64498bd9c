"""Objectives: losses, links, what is learned of training labels, plain values."""

import copy
import io
import logging
import math

import jsonargparse
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from rnafm.data.labels import LabelSpec
from rnafm.tasks.objectives import Binary, Multiclass, Multilabel, Objective, Regression

NAN = math.nan
WEIGHTED = Multiclass(num_outputs=4, class_weights=[1, 2, 0.5, 4])
ALL = [
    Regression(num_outputs=3),
    Regression(["half-life"], criterion="huber"),
    Binary(["no", "yes"], pos_weight=3.0),
    Multilabel(num_outputs=3, pos_weight=[1, 2, 5]),
    WEIGHTED,
]


def cases(objective, seed, count=12):
    """Logits and labels, about a third of them missing, in units far from standardised."""
    generator = torch.Generator().manual_seed(seed)
    num = objective.num_outputs
    logits = torch.randn(count, num, generator=generator)
    if isinstance(objective, Multiclass):
        labels = torch.randint(0, num, (count,), generator=generator)
        return logits, labels.masked_fill(torch.rand(count, generator=generator) < 0.3, -100)
    if isinstance(objective, Regression):
        labels = 50 + 7 * torch.randn(count, num, generator=generator)
    else:
        labels = torch.randint(0, 2, (count, num), generator=generator).float()
    return logits, labels.masked_fill(torch.rand(count, num, generator=generator) < 0.3, NAN)


def ids(objective):
    return type(objective).__name__


class TestLosses:
    def test_regression(self):
        logits, labels = torch.randn(20, 2), torch.randn(20, 2)
        for criterion, function in (("mse", F.mse_loss), ("huber", F.huber_loss)):
            objective = Regression(num_outputs=2, standardise=False, criterion=criterion)
            torch.testing.assert_close(
                objective.loss(3 * logits, labels), function(3 * logits, labels)
            )

    def test_regression_counts_outputs_of_all_units_alike(self):
        objective = Regression(num_outputs=2)
        labels = torch.randn(200, 2) * torch.tensor([1e-3, 1e4]) + torch.tensor([5.0, -3.0])
        objective.fit(labels)
        assert objective.loss(torch.zeros(200, 2), labels).item() == pytest.approx(1, abs=1e-4)
        first = torch.tensor([[1.0, 0.0]]).expand(200, 2)
        both = objective.loss(first, labels), objective.loss(first.flip(1), labels)
        assert both[0].item() == pytest.approx(both[1].item(), rel=0.2)

    @pytest.mark.parametrize("labels", [torch.tensor([0.0, 1, 1]), torch.tensor([[0.0], [1], [1]])])
    def test_binary(self, labels):
        logits = torch.tensor([[0.5], [-1.0], [2.0]])
        loss = F.binary_cross_entropy_with_logits
        expected = loss(logits, labels.reshape(3, 1), pos_weight=torch.tensor(3.0))
        torch.testing.assert_close(Binary(pos_weight=3).loss(logits, labels), expected)
        torch.testing.assert_close(
            Binary().loss(logits, labels), loss(logits, labels.reshape(3, 1))
        )

    def test_multilabel(self):
        logits, labels = torch.randn(9, 3), torch.randint(0, 2, (9, 3)).float()
        objective = Multilabel(num_outputs=3, pos_weight=[1, 2, 5])
        expected = F.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=torch.tensor([1.0, 2, 5])
        )
        torch.testing.assert_close(objective.loss(logits, labels), expected)

    def test_multiclass(self):
        logits, labels = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, -100, 0, 0, -100, 2])
        expected = F.cross_entropy(logits, labels, torch.tensor([1, 2, 0.5, 4]))
        torch.testing.assert_close(WEIGHTED.loss(logits, labels), expected)
        plain = Multiclass(num_outputs=4).loss(logits, labels)
        torch.testing.assert_close(plain, F.cross_entropy(logits, labels))

    @pytest.mark.parametrize("objective", ALL, ids=ids)
    def test_float32_inside_autocast(self, objective):
        logits, labels = cases(objective, 0)
        half = logits.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective.loss(half, labels)
            assert objective.predict(half).dtype == torch.float32
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, objective.loss(half.float(), labels))

    def test_other_shapes(self):
        match = r"shape \(4, 3\) and \(4,\): Regression needs rows by 3 outputs; set names"
        with pytest.raises(ValueError, match=match):
            Regression(num_outputs=3).loss(torch.zeros(4, 3), torch.zeros(4))
        with pytest.raises(ValueError, match=r"shape \(4,\) and \(3,\): Binary needs rows by 1"):
            Binary().scores(torch.zeros(4), torch.zeros(3))


class TestMissingLabels:
    @pytest.mark.parametrize("objective", ALL, ids=ids)
    @given(seed=st.integers(0, 10**6))
    def test_have_no_influence(self, objective, seed):
        objective = copy.deepcopy(objective)
        logits, labels = cases(objective, seed)
        missing = objective.missing(labels)
        if isinstance(objective, Regression) and missing.all(dim=0).any():
            return
        if isinstance(objective, Regression):
            objective.fit(labels)
        poisoned = logits.clone()
        poisoned[missing] = NAN
        results = []
        for values in (logits, poisoned):
            values.requires_grad_()
            loss = objective.loss(values, labels)
            loss.backward()
            assert (values.grad[missing] == 0).all()
            assert (values.grad[~missing] != 0).all()
            results.append((loss.detach(), values.grad, objective.predict(values.detach())))
        (loss, grad, predictions), (other_loss, other_grad, other_predictions) = results
        assert loss.isfinite()
        torch.testing.assert_close(loss, other_loss, rtol=0, atol=0)
        torch.testing.assert_close(grad, other_grad, rtol=0, atol=0)
        scores, others = (
            objective.scores(values, labels) for values in (predictions, other_predictions)
        )
        assert list(scores) == list(others)
        for name, value in scores.items():
            torch.testing.assert_close(value, others[name], equal_nan=True, rtol=0, atol=0)

    @pytest.mark.parametrize("objective", ALL, ids=ids)
    def test_rows_without_labels_change_nothing(self, objective):
        logits, labels = cases(objective, 1, 30)
        fill = NAN if labels.is_floating_point() else -100
        more_logits = torch.cat([logits, torch.full((5, objective.num_outputs), NAN)])
        more_labels = torch.cat([labels, torch.full((5, *labels.shape[1:]), fill)])
        torch.testing.assert_close(
            objective.loss(more_logits, more_labels), objective.loss(logits, labels)
        )

    @pytest.mark.parametrize("objective", ALL, ids=ids)
    @pytest.mark.parametrize("count", [0, 4])
    def test_nothing_labelled_is_zero_with_a_graph(self, objective, count):
        logits = torch.full((count, objective.num_outputs), NAN, requires_grad=True)
        labels = objective.no_labels()
        fill = NAN if labels.is_floating_point() else -100
        loss = objective.loss(logits, torch.full((count, *labels.shape[1:]), fill))
        assert loss.item() == 0
        loss.backward()
        assert (logits.grad == 0).all() and len(logits.grad) == count

    def test_minus_100_is_a_value_but_no_flag(self):
        labels = torch.tensor([[-100.0], [1.0]])
        assert not Regression().missing(labels).any()
        assert Binary().missing(labels).tolist() == [[True], [False]]
        assert Binary().missing(labels.long()).tolist() == [[True], [False]]
        assert Binary().loss(torch.tensor([[NAN], [0.0]]), labels).item() == pytest.approx(
            math.log(2)
        )


class TestFit:
    def test_standardisation_and_back(self):
        labels = torch.randn(100, 3) * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([1e2, 0, -1e4])
        labels[torch.rand(100, 3) < 0.3] = NAN
        objective = Regression(num_outputs=3)
        objective.fit(labels)
        scaler = StandardScaler().fit(labels.double().numpy())  # leaves NaN out
        np.testing.assert_allclose(objective.mean, scaler.mean_, rtol=1e-6)
        np.testing.assert_allclose(objective.sd, scaler.scale_, rtol=1e-5)
        standardised = torch.tensor(scaler.transform(labels.double().numpy()))
        back = objective.predict(standardised)
        assert back.dtype == torch.float64
        torch.testing.assert_close(back, labels.double(), equal_nan=True, rtol=1e-6, atol=1e-4)
        assert objective.loss(standardised, labels.double()).item() < 1e-6

    def test_without_standardisation(self):
        objective = Regression(standardise=False)
        objective.fit(torch.tensor([5.0, 7.0]))
        assert objective.predict(torch.tensor([[3.0]])).tolist() == [[3.0]]
        assert not objective.state_dict()

    @pytest.mark.parametrize("value", [0.1, -1e-30, 3e7])
    def test_one_value_only(self, value, caplog):
        objective = Regression(["a", "b"])
        labels = torch.tensor([[value, 1.0]] * 7 + [[NAN, 2.0]])
        with caplog.at_level(logging.WARNING):
            objective.fit(labels)
        assert objective.sd[0] == 1
        assert objective.mean[0].item() == pytest.approx(value)
        assert "Output a: all training labels are" in caplog.text
        assert "Output b" not in caplog.text

    def test_unusable_outputs(self):
        labels = torch.tensor([[1.0, NAN], [2.0, NAN]])
        for objective in (Regression(["a", "b"]), Multilabel(["a", "b"])):
            with pytest.raises(ValueError, match=r"output b: no training label; label some rows"):
                objective.fit(labels.clamp(max=1))
        with pytest.raises(ValueError, match="output 0: a training label is infinite; correct it"):
            Regression().fit(torch.tensor([1.0, math.inf]))
        with pytest.raises(ValueError, match="Multiclass: no training label; label some rows"):
            Multiclass(num_outputs=3).fit(torch.tensor([-100, -100]))
        with pytest.raises(ValueError, match="Binary: no training label"):
            Binary().fit(torch.tensor([NAN, -100]))

    def test_wrong_labels(self):
        match = "training labels run from 0 to 3; with 3 classes they must be 0 to 2; set names"
        with pytest.raises(ValueError, match=match):
            Multiclass(num_outputs=3).fit(torch.tensor([0, 3, -100]))
        with pytest.raises(ValueError, match="run from -1 to 0"):
            Multiclass(num_outputs=3).fit(torch.tensor([0, -1]))
        with pytest.raises(ValueError, match="output b: a training label is 2; it must be 0 or 1"):
            Multilabel(["a", "b"]).fit(torch.tensor([[0.0, 2], [1, 1]]))

    def test_balanced_classes(self, caplog):
        objective = Multiclass(["a", "b", "c", "d"], class_weights="balanced")
        labels = torch.tensor([0] * 60 + [1] * 30 + [3] * 10 + [-100] * 50)
        assert objective.loss(torch.zeros(150, 4), labels).isnan()  # not fitted yet
        with caplog.at_level(logging.WARNING):
            objective.fit(labels)
        expected = compute_class_weight(
            "balanced", classes=np.array([0, 1, 3]), y=labels[:100].numpy()
        )
        np.testing.assert_allclose(objective.weights[[0, 1, 3]], expected, rtol=1e-6)
        assert objective.weights[2] == 1
        assert caplog.messages == ["Class c: no training label"]

    def test_balanced_flags(self, caplog):
        objective = Multilabel(["a", "b", "c"], pos_weight="balanced")
        columns = [[1.0] * 10 + [0] * 90, [1] * 80 + [0] * 16 + [NAN] * 4, [0] * 100]
        labels = torch.tensor(columns).T
        with caplog.at_level(logging.WARNING):
            objective.fit(labels)
        assert objective.weights.tolist() == pytest.approx([9, 0.2, 1])
        assert caplog.messages == ["output c: all training labels are 0"]
        binary = Binary(pos_weight="balanced")
        binary.fit(labels[:, 0])
        assert binary.weights.tolist() == pytest.approx([9])

    def test_given_weights_stay(self):
        objective = Multilabel(num_outputs=2, pos_weight=7)
        objective.fit(torch.tensor([[0.0, 1], [1, 0]]))
        assert objective.weights.tolist() == [7, 7]

    @pytest.mark.parametrize(
        "new",
        [
            lambda: Regression(num_outputs=2),
            lambda: Multilabel(num_outputs=2, pos_weight="balanced"),
        ],
    )
    def test_is_part_of_the_weights(self, new):
        first, second = new(), new()
        first.fit(torch.tensor([[0.0, 1], [1, 0], [1, 1]]))
        second.load_state_dict(first.state_dict())
        logits, labels = torch.randn(3, 2), torch.tensor([[0.0, 1], [1, 0], [1, 1]])
        assert second.loss(logits, labels) == first.loss(logits, labels)
        assert second.loss(logits, labels) != type(first)(num_outputs=2).loss(logits, labels)


class TestPredictions:
    def test_probabilities(self):
        logits = torch.randn(6, 3)
        torch.testing.assert_close(Multilabel(num_outputs=3).predict(logits), logits.sigmoid())
        torch.testing.assert_close(Binary().predict(logits[:, :1]), logits[:, :1].sigmoid())
        torch.testing.assert_close(Multiclass(num_outputs=3).predict(logits), logits.softmax(dim=1))


class TestConstruction:
    @pytest.mark.parametrize(
        ("objective", "sequence"),
        [
            (Regression(["a", "b"]), LabelSpec("value", "sequence", 2, ("a", "b"))),
            (Regression(), LabelSpec("value", "sequence", 1)),
            (Binary(["no", "yes"]), LabelSpec("flag", "sequence", 1, ("no", "yes"))),
            (Multiclass(["a", "b", "c"]), LabelSpec("class", "sequence", 3, ("a", "b", "c"))),
            (Multilabel(num_outputs=2), LabelSpec("flag", "sequence", 2)),
        ],
    )
    def test_spec(self, objective, sequence):
        assert objective.spec("sequence") == sequence
        assert objective.spec("token").level == "token"
        if isinstance(objective, Binary):
            assert objective.spec("pairs") == LabelSpec("pairs", "pairs", 1)
        else:
            with pytest.raises(ValueError, match="cannot learn base pairs; use Binary"):
                objective.spec("pairs")

    @pytest.mark.parametrize("objective", ALL, ids=ids)
    def test_monitor_is_a_score(self, objective):
        logits, labels = cases(objective, 0)
        assert objective.monitor in objective.scores(objective.predict(logits), labels)
        assert objective.mode == "max"

    @pytest.mark.parametrize(
        ("new", "match"),
        [
            (lambda: Regression(["a", "a"]), r"names \(a, a\) of Regression repeat; use each once"),
            (
                lambda: Regression(["a"], 2),
                r"num_outputs \(2\) of Regression: the names \(a\) are 1",
            ),
            (lambda: Regression(num_outputs=-1), r"num_outputs \(-1\) of Regression: at least 1"),
            (lambda: Regression(criterion="mae"), r"criterion \(mae\) of Regression: unknown; use"),
            (lambda: Binary(["yes"]), r"names \(yes\) of Binary: 1; give two or none"),
            (
                Multiclass,
                r"num_outputs \(0\) of Multiclass: at least 2 needed; set names",
            ),
            (lambda: Multiclass(["a"]), "at least 2 needed"),
            (
                Multilabel,
                r"num_outputs \(0\) of Multilabel: at least 1 needed; set names",
            ),
            (
                lambda: Multiclass(["a", "b"], class_weights=[1.0]),
                "1 numbers; give one for each of 2",
            ),
            (lambda: Binary(pos_weight=0.0), r"pos_weight \(0\.0\): must be above 0 and finite"),
            (lambda: Binary(pos_weight=NAN), "must be above 0 and finite"),
            (lambda: Binary(pos_weight="even"), r"pos_weight \(even\): give numbers or balanced"),
        ],
    )
    def test_refusals(self, new, match):
        with pytest.raises(ValueError, match=match):
            new()

    def test_from_yaml(self):
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("--objective", type=Objective)
        text = (
            '{"class_path": "%s", "init_args": {"names": ["tRNA", "rRNA"], '
            '"class_weights": [1, 2.5]}}'
        )
        for path in ("Multiclass", "rnafm.tasks.objectives.Multiclass"):
            config = parser.parse_args([f"--objective={text % path}"])
            objective = parser.instantiate_classes(config).objective
            assert isinstance(objective, Multiclass)
            assert objective.names == ("tRNA", "rRNA")
            assert objective.weights.tolist() == [1, 2.5]
        for weight in ("balanced", "2.0", "[1, 3]"):
            arguments = ["--objective=Multilabel", "--objective.names=[a, b]"]
            config = parser.parse_args([*arguments, f"--objective.pos_weight={weight}"])
            kept = parser.instantiate_classes(config).objective.pos_weight
            assert kept == {"balanced": "balanced", "2.0": 2.0, "[1, 3]": (1.0, 3.0)}[weight]


class Ordinal(Objective):
    """Somebody's own objective."""

    monitor = "error"
    mode = "min"

    def __init__(self, steps=(1, 2), *, strict=False):
        super().__init__((), len(steps))
        self.steps, self.strict = tuple(steps), strict

    def spec(self, level):
        return LabelSpec("value", level, self.num_outputs)

    def loss(self, logits, labels):
        return (logits - labels).abs().mean()

    def predict(self, logits):
        return logits

    def scores(self, predictions, labels):
        return {"error": (predictions - labels).abs().mean()}


class TestPlainValues:
    @pytest.mark.parametrize(
        "objective",
        [
            *ALL,
            Multiclass(("x", "y"), class_weights="balanced"),
            Multilabel(["x"], pos_weight=2),
            Regression(standardise=False),
            Ordinal((3, 4, 5), strict=True),
        ],
        ids=ids,
    )
    def test_round_trip(self, objective):
        values = objective.to_dict()
        file = io.BytesIO()
        torch.save(values, file)
        file.seek(0)
        again = Objective.from_dict(torch.load(file, weights_only=True))
        assert type(again) is type(objective)
        assert again.to_dict() == values
        for name, value in objective.named_buffers():
            torch.testing.assert_close(again.get_buffer(name), value, equal_nan=True)
        for name in values["init_args"]:
            assert getattr(again, name) == getattr(objective, name)

    def test_path(self):
        assert Binary(["a", "b"]).to_dict() == {
            "class_path": "rnafm.tasks.objectives.Binary",
            "init_args": {"names": ["a", "b"], "pos_weight": None},
        }

    def test_a_parameter_that_is_not_kept(self):
        objective = Ordinal()
        del objective.steps
        match = (
            r"objective \(Ordinal\): a checkpoint needs its parameters \(steps\); set attributes"
        )
        with pytest.raises(ValueError, match=match):
            objective.to_dict()

    @pytest.mark.parametrize(
        "path", ["os.system", "rnafm.tasks.objective.Objective", "Binary", "my.Own"]
    )
    def test_only_imported_objectives(self, path):
        match = rf"objective \({path}\): no imported subclass .* use one of .*objectives\.Binary"
        with pytest.raises(ValueError, match=match):
            Objective.from_dict({"class_path": path, "init_args": {}})

    def test_own_objective_has_a_metric(self):
        metric = Ordinal((1, 2)).new_metric()
        metric.update(torch.ones(3, 2), torch.zeros(3, 2))
        assert {k: v.item() for k, v in metric.compute().items()} == {"loss": 1, "error": 1}
