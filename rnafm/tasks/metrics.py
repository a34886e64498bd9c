"""Metrics that torchmetrics does not have."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MaskedLMScores(Metric):
    """What a masked language model gets right, beside what the letters' frequencies alone give.

    The baseline knows the composition of the hidden tokens and nothing else: its accuracy is the
    share of the most common token, its loss the entropy -sum p ln p in nats per token.

    Args:
        vocab_size: Number of tokens.

    Examples:
        >>> scores = MaskedLMScores(4)
        >>> scores.update(torch.eye(4)[[0, 0, 1]], torch.tensor([0, 0, 0]))
        >>> round(scores.compute()["accuracy"].item(), 3)
        0.667
    """

    full_state_update = False
    loss: Tensor
    correct: Tensor
    counts: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(vocab_size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add hidden tokens.

        Args:
            logits: Of the hidden tokens, (M, V).
            labels: Their ids, (M,); -100 counts for nothing.
        """
        self.loss += torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        self.correct += (logits.argmax(dim=-1) == labels).sum()
        # Not bincount, which waits for the device.
        self.counts.scatter_add_(0, labels.clamp(min=0), (labels >= 0).long())

    def compute(self) -> dict[str, Tensor]:
        """Scores over all hidden tokens so far.

        Returns:
            ``loss`` in nats per token, ``perplexity`` (its exponential), ``accuracy``, and the
            baseline's ``baseline_loss`` and ``baseline_accuracy``.
        """
        total = self.counts.sum()
        loss = (self.loss / total).float()
        shares = self.counts / total
        return {
            "loss": loss,
            "perplexity": loss.exp(),
            "accuracy": self.correct / total,
            "baseline_loss": torch.special.entr(shares).sum(),
            "baseline_accuracy": shares.max(),
        }
