"""What a checkpoint is once it is read, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from rnafm.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from rnafm.data.vocabulary import Vocabulary
    from rnafm.modules import Encoder, EncoderConfig, MaskedLMHead, ResNetContactHead


@dataclass(frozen=True)
class Checkpoint:
    """An encoder, perhaps with its masked-LM head, and what is to be known about them.

    Attributes:
        encoder: Carries its vocabulary; float32, on the CPU, in training mode like every new
            module.
        head: None where the file has no masked-LM head.
        notes: Sentences about what was left out, corrected or guessed.
        trained_ids: Tokens whose embeddings have seen training; all, unless the file is known to
            have others. Predictions of the remaining ones mean nothing.
        structure_head: The published secondary-structure head, where the file has one.
        threshold: Probability above which the structure head's authors call two nucleotides
            paired; None where that is not known.
    """

    encoder: Encoder
    head: MaskedLMHead | None = None
    notes: list[str] = field(default_factory=list)
    trained_ids: tuple[int, ...] = ()
    structure_head: ResNetContactHead | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Take all tokens as trained where nothing else is said."""
        if not self.trained_ids:
            object.__setattr__(self, "trained_ids", tuple(range(len(self.vocabulary))))

    @property
    def config(self) -> EncoderConfig:
        """Shape of the encoder."""
        return self.encoder.config

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens of the encoder."""
        return self.encoder.vocabulary


@dataclass(frozen=True)
class LoadOptions:
    """What a file cannot say about itself.

    Attributes:
        layer_norm_eps: Takes the place of what the file says or implies.
        num_heads: For official files without ``args``.
    """

    layer_norm_eps: float | None = None
    num_heads: int | None = None


def write_tensors(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all, that others may read as any other file."""
    with atomic(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(state, temporary, metadata)
        temporary.chmod(mode)  # safetensors makes files for their owner only
