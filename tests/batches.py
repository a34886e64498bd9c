"""Small batches and encoders for tests."""

import torch

from rnafm.data.batch import Batch
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import EncoderConfig

RNA = Vocabulary.named("rna")
CODON = Vocabulary.named("codon")
TINY = EncoderConfig(
    num_layers=2, embed_dim=32, num_heads=2, ffn_dim=64, dropout=0.0, attention_dropout=0.0
)


def random_batch(lengths, vocabulary=RNA, key=5, first_index=0, seed=0):
    """A packed batch of random nucleotides (codons)."""
    generator = torch.Generator().manual_seed(seed)
    standard = torch.tensor(vocabulary.standard_ids)
    parts = []
    for length in lengths:
        body = standard[torch.randint(len(standard), (length,), generator=generator)]
        parts += [torch.tensor([vocabulary.cls_id]), body, torch.tensor([vocabulary.eos_id])]
    sizes = torch.tensor([0, *[length + 2 for length in lengths]])
    return Batch(
        torch.cat(parts).to(torch.uint8),
        sizes.cumsum(0).int(),
        max(lengths) + 2,
        torch.arange(first_index, first_index + len(lengths)),
        key,
    )
