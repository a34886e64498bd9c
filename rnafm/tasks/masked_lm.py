"""Masked-language-model pretraining."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from rnafm.data.masking import Masking, mask_tokens
from rnafm.modules.heads import MaskedLMHead
from rnafm.tasks.base import Task
from rnafm.tasks.metrics import MaskedLMScores

if TYPE_CHECKING:
    from torch import Tensor

    from rnafm.data.batch import Batch


class MaskedLM(Task):
    """Predict hidden nucleotides (codons) from all others of the sequence, as RNA-FM was trained.

    Args:
        masking: How many tokens are hidden, and how.
        **kwargs: See :class:`Task`.
    """

    def __init__(self, masking: Masking = Masking(), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(masking, dict):  # as a checkpoint of ours stores it
            masking = Masking(**masking)
        self.masking = masking
        self.hparams["masking"] = asdict(masking)
        self.head = self._head()
        self.scores = MaskedLMScores(len(self.encoder.vocabulary))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Hide tokens and predict them.

        Returns:
            Logits of the hidden tokens, (M, V), and their ids, (M,); a few more than are hidden,
            with -100 for an id.
        """
        masked = mask_tokens(batch, self.encoder.vocabulary, self.masking)
        embeddings = self.encoder(masked.tokens, batch.cu_seqlens, batch.max_seqlen)
        # The head reads the hidden positions only: 15 % of its work, and no logits to keep.
        logits = self.head(embeddings[masked.positions], self.encoder.embed_tokens.weight)
        return logits, masked.labels

    def training_step(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over the hidden tokens, in nats."""
        logits, labels = self(batch)
        return self.keep_loss(F.cross_entropy(logits.float(), labels), batch)

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the scores."""
        logits, labels = self(batch)  # a filler is computed too, since FSDP waits for all ranks
        if not batch.filler:
            self.scores.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole split, on all devices together."""
        for name, value in self.scores.compute().items():
            self.log(f"val/{name}", value, prog_bar=name.endswith("loss"), sync_dist=True)
        self.scores.reset()

    def _head(self) -> MaskedLMHead:
        if self.source is not None and self.source.head is not None:
            return self.source.head
        config = self.encoder.config
        return MaskedLMHead(config.embed_dim, len(self.encoder.vocabulary), config.layer_norm_eps)
