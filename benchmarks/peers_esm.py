"""Hugging Face's ESM with the dimensions and the weights of RNA-FM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peers_batches import VOCABULARY, Sample, move
from peers_models import MultiMolecule, Numbers
from torch import Tensor

from rnafm.checkpoints import load_checkpoint
from rnafm.checkpoints.keys import state_of, to_layout

if TYPE_CHECKING:
    from pathlib import Path

    from rnafm.checkpoints import Checkpoint
    from rnafm.checkpoints.keys import KeyTable
    from rnafm.modules import EncoderConfig

_LAYER = "esm.encoder.layer.*"
KEYS: KeyTable = {
    "encoder.embed_tokens": ("esm.embeddings.word_embeddings",),
    "encoder.embed_positions": ("esm.embeddings.position_embeddings",),
    "encoder.embed_norm": ("esm.embeddings.layer_norm",),
    "encoder.blocks.*.attention_norm": (f"{_LAYER}.attention.LayerNorm",),
    "encoder.blocks.*.qkv": tuple(
        f"{_LAYER}.attention.self.{name}" for name in ("query", "key", "value")
    ),
    "encoder.blocks.*.out": (f"{_LAYER}.attention.output.dense",),
    "encoder.blocks.*.ffn_norm": (f"{_LAYER}.LayerNorm",),
    "encoder.blocks.*.fc1": (f"{_LAYER}.intermediate.dense",),
    "encoder.blocks.*.fc2": (f"{_LAYER}.output.dense",),
    "encoder.final_norm": ("esm.encoder.emb_layer_norm_after",),
    "head": ("lm_head",),
    "head.dense": ("lm_head.dense",),
    "head.norm": ("lm_head.layer_norm",),
}
_OWN = {"lm_head.decoder.weight"}  # tied to the embeddings


class Esm(MultiMolecule):
    """Hugging Face's ``EsmForMaskedLM``."""

    package = "transformers"

    def __init__(self, folder: Path, device: str = "cpu", attention: str = "sdpa") -> None:
        from transformers import EsmForMaskedLM

        checkpoint = load_checkpoint(folder / "rnafm.safetensors")
        config = configuration(checkpoint.config)
        config._attn_implementation = attention  # noqa: SLF001  # as from_pretrained sets it
        self.module = EsmForMaskedLM(config)
        found = self.module.load_state_dict(state(checkpoint), strict=False)
        missing = [name for name in found.missing_keys if "contact_head" not in name]
        if set(missing) - _OWN or found.unexpected_keys:
            raise ValueError(f"EsmForMaskedLM has other weights than were mapped: {found}")
        self.module.to(device)
        self.device = device

    def hidden(self, sample: Sample, numbers: Numbers) -> list[Tensor]:
        """Embeddings of each sequence, (L, D)."""
        inputs = self.collate([sample.clean[number] for number in numbers])
        found = self.module.esm(**inputs).last_hidden_state
        return [row[: len(sample.clean[n])] for row, n in zip(found, numbers, strict=True)]


class EsmFlattened(Esm):
    """The same with Transformers' own collator without padding."""

    def __init__(self, folder: Path, device: str = "cpu", attention: str = "sdpa") -> None:
        from transformers import DataCollatorWithFlattening

        super().__init__(folder, device, attention)
        self.collator = DataCollatorWithFlattening(
            return_flash_attn_kwargs=True, position_ids_start=VOCABULARY.pad_id + 1
        )

    def hidden(self, sample: Sample, numbers: Numbers) -> list[Tensor]:
        """Embeddings of each sequence, (L, D)."""
        inputs = self._flat([{"input_ids": sample.clean[number]} for number in numbers])
        del inputs["labels"]
        found = self.module.esm(**inputs).last_hidden_state[0]
        return list(found.split([len(sample.clean[number]) for number in numbers]))

    def loss(self, sample: Sample, numbers: Numbers) -> Tensor:
        """Mean cross-entropy of the hidden tokens."""
        parts = [{"input_ids": sample.masked[n], "labels": sample.labels[n]} for n in numbers]
        return self.module(**self._flat(parts)).loss

    def _flat(self, parts: list[dict[str, Tensor]]) -> dict[str, Any]:
        found = self.collator(parts, return_tensors="pt")
        return {
            name: move(value, self.device) if isinstance(value, Tensor) else value
            for name, value in found.items()
        }


def configuration(config: EncoderConfig) -> Any:
    """The shape of an encoder as ESM says it; its positions count from the id of ``pad`` + 1."""
    from transformers import EsmConfig

    return EsmConfig(
        vocab_size=len(VOCABULARY),
        mask_token_id=VOCABULARY.mask_id,
        pad_token_id=VOCABULARY.pad_id,
        hidden_size=config.embed_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ffn_dim,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=config.max_length + 3 + VOCABULARY.pad_id,
        layer_norm_eps=config.layer_norm_eps,
        emb_layer_norm_before=config.embed_norm,
        token_dropout=False,
    )


def state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Weights under ESM's names."""
    tensors = to_layout(state_of(checkpoint.encoder, checkpoint.head), KEYS)
    positions = tensors["esm.embeddings.position_embeddings.weight"]
    first = VOCABULARY.pad_id + 1  # ours begins with row 2
    tensors["esm.embeddings.position_embeddings.weight"] = torch.cat(
        [positions.new_zeros(first, positions.shape[1]), positions[2:]]
    )
    return tensors
