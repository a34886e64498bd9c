"""Contacts: which parameters are trained, which decoder is used, what is labelled."""

import numpy as np
import torch
from batches import TINY, random_batch

from rnafm.modules.contact import AttentionContactHead, LinearContactHead
from rnafm.modules.folding import Decoder, candidates, decode_all
from rnafm.tasks import ContactPrediction


def make(**options):
    torch.manual_seed(0)
    return ContactPrediction(encoder=TINY, head=options.pop("head", LinearContactHead), **options)


def test_labels_are_those_of_the_pairs_in_the_order_of_the_logits():
    pairs = torch.tensor([[0, 1, 8], [1, 0, 5], [1, 2, 4]])
    batch = random_batch([10, 6])._replace(labels=pairs)
    labels, logits = make().labels(batch)[:, 0], make()(batch)
    assert logits.shape == (10 * 9 // 2 + 6 * 5 // 2, 1)
    first = [(i, j) for i in range(10) for j in range(i + 1, 10)]
    second = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    found = [(0, *pair) for pair in first] + [(1, *pair) for pair in second]
    assert [found[i] for i in labels.nonzero()[:, 0].tolist()] == [tuple(p) for p in pairs.tolist()]


def test_a_head_on_attention_maps_leaves_nothing_without_a_gradient():
    # Parameters that the loss does not reach would stop several devices.
    batch = random_batch([10, 8])._replace(labels=torch.tensor([[0, 1, 8]]))
    for mode in ("full", "lora"):
        task = make(head=AttentionContactHead, adaptation={"mode": mode})
        task.objective.loss(task(batch), task.labels(batch)).backward()
        trained = {name: each for name, each in task.named_parameters() if each.requires_grad}
        assert [name for name, each in trained.items() if each.grad is None] == []
        assert any(name.startswith("encoder.") for name in trained)


def test_a_decoder_that_is_given_wins_over_that_of_the_checkpoint():
    stored = {"decoder": {"method": "greedy", "threshold": 0.2}}
    chosen = make()
    chosen.on_load_checkpoint(dict(stored))
    assert chosen.decoder == Decoder("greedy", 0.2)
    given = make(decoder=Decoder("nested", 0.3))
    given.on_load_checkpoint(dict(stored))
    assert given.decoder == Decoder("nested", 0.3)


def test_an_untrained_network_can_be_matched():
    generator = np.random.default_rng(0)
    noise = generator.uniform(0.4, 0.6, (60, 60))
    sequence = "".join(generator.choice(list("ACGU"), 60))
    structures = decode_all((noise + noise.T) / 2, sequence, candidates(["matching"]))
    assert len(structures) == len(candidates(["matching"]))
    for pairs in structures:
        assert len(np.unique(pairs)) == pairs.size
