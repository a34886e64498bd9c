"""Predict something about whole sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnafm.modules.heads import Pooling, SequenceHead
from rnafm.tasks.supervised import SupervisedTask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from rnafm.data.batch import Batch


class SequencePrediction(SupervisedTask):
    """One prediction per sequence: a class, several flags, or numbers.

    Args:
        pool: How the embeddings of a sequence become one: their ``mean``, that of ``cls``, or a
            mean with learned weights (``attention``).
        hidden_dim: Width of a hidden layer of the head; without one the head is linear.
        dropout: Dropout in the head, in training.
        **kwargs: See :class:`SupervisedTask`.
    """

    level = "sequence"

    def __init__(
        self,
        pool: Pooling = "mean",
        hidden_dim: int | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hparams.update(pool=pool, hidden_dim=hidden_dim, dropout=dropout)
        self.refuse_hidden(hidden_dim)
        dim = self.encoder.config.embed_dim
        self.head = SequenceHead(dim, self.objective.num_outputs, pool, hidden_dim, dropout)

    @property
    def reads(self) -> str:
        """Learned weights need the embeddings of all tokens; otherwise the pooled ones will do."""
        return "tokens" if self.head.pooling == "attention" else self.head.pooling

    def pool(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """See :class:`SupervisedTask`."""
        if self.head.pooling == "attention":
            return embeddings
        return self.head.pool(embeddings, batch.cu_seqlens)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the sequences, (B, C)."""
        embeddings = self.embeddings(batch)
        if self.head.pooling == "attention":
            embeddings = self.head.pool(embeddings, batch.cu_seqlens)
        return self.head.classify(embeddings)

    def predict_step(self, batch: Batch) -> list[NDArray[Any]]:
        """For each sequence values in the original unit, or probabilities, (C,)."""
        return list(self.objective.predict(self(batch)).detach().float().cpu().numpy())
