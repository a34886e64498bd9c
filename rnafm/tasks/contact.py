"""Predict base pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torchmetrics import MeanMetric

from rnafm.modules.contact import ContactHead, ResidualContactHead
from rnafm.modules.encoder import EncoderConfig
from rnafm.modules.folding import Decoder, Method, candidates, choose_decoder, decode, decode_all
from rnafm.tasks.objectives import Binary, Objective
from rnafm.tasks.pair_scores import PairScores, score_pairs
from rnafm.tasks.supervised import SupervisedTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from rnafm.data.batch import Batch

HeadCallable = Callable[[EncoderConfig], ContactHead]


class Fold(NamedTuple):
    """A predicted structure.

    Attributes:
        probabilities: Of every two nucleotides, float32, symmetric, (L, L).
        pairs: What the decoder makes of them, 0-based, i < j, (P, 2).
    """

    probabilities: NDArray[np.float32]
    pairs: NDArray[np.int64]


class ContactPrediction(SupervisedTask):
    """Which nucleotides pair: a secondary structure, or other contacts.

    Args:
        head: Class and options of the head. By default that of the checkpoint if it has one (the
            published structure models do), else residual blocks over pairs of embeddings.
        decoders: Ways of making a structure of probabilities. The best of them on validation, with
            its threshold, is stored in the checkpoint and used from then on.
        decoder: Use this one and do not choose.
        objective: A :class:`Binary`. The default weighs pairs ten times: one in a hundred is one.
        **kwargs: See :class:`SupervisedTask`.
    """

    level = "pairs"
    described = (*SupervisedTask.described, "head", "decoder")

    def __init__(
        self,
        head: HeadCallable | None = None,
        decoders: list[Method] = ["greedy", "nested"],  # noqa: B006  # never changed
        decoder: Decoder | None = None,
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(objective=objective or Binary(pos_weight=10.0), **kwargs)
        if self.objective.num_outputs != 1 or self.encoder.vocabulary.letters_per_token != 1:
            raise ValueError(
                f"contacts have one output each, between nucleotides; the objective has "
                f"{self.objective.num_outputs}, the vocabulary is "
                f"{self.encoder.vocabulary.name!r}: use Binary and a vocabulary of nucleotides"
            )
        if isinstance(head, dict):  # as a checkpoint of ours stores it
            head = _rebuild(head)
        if isinstance(decoder, dict):
            decoder = Decoder(**decoder)
        published = self.source.structure_head if self.source is not None else None
        self.decoder = decoder or Decoder()
        if head is None and published is not None and self.source is not None:
            self.head: ContactHead = published
            if decoder is None:  # as its authors decode
                threshold = self.source.threshold or 0.5
                self.decoder = Decoder("greedy", threshold, canonical=False, min_loop=1)
        else:
            self.head = (head or ResidualContactHead)(self.encoder.config)
        if not self.head.reads_embeddings:
            self._leave_out_the_end()
        self.candidates = [decoder] if decoder else candidates(decoders)
        self.hparams.update(
            head=_describe(self.head),
            decoders=list(decoders),
            decoder=None if decoder is None else asdict(decoder),
        )
        self.loss_sum = MeanMetric()
        self.pair_scores = [PairScores() for _ in self.candidates]
        self.metrics = torch.nn.ModuleList(self.pair_scores)  # so that they are on its device

    def _leave_out_the_end(self) -> None:
        """What comes behind the last attention maps is not trained by a head that reads maps."""
        last: Any = self.encoder.blocks[-1]
        for part in (last.out, last.ffn_norm, last.fc1, last.fc2, self.encoder.final_norm):
            part.requires_grad_(requires_grad=False)

    @property
    def monitor(self) -> str:
        """Structures are what counts, not the loss over single pairs."""
        return "val/f1"

    @property
    def monitor_mode(self) -> str:
        """See :class:`SupervisedTask`."""
        return "max"

    @property
    def facts(self) -> dict[str, Any]:
        """See :class:`SupervisedTask`; numbers mean little without the decoder."""
        return super().facts | {
            "head": type(self.head).__name__,
            "decoder": self.decoder.describe(),
        }

    def reported(self, predictions: dict[int, Any]) -> dict[int, Any]:
        """The structures."""
        return {row: fold.pairs for row, fold in predictions.items()}

    score_pairs = staticmethod(score_pairs)

    @property
    def reads(self) -> str:
        """Heads on attention maps read no embeddings."""
        return "tokens" if self.head.reads_embeddings else ""

    def maps(self, batch: Batch) -> list[Tensor]:
        """Logits of every two nucleotides of each sequence, symmetric, (L, L)."""
        embeddings = self.embeddings(batch) if self.reads else batch.tokens
        maps: list[Tensor] = self.head(
            self.encoder, batch.tokens, batch.cu_seqlens, batch.max_seqlen, embeddings
        )
        return maps

    def forward(self, batch: Batch) -> Tensor:
        """Logits of all pairs i < j, sequence after sequence, (n, 1)."""
        return _upper(self.maps(batch))

    def labels(self, batch: Batch) -> Tensor:
        """Whether they pair, (n, 1)."""
        lengths = (batch.cu_seqlens.diff() - 2).tolist()
        maps = [batch.tokens.new_zeros(size, size, dtype=torch.float32) for size in lengths]
        for contacts, pairs in zip(maps, _pairs(batch), strict=True):
            contacts[pairs[:, 0], pairs[:, 1]] = 1
        return _upper(maps)

    def validation_step(self, batch: Batch) -> None:
        """Decode with every candidate, so that the best can be chosen."""
        maps = self.maps(batch)
        if batch.filler:
            return
        logits = _upper(maps)
        self.loss_sum.update(self.objective.loss(logits, self.labels(batch)), len(logits))
        references = [pairs.cpu().numpy() for pairs in _pairs(batch)]
        for fold, sequence, reference in zip(maps, self._text(batch), references, strict=True):
            found = decode_all(_probabilities(fold), sequence, self.candidates)
            for scores, pairs in zip(self.pair_scores, found, strict=True):
                scores.update(pairs, reference, len(sequence))

    def on_validation_epoch_end(self) -> None:
        """Choose the decoder and log its scores."""
        results = [scores.compute() for scores in self.pair_scores]
        best = choose_decoder(self.candidates, [float(each["f1"]) for each in results])
        if not self.trainer.sanity_checking:
            self.decoder = best
        chosen = results[self.candidates.index(best)]
        threshold = torch.tensor(best.threshold, device=self.device)
        self.log_scores({"loss": self.loss_sum.compute(), **chosen, "threshold": threshold})
        for each in (self.loss_sum, *self.pair_scores):
            each.reset()

    def predict_step(self, batch: Batch) -> list[Fold]:
        """For each sequence probabilities and the decoded structure."""
        results = []
        for fold, sequence in zip(self.maps(batch), self._text(batch), strict=True):
            probabilities = _probabilities(fold)
            results.append(Fold(probabilities, decode(probabilities, sequence, self.decoder)))
        return results

    def fit_objective(self, data: Any) -> None:
        """Nothing is learned from how many pairs there are."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the decoder that was chosen on validation."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["decoder"] = asdict(self.decoder)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Use it from now on."""
        super().on_load_checkpoint(checkpoint)
        if "decoder" in checkpoint and self.hparams["decoder"] is None:
            self.decoder = Decoder(**checkpoint["decoder"])

    def _text(self, batch: Batch) -> Iterator[str]:
        for tokens in torch.split(batch.tokens.cpu(), batch.cu_seqlens.diff().tolist()):
            yield self.encoder.vocabulary.decode(tokens[1:-1].tolist())


def _upper(maps: list[Tensor]) -> Tensor:
    """What lies above the diagonals, row by row, (n, 1)."""
    parts = []
    for each in maps:
        above = torch.ones(each.shape, dtype=torch.bool, device=each.device).triu(1)
        parts.append(each[above])
    return torch.cat(parts).unsqueeze(1)


def _probabilities(logits: Tensor) -> NDArray[np.float32]:
    return logits.detach().float().sigmoid().cpu().numpy()


def _pairs(batch: Batch) -> tuple[Tensor, ...]:
    """Labelled pairs of each sequence of the batch, (P, 2); they come in its order."""
    assert batch.labels is not None  # noqa: S101  # bound in setup
    counts = torch.bincount(batch.labels[:, 0], minlength=batch.num_sequences)
    return torch.split(batch.labels[:, 1:], counts.tolist())


def _describe(head: ContactHead) -> dict[str, Any]:
    kind = type(head)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": head.options}


def _rebuild(values: Mapping[str, Any]) -> HeadCallable:
    """The head that :func:`_describe` described, among the classes that are imported."""
    kinds: list[Any] = [ContactHead]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if f"{kind.__module__}.{kind.__qualname__}" == values["class_path"]:
            return partial(kind, **values["init_args"])
    raise ValueError(
        f"the checkpoint has a head {values['class_path']}, which is not known here; import its "
        "module first"
    )
