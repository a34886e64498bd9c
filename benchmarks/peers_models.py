"""One adapter for each package: the same weights, called as its documentation calls it.

Nothing here is imported before a row asks for it: the peers are no dependency of rnafm. An adapter
has two methods, ``hidden`` and ``loss``, which take a sample and the numbers of the sequences of
one batch, and put the batch together themselves: collation is part of what is measured.
"""

from __future__ import annotations

import warnings
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from peers_batches import IGNORED, MASKING, VOCABULARY, Sample, move
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rnafm.checkpoints import Checkpoint, save_checkpoint
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig, MaskedLMHead
from rnafm.tasks import MaskedLM
from rnafm.tasks.compiling import compile_blocks

if TYPE_CHECKING:
    from pathlib import Path

Numbers = list[int]

_OFFICIAL = Vocabulary.named("official-rna")
_TO_OFFICIAL = torch.tensor([_OFFICIAL.ids.get(token, -1) for token in VOCABULARY.tokens])
_NEVER = -100.0  # bias of tokens that are never predicted


def write_weights(folder: Path, config: EncoderConfig) -> Checkpoint:
    """Random weights in the layouts of all packages: speed does not depend on their values.

    Those of queries and keys are four times larger than a new encoder's, and all biases are
    random, so that a package that leaves out a mask or a bias gives another result. Tokens that
    only some of the packages have are never predicted, so that losses agree.
    """
    torch.manual_seed(0)
    encoder = Encoder(config, VOCABULARY)
    head = MaskedLMHead(config.embed_dim, len(VOCABULARY))
    for module in (encoder, head):
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.05)
            elif "qkv" in name:
                parameter.data[: 2 * config.embed_dim] *= 4
    with torch.no_grad():
        head.bias[_TO_OFFICIAL < 0] = _NEVER
    checkpoint = Checkpoint(encoder, head)
    save_checkpoint(checkpoint, folder / "rnafm.safetensors")
    save_checkpoint(checkpoint, folder / "RNA-FM_random.pth", "official")
    save_checkpoint(checkpoint, folder / "multimolecule", "multimolecule")
    return checkpoint


class Ours:
    """rnafm: packs through ``MaskedLM`` and its ``Encoder``."""

    package = "rnafm"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.device = device
        self.task = MaskedLM(checkpoint=folder / "rnafm.safetensors", masking=MASKING).to(device)
        self.module: nn.Module = self.task

    def compile(self, budget: int) -> None:
        """As the task does it before it fits: packs are filled up to their budget."""
        compile_blocks(
            self.task.encoder, self.device, Namespace(tokens_per_batch=budget, budget=budget)
        )

    def hidden(self, sample: Sample, numbers: Numbers) -> list[Tensor]:
        """Embeddings of each sequence, (L, D)."""
        batch = sample.pack(numbers, self.device)
        found = self.task.encoder(batch.tokens, batch.cu_seqlens, batch.max_seqlen)
        return list(found.split([len(sample.clean[number]) for number in numbers]))

    def loss(self, sample: Sample, numbers: Numbers) -> Tensor:
        """Mean cross-entropy of the hidden tokens."""
        logits, labels = self.task(sample.pack(numbers, self.device))
        return F.cross_entropy(logits.float(), labels)


def _padded_layer(block: Any, states: Tensor, mask: Tensor | None) -> Tensor:
    """What a block does, with padding."""
    qkv = block.qkv(block.attention_norm(states)).unflatten(-1, (3, block.num_heads, -1))
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    states = states + block.out(attended.transpose(1, 2).flatten(2))
    return states + block.fc2(F.gelu(block.fc1(block.ffn_norm(states))))


class OursPadded(Ours):
    """The layers of rnafm on padded batches with a mask: what packing is held against."""

    layer = staticmethod(_padded_layer)

    def compile(self, budget: int) -> None:  # noqa: ARG002  # shapes differ from batch to batch
        """Compile the layers, which all have the same code."""
        self.layer = torch.compile(_padded_layer, dynamic=True)

    def hidden(self, sample: Sample, numbers: Numbers) -> list[Tensor]:
        """Embeddings of each sequence, (L, D)."""
        states = self._encode([sample.clean[number] for number in numbers])
        return [row[: len(sample.clean[n])] for row, n in zip(states, numbers, strict=True)]

    def loss(self, sample: Sample, numbers: Numbers) -> Tensor:
        """Mean cross-entropy of the hidden tokens."""
        parts = [sample.labels[number] for number in numbers]
        labels = pad_sequence(parts, batch_first=True, padding_value=IGNORED).flatten()
        asked = (labels != IGNORED).nonzero().squeeze(1)
        states = self._encode([sample.masked[number] for number in numbers]).flatten(0, 1)
        weight = self.task.encoder.embed_tokens.weight
        logits = self.task.head(states[move(asked, self.device)], weight)
        return F.cross_entropy(logits.float(), move(labels[asked], self.device))

    def _encode(self, parts: list[Tensor]) -> Tensor:
        """Embeddings of padded ids, (B, L, D)."""
        encoder, pad = self.task.encoder, VOCABULARY.pad_id
        tokens = pad_sequence(parts, batch_first=True, padding_value=pad)
        mask = self._mask(tokens)
        tokens = move(tokens, self.device)
        positions = torch.arange(tokens.shape[1], device=self.device) + 2
        states = encoder.embed_tokens(tokens) + encoder.embed_positions(positions)
        states = states if encoder.embed_norm is None else encoder.embed_norm(states)
        for block in encoder.blocks:
            states = self.layer(block, states, mask)
        return encoder.final_norm(states)

    def _mask(self, tokens: Tensor) -> Tensor | None:
        """Which tokens are real, (B, 1, 1, L); None where all are."""
        real = tokens != VOCABULARY.pad_id
        return None if bool(real.all()) else move(real[:, None, None], self.device)


class MultiMolecule:
    """MultiMolecule's ``RnaFmForMaskedLM``, padded or with ``danling``'s NestedTensor."""

    package = "multimolecule"

    def __init__(self, folder: Path, device: str = "cpu", attention: str = "sdpa") -> None:
        from multimolecule import RnaFmForMaskedLM

        self.device = device
        self.module = RnaFmForMaskedLM.from_pretrained(
            folder / "multimolecule",
            attn_implementation=attention,
            hidden_dropout=0.0,
            attention_dropout=0.0,
        ).to(device)

    def compile(self, budget: int) -> None:  # noqa: ARG002  # shapes differ from batch to batch
        """Compile the encoder as a whole, for any shape."""
        self.module.model.compile(dynamic=True)

    def hidden(self, sample: Sample, numbers: Numbers) -> list[Tensor]:
        """Embeddings of each sequence, (L, D)."""
        inputs = self.collate([sample.clean[number] for number in numbers])
        found = self.module.model(**inputs).last_hidden_state
        return [row[: len(sample.clean[n])] for row, n in zip(found, numbers, strict=True)]

    def loss(self, sample: Sample, numbers: Numbers) -> Tensor:
        """Mean cross-entropy of the hidden tokens."""
        inputs = self.collate([sample.masked[number] for number in numbers])
        return self.module(**inputs, labels=self.labels(sample, numbers)).loss

    def collate(self, parts: list[Tensor]) -> dict[str, Any]:
        """Ids and mask, padded to the longest, as its tokenizer gives them."""
        tokens = pad_sequence(parts, batch_first=True, padding_value=VOCABULARY.pad_id)
        tokens = move(tokens, self.device)
        return {"input_ids": tokens, "attention_mask": (tokens != VOCABULARY.pad_id).long()}

    def labels(self, sample: Sample, numbers: Numbers) -> Any:
        """What is asked for, -100 elsewhere."""
        parts = [sample.labels[number] for number in numbers]
        labels = pad_sequence(parts, batch_first=True, padding_value=IGNORED)
        return move(labels, self.device)


class MultiMoleculeNested(MultiMolecule):
    """The same without padding: ``danling.NestedTensor`` for ids and labels."""

    def collate(self, parts: list[Tensor]) -> dict[str, Any]:
        """Ids of all sequences."""
        from danling import NestedTensor

        return {"input_ids": NestedTensor([move(part, self.device) for part in parts])}

    def labels(self, sample: Sample, numbers: Numbers) -> Any:
        """What is asked for, -100 elsewhere."""
        from danling import NestedTensor

        return NestedTensor([move(sample.labels[number], self.device) for number in numbers])


class Official:
    """The authors' ``fm`` package."""

    package = "rna-fm"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import fm

        path = str(folder / "RNA-FM_random.pth")
        with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Regression weights not found")
            self.module, alphabet = fm.pretrained.rna_fm_t12(path)
        self.module.to(device)
        self.device, self.pad, self.layers = device, alphabet.padding_idx, self.module.num_layers
        shared = torch.zeros(len(_OFFICIAL), dtype=torch.bool)
        shared[_TO_OFFICIAL[_TO_OFFICIAL >= 0]] = True
        with torch.no_grad():
            self.module.lm_head.bias[~shared] = _NEVER

    def hidden(self, sample: Sample, numbers: Numbers) -> list[Tensor]:
        """Embeddings of each sequence, (L, D)."""
        tokens = self._padded([sample.clean[number] for number in numbers])
        found = self.module(tokens, repr_layers=[self.layers])["representations"][self.layers]
        return [row[: len(sample.clean[n])] for row, n in zip(found, numbers, strict=True)]

    def loss(self, sample: Sample, numbers: Numbers) -> Tensor:
        """Mean cross-entropy of the hidden tokens, the only ones that its head computes."""
        tokens = self._padded([sample.masked[number] for number in numbers])
        parts = [sample.labels[number] for number in numbers]
        labels = pad_sequence(parts, batch_first=True, padding_value=IGNORED)
        asked = labels != IGNORED
        logits = self.module(tokens, masked_tokens=move(asked, self.device))["logits"]
        return F.cross_entropy(logits.float(), move(_TO_OFFICIAL[labels[asked]], self.device))

    def _padded(self, parts: list[Tensor]) -> Tensor:
        ids = [_TO_OFFICIAL[part] for part in parts]
        return move(pad_sequence(ids, batch_first=True, padding_value=self.pad), self.device)
