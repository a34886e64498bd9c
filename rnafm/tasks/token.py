"""Predict something about every nucleotide (codon)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rnafm.modules.heads import TokenHead
from rnafm.tasks.supervised import SupervisedTask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from rnafm.data.batch import Batch


class TokenPrediction(SupervisedTask):
    """One prediction per nucleotide (codon): a class, several flags, or numbers.

    Args:
        hidden_dim: Width of a hidden layer of the head; without one the head is linear.
        dropout: Dropout in the head, in training.
        **kwargs: See :class:`SupervisedTask`.
    """

    level = "token"

    def __init__(self, hidden_dim: int | None = None, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hparams.update(hidden_dim=hidden_dim, dropout=dropout)
        self.refuse_hidden(hidden_dim)
        dim = self.encoder.config.embed_dim
        self.head = TokenHead(dim, self.objective.num_outputs, hidden_dim, dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the tokens, special ones included, (N, C)."""
        logits: Tensor = self.head(self.embeddings(batch))
        return logits

    def predict_step(self, batch: Batch) -> list[NDArray[Any]]:
        """For each sequence values in the original unit, or probabilities, (L, C)."""
        predictions = self.objective.predict(self(batch)).detach().float().cpu()
        lengths = batch.cu_seqlens.diff().tolist()
        return [part[1:-1].numpy() for part in torch.split(predictions, lengths)]
