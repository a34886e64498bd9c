"""Scores against scikit-learn and SciPy; what the metric gathers over batches and processes."""

import copy
import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from rnafm.tasks.objectives import Binary, Multiclass, Multilabel, Regression
from rnafm.tasks.scores import decision_scores, ranking_scores, regression_scores

NAN = math.nan
SEEDS = st.integers(0, 10**6)


def numbers(scores):
    return {name: value.item() for name, value in scores.items()}


def close(scores, expected, tolerance=1e-6):
    """Each expected score, NaN where that is expected."""
    found = {name: scores[name].item() for name in expected}
    assert found == pytest.approx(expected, abs=tolerance, nan_ok=True)


def mean(values):
    return sum(values) / len(values) if values else NAN


def reference_regression(predictions, labels):
    keep = ~np.isnan(labels)
    p, y = predictions[keep], labels[keep]
    return {
        "spearman": stats.spearmanr(p, y).statistic,
        "pearson": stats.pearsonr(p, y).statistic,
        "r2": metrics.r2_score(y, p),
        "mse": metrics.mean_squared_error(y, p),
        "rmse": metrics.root_mean_squared_error(y, p),
    }


def reference_flag(p, y):
    return {
        "f1": metrics.f1_score(y, p > 0.5),
        "mcc": metrics.matthews_corrcoef(y, p > 0.5),
        "auroc": metrics.roc_auc_score(y, p),
        "auprc": metrics.average_precision_score(y, p),
    }


class TestRegression:
    @given(seed=SEEDS, ties=st.booleans(), scale=st.sampled_from([1e-4, 1.0, 1e4]))
    def test_one_output(self, seed, ties, scale):
        generator = np.random.default_rng(seed)
        labels = generator.normal(size=(40, 1))
        predictions = labels + generator.normal(size=(40, 1))
        if ties:
            labels, predictions = labels.round(), predictions.round()
        labels, predictions = labels * scale + 3, predictions * scale + 3
        labels[generator.random((40, 1)) < 0.3] = NAN
        expected = reference_regression(predictions, labels)
        scores = Regression().scores(torch.tensor(predictions), torch.tensor(labels))
        assert set(scores) == {"spearman", "pearson", "r2", "mse", "mcrmse"}
        for name, value in expected.items():
            found = scores["mcrmse" if name == "rmse" else name].item()
            assert found == pytest.approx(value, rel=1e-5, abs=1e-7)

    @given(seed=SEEDS)
    def test_several_outputs(self, seed):
        generator = np.random.default_rng(seed)
        labels = generator.normal(size=(30, 3)) * [1, 10, 0.1]
        predictions = labels + generator.normal(size=(30, 3)) * [1, 10, 0.1]
        labels[generator.random((30, 3)) < 0.3] = NAN
        scores = Regression(["a", "b", "c"]).scores(torch.tensor(predictions), torch.tensor(labels))
        single = [reference_regression(predictions[:, i], labels[:, i]) for i in range(3)]
        expected = {
            f"{name}/{title}": one[name]
            for title, one in zip("abc", single, strict=True)
            for name in one
        }
        for name in single[0]:
            average = "mcrmse" if name == "rmse" else name
            expected[average] = np.mean([one[name] for one in single])
        assert set(scores) == set(expected)
        close(scores, expected)

    def test_mcrmse_of_openvaccine(self):
        """Mean over columns of the root of the mean over all rows and scored positions."""
        labels, predictions = torch.rand(5, 68, 3), torch.rand(5, 68, 3)
        expected = (labels - predictions).square().mean(dim=(0, 1)).sqrt().mean()
        objective = Regression(["reactivity", "deg_Mg_pH10", "deg_Mg_50C"])
        padded = torch.cat([labels, torch.full((5, 39, 3), NAN)], dim=1)
        anything = torch.cat([predictions, torch.full((5, 39, 3), 1e6)], dim=1)
        scores = objective.scores(anything.reshape(-1, 3), padded.reshape(-1, 3))
        close(scores, {"mcrmse": expected.item()})

    def test_in_the_original_unit(self):
        objective = Regression()
        labels = torch.tensor([[10.0], [20], [60]])
        objective.fit(labels)
        metric = objective.new_metric()
        metric.update(torch.zeros(3, 1), labels)  # 0 stands for the mean
        close(metric.compute(), {"mse": labels.var(correction=0).item(), "r2": 0, "loss": 1}, 1e-4)

    @pytest.mark.parametrize("scale", [1e-6, 1e-3])
    def test_r2_of_small_labels(self, scale):
        labels = torch.tensor([0.0, 1, 2, 3]) * scale
        scores = Regression().scores(labels.flip(0), labels)
        assert scores["r2"].item() == pytest.approx(-3)

    def test_many_ties(self):
        labels = torch.cat([torch.zeros(70_000), torch.arange(1.0, 101)])
        predictions = torch.cat([torch.zeros(70_000), -torch.arange(1.0, 101)])
        expected = stats.spearmanr(predictions.numpy(), labels.numpy()).statistic
        close(Regression().scores(predictions, labels), {"spearman": expected})

    def test_large_offsets(self):
        labels = 1e5 + torch.tensor([0.1, 0.3, 0.2, 0.9])
        predictions = 1e5 + torch.tensor([0.2, 0.2, 0.4, 0.8])
        expected = reference_regression(predictions.double().numpy(), labels.double().numpy())
        del expected["rmse"]
        close(Regression().scores(predictions, labels), expected, 1e-9)


class TestBinary:
    @given(seed=SEEDS, ties=st.booleans())
    def test_scores(self, seed, ties):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, 60).astype(float)
        predictions = np.clip(0.3 * labels + generator.random(60) * 0.7, 0, 1)
        predictions = predictions.round(1) if ties else predictions
        missing = generator.random(60) < 0.3
        scores = Binary(["no", "yes"]).scores(
            torch.tensor(predictions), torch.tensor(np.where(missing, NAN, labels))
        )
        p, y = predictions[~missing], labels[~missing]
        both = metrics.f1_score(y, p > 0.5, average=None)
        expected = reference_flag(p, y) | {
            "accuracy": metrics.accuracy_score(y, p > 0.5),
            "macro_f1": metrics.f1_score(y, p > 0.5, average="macro"),
            "f1/no": both[0],
            "f1/yes": both[1],
        }
        del expected["f1"]
        assert set(scores) == set(expected)
        close(scores, expected)

    def test_the_majority_class_is_worth_nothing(self):
        labels = torch.tensor([1.0] * 9 + [0])
        scores = Binary().scores(torch.full((10,), 0.9), labels)
        close(scores, {"accuracy": 0.9, "mcc": 0, "auroc": 0.5, "auprc": 0.9, "f1/0": 0})

    def test_large_logits_keep_their_order(self):
        logits, labels = torch.arange(20.0, 30).unsqueeze(1), torch.tensor([0.0] * 5 + [1] * 5)
        metric = Binary().new_metric()
        metric.update(logits, labels)  # in float32 all probabilities would be 1
        close(metric.compute(), {"auroc": 1, "auprc": 1})


class TestMulticlass:
    @given(seed=SEEDS, absent=st.booleans())
    def test_scores(self, seed, absent):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 3 if absent else 4, 80)
        logits = torch.tensor(generator.normal(size=(80, 4)) + np.eye(4)[labels])
        missing = generator.random(80) < 0.3
        given_labels = torch.tensor(np.where(missing, -100, labels))
        predictions = logits.softmax(dim=1)
        scores = Multiclass(["a", "b", "c", "d"]).scores(predictions, given_labels)
        p, y = predictions.numpy()[~missing], labels[~missing]
        present, decided = np.unique(y), p.argmax(axis=1)
        f1 = metrics.f1_score(y, decided, labels=range(4), average=None, zero_division=0)
        expected = {
            "accuracy": metrics.accuracy_score(y, decided),
            "macro_f1": metrics.f1_score(y, decided, labels=present, average="macro"),
            "mcc": metrics.matthews_corrcoef(y, decided),
            "auroc": np.mean([metrics.roc_auc_score(y == c, p[:, c]) for c in present]),
            "auprc": np.mean([metrics.average_precision_score(y == c, p[:, c]) for c in present]),
        }
        expected |= {f"f1/{t}": f1[c] if c in present else NAN for c, t in enumerate("abcd")}
        assert set(scores) == set(expected)
        close(scores, expected)
        if not absent:
            ovr = metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")
            close(scores, {"auroc": ovr})

    def test_one_class_or_none(self):
        scores = Multiclass(num_outputs=3).scores(torch.eye(3)[[0, 0, 1]], torch.tensor([0, 0, 0]))
        close(
            scores,
            {
                "accuracy": 2 / 3,
                "macro_f1": 0.8,
                "f1/0": 0.8,
                "f1/1": NAN,
                "mcc": NAN,
                "auprc": NAN,
            },
        )

    def test_mcc_of_a_large_set_is_exact(self):
        labels = torch.zeros(1_000_000, dtype=torch.long)
        labels[-3:] = 1
        decided = labels.clone()
        decided[[0, -1]] = torch.tensor([1, 0])  # 2 true, 1 false positive, 1 false negative
        scores = decision_scores(torch.eye(2, dtype=torch.float64)[decided], labels)
        true_negatives = 1_000_000 - 4
        expected = (2 * true_negatives - 1) / (3 * (true_negatives + 1))
        assert scores["mcc"].item() == pytest.approx(expected, rel=1e-12)


class TestMultilabel:
    @given(seed=SEEDS)
    def test_scores(self, seed):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 2, (60, 4)).astype(float)
        labels[:, 1], labels[:, 2] = 0, NAN  # nothing to score, no labels
        predictions = np.clip(0.3 * np.nan_to_num(labels) + generator.random((60, 4)) * 0.7, 0, 1)
        labels[generator.random((60, 4)) < 0.3] = -100
        scores = Multilabel(["a", "b", "c", "d"]).scores(
            torch.tensor(predictions), torch.tensor(labels)
        )
        keep = ~np.isnan(labels) & (labels != -100)
        single = [reference_flag(predictions[keep[:, i], i], labels[keep[:, i], i]) for i in (0, 3)]
        expected = {name: mean([one[name] for one in single]) for name in ("mcc", "auroc", "auprc")}
        expected |= {
            "accuracy": ((predictions > 0.5) == labels)[keep].mean(),
            "macro_f1": mean([one["f1"] for one in single]),
            "f1/a": single[0]["f1"],
            "f1/b": NAN,
            "f1/c": NAN,
            "f1/d": single[1]["f1"],
        }
        assert set(scores) == set(expected)
        close(scores, expected)


class TestUndefined:
    """Warnings are errors in this suite."""

    def test_no_rows(self):
        for objective in (Regression(num_outputs=2), Binary(), Multilabel(num_outputs=2)):
            predictions = torch.zeros(0, objective.num_outputs)
            scores = objective.scores(predictions, predictions)
            assert all(value.isnan() for value in scores.values()), scores
        scores = Multiclass(num_outputs=3).scores(torch.zeros(0, 3), torch.zeros(0).long())
        assert all(value.isnan() for value in scores.values()), scores

    def test_one_row(self):
        scores = Regression().scores(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        close(scores, {"mse": 4, "mcrmse": 2, "spearman": NAN, "pearson": NAN, "r2": NAN})
        scores = Binary().scores(torch.tensor([0.9]), torch.tensor([1.0]))
        expected = {"accuracy": 1, "f1/1": 1, "f1/0": NAN, "mcc": NAN, "auroc": NAN, "auprc": NAN}
        close(scores, expected)

    def test_constant_values(self):
        varied, constant = torch.tensor([1.0, 2, 4]), torch.full((3,), 0.1)
        close(regression_scores(constant, varied), {"spearman": NAN, "pearson": NAN})
        assert regression_scores(constant, varied)["r2"] < 0
        close(regression_scores(varied, constant), {"spearman": NAN, "pearson": NAN, "r2": NAN})

    def test_giving_up_on_an_output_does_not_raise_the_mean(self):
        labels = torch.tensor([[1.0, 1], [2, 2], [3, 3]])
        predictions = torch.tensor([[1.0, 5], [2, 5], [3, 5]])
        scores = Regression(["a", "b"]).scores(predictions, labels)
        close(scores, {"spearman": NAN, "spearman/a": 1, "spearman/b": NAN})
        labels[:, 1] = 7  # nobody can correlate with that
        close(Regression(["a", "b"]).scores(predictions, labels), {"spearman": 1, "r2": 1})

    @pytest.mark.parametrize("value", [NAN, math.inf])
    def test_a_diverged_model_scores_nothing(self, value):
        predictions = torch.tensor([[0.2, 0.8], [value, 0.1], [0.6, 0.4], [0.3, 0.2]])
        labels = torch.tensor([[0.0, 1], [1, 0], [1, 1], [0, 0]])
        for objective in (Regression(num_outputs=2), Multilabel(num_outputs=2)):
            scores = objective.scores(predictions, labels)
            names = [name for name in scores if not name.endswith("/1")]
            assert all(scores[name].isnan() for name in names), scores
            assert not any(scores[name].isnan() for name in set(scores) - set(names))
        scores = Multiclass(num_outputs=2).scores(predictions, labels[:, 0].long())
        assert scores["accuracy"].isnan() and scores["mcc"].isnan() and scores["auroc"].isnan()

    def test_one_label_only(self):
        for labels in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
            scores = ranking_scores(torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), labels)
            close(scores, {"auroc": NAN, "auprc": NAN})


OBJECTIVES = [
    Regression(num_outputs=2),
    Regression(criterion="huber"),
    Binary(pos_weight=3),
    Multiclass(num_outputs=3, class_weights=[1, 2, 5]),
    Multilabel(num_outputs=2, pos_weight=[1, 4]),
]


def rows(objective, count=40, seed=0):
    """Logits and labels, a third of them missing; fits the objective."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, objective.num_outputs, generator=generator)
    if isinstance(objective, Multiclass):
        labels = torch.randint(0, 3, (count,), generator=generator)
        labels[torch.rand(count, generator=generator) < 0.3] = -100
    else:
        labels = (logits + torch.randn(logits.shape, generator=generator) > 0).float()
        labels = 3 * labels + logits if isinstance(objective, Regression) else labels
        labels[torch.rand(logits.shape, generator=generator) < 0.3] = NAN
    objective.fit(labels)
    return logits, labels


def at_once(objective, logits, labels):
    """What the metric should give."""
    scores = objective.scores(objective.predict(logits.double()), labels)
    return numbers({"loss": objective.loss(logits, labels), **scores})


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
class TestMetric:
    @given(cuts=st.lists(st.integers(0, 40), max_size=6), seed=SEEDS)
    def test_batches_do_not_matter(self, objective, cuts, seed):
        logits, labels = rows(objective, seed=seed)
        metric = objective.new_metric()
        borders = [0, *sorted(cuts), 40]
        for start, end in itertools.pairwise(borders):
            metric.update(logits[start:end].bfloat16().float(), labels[start:end])
        close(metric.compute(), at_once(objective, logits.bfloat16().float(), labels), 1e-5)

    def test_merged_states(self, objective):
        logits, labels = rows(objective)
        first, second, nothing = (objective.new_metric() for _ in range(3))
        first.update(logits[:7], labels[:7])
        first.update(logits[7:9], labels[7:9])
        second.update(logits[9:], labels[9:])
        first.merge_state(second)
        first.merge_state(nothing)
        close(first.compute(), at_once(objective, logits, labels), 1e-5)

    @pytest.mark.parametrize("share", [13, 0])
    def test_gathered_states(self, objective, share):
        """What ``all_gather`` gives each rank, in one process: uneven ranks, and an empty one."""
        logits, labels = rows(objective)
        ranks = [objective.new_metric() for _ in range(2)]
        ranks[0].update(logits[:share], labels[:share]) if share else None
        ranks[1].update(logits[share:20], labels[share:20])
        ranks[1].update(logits[20:], labels[20:])
        whole = [[torch.cat(rank.logits), torch.cat(rank.labels)] for rank in ranks]
        for number, rank in enumerate(ranks):
            states = iter(range(2))

            def gather(own, group=None, states=states, number=number):
                assert group is None
                state = next(states)
                assert own.dtype == whole[number][state].dtype
                assert own.shape == whole[number][state].shape
                return [pieces[state] for pieces in whole]

            rank.dist_sync_fn = gather
            rank.distributed_available_fn = lambda: True
            close(rank.compute(), at_once(objective, logits, labels), 1e-5)
            assert isinstance(rank.logits, list)  # goes on with its own rows

    def test_starts_again(self, objective):
        logits, labels = rows(objective)
        metric = objective.new_metric()
        metric.update(logits, labels)
        metric.compute()
        metric.reset()
        assert all(math.isnan(value) for value in numbers(metric.compute()).values())
        metric.reset()
        metric.update(logits[:9], labels[:9])
        close(metric.compute(), at_once(objective, logits[:9], labels[:9]), 1e-5)

    def test_no_part_of_the_weights(self, objective):
        task = torch.nn.Module()
        task.objective, task.scores = objective, objective.new_metric()
        assert {name.split(".")[0] for name in task.state_dict()} <= {"objective"}
        assert len(list(task.modules())) == 3
        twin = copy.deepcopy(task)
        (held,) = twin.scores._objective
        assert held is twin.objective

    def test_keeps_only_labelled_rows(self, objective):
        _, labels = rows(objective)
        missing = objective.missing(labels).reshape(40, -1).all(dim=1)
        metric = objective.new_metric()
        metric.update(torch.full((40, objective.num_outputs), NAN), labels)
        assert len(torch.cat(metric.logits)) == (~missing).sum() < 40


def test_labels_of_one_output_may_lack_their_dimension():
    logits, labels = torch.randn(9, 1), torch.randint(0, 2, (9,))
    metric = Binary().new_metric()
    metric.update(logits, labels)
    close(metric.compute(), at_once(Binary(), logits, labels), 1e-5)


def test_a_value_of_minus_100_is_scored():
    labels = torch.tensor([-100.0, 0, 50])
    metric = Regression().new_metric()
    metric.update(labels.unsqueeze(1), labels)
    close(metric.compute(), {"mse": 0, "r2": 1, "spearman": 1})


PROCESS = """
import json, sys, torch
import torch.distributed as dist
from rnafm.tasks.objectives import Binary, Multiclass, Regression
rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
logits, flags, classes = torch.load(sys.argv[4], weights_only=True)
results = []
for share in ([5, 23], [0, 28]):
    start = sum(share[:rank])
    for objective, labels in (
        (Regression(num_outputs=3), logits.flip(0)),
        (Binary(), flags),
        (Multiclass(num_outputs=3), classes),
    ):
        metric = objective.new_metric()
        for i in range(start, start + share[rank], 4):
            part = slice(i, min(i + 4, start + share[rank]))
            metric.update(logits[part, : objective.num_outputs], labels[part])
        results.append({k: v.item() for k, v in metric.compute().items()})
print(json.dumps(results))
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    """Uneven ranks, and one without rows, through gloo."""
    logits = torch.randn(28, 3)
    flags, classes = torch.randint(0, 2, (28, 1)).float(), torch.randint(0, 3, (28,))
    torch.save([logits, flags, classes], tmp_path / "rows.pt")
    arguments = ["2", str(tmp_path / "store"), str(tmp_path / "rows.pt")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    expected = [
        at_once(Regression(num_outputs=3), logits, logits.flip(0)),
        at_once(Binary(), logits[:, :1], flags),
        at_once(Multiclass(num_outputs=3), logits, classes),
    ] * 2
    for output in outputs:
        for found, wanted in zip(json.loads(output), expected, strict=True):
            assert found == pytest.approx(wanted, abs=1e-5, nan_ok=True)
