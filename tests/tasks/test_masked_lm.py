import math

import pytest
import torch
from batches import CODON, RNA, TINY, random_batch
from torch import nn
from torch.optim import AdamW

from rnafm.data.masking import Masking, mask_tokens
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import MaskedLMHead
from rnafm.tasks import MaskedLM
from rnafm.tasks.metrics import MaskedLMScores


def make(**options):
    return MaskedLM(
        **{"encoder": TINY, "optimizer": lambda groups: AdamW(groups, lr=3e-3), **options}
    )


def test_logits_are_those_of_the_hidden_positions_only():
    task = make().eval()
    batch = random_batch([30, 50])
    logits, labels = task(batch)
    masked = mask_tokens(batch, RNA, Masking())
    assert labels.equal(masked.labels)
    everywhere = task.head(
        task.encoder(masked.tokens, batch.cu_seqlens, batch.max_seqlen),
        task.encoder.embed_tokens.weight,
    )
    torch.testing.assert_close(logits, everywhere[masked.positions])


@pytest.mark.parametrize("name", ["rna", "codon"])
def test_the_loss_starts_at_a_guess_and_falls(name):
    torch.manual_seed(0)
    task = make(vocabulary=name)
    batch = random_batch([60] * 8, Vocabulary.named(name))
    losses = []
    optimizer = AdamW(task.parameters(), lr=3e-3)
    for step in range(40):
        logits, labels = task(batch._replace(key=step % 2))
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(len(Vocabulary.named(name))), abs=0.1)
    assert losses[-1] < losses[0] - 1


def test_weight_decay_spares_biases_norms_and_embeddings():
    task = make(optimizer=lambda groups: AdamW(groups, lr=1e-3, weight_decay=0.01))
    task.trainer = type("Trainer", (), {"max_steps": 100, "datamodule": None})()
    (decay, no_decay) = task.configure_optimizers()["optimizer"].param_groups
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.01, 0.0)
    names = {id(p): name for name, p in task.named_parameters()}
    decayed = sorted(names[id(p)] for p in decay["params"])
    assert all(
        name.endswith(("qkv.weight", "out.weight", "fc1.weight", "fc2.weight", "dense.weight"))
        for name in decayed
    )
    assert len(decayed) == 2 * 4 + 1
    assert len(decay["params"]) + len(no_decay["params"]) == len(list(task.parameters()))


def test_scores_against_a_count_by_hand():
    scores = MaskedLMScores(6)
    logits = torch.randn(9, 6)
    labels = torch.tensor([1, 1, 1, 2, 2, 3, 1, 0, 1])
    for part in (slice(0, 4), slice(4, 9)):  # over several batches the mean is still that of all
        scores.update(logits[part], labels[part])
    result = scores.compute()
    expected = nn.functional.cross_entropy(logits, labels)
    assert result["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(expected.item()), rel=1e-5)
    assert result["accuracy"] == (logits.argmax(1) == labels).sum() / 9
    assert result["baseline_accuracy"] == pytest.approx(5 / 9)
    shares = [5 / 9, 2 / 9, 1 / 9, 1 / 9]
    assert result["baseline_loss"] == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-5)


def test_hyperparameters_are_plain_and_rebuild_the_task():
    task = make(vocabulary="codon", masking=Masking(fraction=0.2))
    again = MaskedLM(**dict(task.hparams))
    assert again.encoder.config == TINY
    assert again.encoder.vocabulary == CODON
    assert again.masking == Masking(fraction=0.2)


def test_weights_come_from_a_checkpoint(tmp_path):
    from rnafm.checkpoints import Checkpoint, save_checkpoint

    first = make(vocabulary="rna-28")
    save_checkpoint(Checkpoint(first.encoder, first.head), tmp_path / "x.safetensors")
    second = make(checkpoint=tmp_path / "x.safetensors")
    assert second.encoder.vocabulary.name == "rna-28"
    assert second.hparams["vocabulary"] == first.hparams["vocabulary"]
    for name, value in first.state_dict().items():
        assert value.equal(second.state_dict()[name]), name
    # An encoder alone gets a new head.
    save_checkpoint(Checkpoint(first.encoder, None), tmp_path / "y.safetensors")
    assert isinstance(make(checkpoint=tmp_path / "y.safetensors").head, MaskedLMHead)


def test_the_defaults_are_the_published_recipe():
    task = MaskedLM(encoder=TINY)
    task.trainer = type("Trainer", (), {"max_steps": -1, "max_epochs": -1, "datamodule": None})()
    configured = task.configure_optimizers()
    (group, _) = configured["optimizer"].param_groups
    assert isinstance(configured["optimizer"], AdamW)
    assert (group["initial_lr"], group["weight_decay"]) == (1e-4, 0.01)
    schedule = configured["lr_scheduler"]
    assert schedule["interval"] == "step"
    assert schedule["scheduler"].factor(9_999) == 1
    assert schedule["scheduler"].factor(39_999) == 0.5
    assert task.masking == Masking(fraction=0.15, mask=0.8, random=0.1, span=1)
    assert MaskedLM().encoder.config.embed_dim == 640
