"""Vocabularies: the tokens that a model knows, their order, and sequences as token ids."""

from __future__ import annotations

import itertools
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

OnUnknown = Literal["error", "unk"]

_UNKNOWN = 255  # marks a letter that no token stands for, in the look-up tables only
_SPECIALS = ("<pad>", "<cls>", "<eos>", "<unk>", "<mask>", "<null>")
_NULLS = tuple(f"<null_{i}>" for i in range(1, 5))
_OFFICIAL_CODONS = (
    "GAG AAG GAA CUG CAG GAU AAA GUG GAC AUG GCC AAC GCU AAU AUC UUC GGA AUU GGC UUU CCA AGC GCA "
    "UCU CUC ACC CAA CCU UCC ACA UUG GUU CUU UAC ACU CCC UCA GUC GGU CAC AGU UAU AGA CAU GGG UGG "
    "UGC AGG UGU AUA CGC UUA GCG CGG CCG GUA CUA ACG UCG CGA CGU UGA UAA UAG"
)


@dataclass(frozen=True)
class Vocabulary:
    """Token strings in the order of their ids, and the roles that some of them play.

    A vocabulary is data: it is stored in every checkpoint and every token store, and no other
    part of the package knows a size or an id.

    Args:
        tokens: Token strings; the id of a token is its place. At most 255.
        letters_per_token: 1 for nucleotides, 3 for codons, which never overlap.
        pad: Fills up padded batches.
        cls: Stands before every sequence.
        eos: Stands after every sequence.
        unk: Takes the place of a letter that the vocabulary lacks, where that is allowed.
        mask: Hides a token that a model is asked for.

    Raises:
        ValueError: If a role is missing among the tokens, a token appears twice, or there are
            more than 255.

    Examples:
        >>> rna = Vocabulary.named("rna")
        >>> rna.encode("ggUC<mask>ct").tolist()
        [1, 8, 8, 9, 7, 4, 7, 9, 2]
        >>> rna.decode([1, 8, 8, 9, 7, 4, 7, 9, 2])
        '<cls>GGUC<mask>CU<eos>'
    """

    tokens: tuple[str, ...]
    letters_per_token: int = 1
    pad: str = "<pad>"
    cls: str = "<cls>"
    eos: str = "<eos>"
    unk: str = "<unk>"
    mask: str = "<mask>"

    def __post_init__(self) -> None:
        """Refuse tables that could not encode anything."""
        object.__setattr__(self, "tokens", tuple(self.tokens))
        if len(self.tokens) >= _UNKNOWN:
            raise ValueError(f"a vocabulary holds at most 254 tokens, this one {len(self.tokens)}")
        twice = sorted({token for token in self.tokens if self.tokens.count(token) > 1})
        if twice:
            raise ValueError(f"tokens appear twice in the vocabulary: {' '.join(twice)}")
        roles = (self.pad, self.cls, self.eos, self.unk, self.mask)
        missing = [role for role in roles if role not in self.tokens]
        if missing:
            raise ValueError(f"special tokens missing from the vocabulary: {' '.join(missing)}")
        if self.letters_per_token not in (1, 3):
            raise ValueError(f"letters_per_token is 1 or 3, not {self.letters_per_token}")

    @staticmethod
    def named(name: str) -> Vocabulary:
        """One of the built-in vocabularies.

        Args:
            name: ``rna`` (26 tokens, the order of the published MultiMolecule RNA-FM weights),
                ``rna-28`` (the order of MultiMolecule >= 0.2), ``official-rna`` (25, the ``fm``
                package), ``codon`` (131, MultiMolecule mRNA-FM) or ``official-codon`` (73).

        Raises:
            ValueError: If there is no vocabulary of that name.
        """
        if name not in BUILT_IN:
            raise ValueError(f"no vocabulary {name!r} (there are: {', '.join(BUILT_IN)})")
        return BUILT_IN[name]

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary that :meth:`to_dict` wrote."""
        return Vocabulary(**{**values, "tokens": tuple(values["tokens"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and stores."""
        return {**asdict(self), "tokens": list(self.tokens)}

    @property
    def name(self) -> str:
        """Name of the built-in vocabulary that equals this one, or ``custom``."""
        return next((name for name, other in BUILT_IN.items() if other == self), "custom")

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token string -> id."""
        return {token: i for i, token in enumerate(self.tokens)}

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self.ids[self.pad]

    @property
    def cls_id(self) -> int:
        """Id of the token before every sequence."""
        return self.ids[self.cls]

    @property
    def eos_id(self) -> int:
        """Id of the token after every sequence."""
        return self.ids[self.eos]

    @property
    def unk_id(self) -> int:
        """Id of the token for letters that the vocabulary lacks."""
        return self.ids[self.unk]

    @property
    def mask_id(self) -> int:
        """Id of the mask token."""
        return self.ids[self.mask]

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of all tokens in angle brackets: they stand for no nucleotide."""
        return tuple(i for i, token in enumerate(self.tokens) if token.startswith("<"))

    @cached_property
    def standard_ids(self) -> tuple[int, ...]:
        """Ids of A, C, G and U, or of the 64 codons over them, in that order."""
        words = map("".join, itertools.product("ACGU", repeat=self.letters_per_token))
        return tuple(self.ids[word] for word in words if word in self.ids)

    def encode(
        self,
        sequence: str,
        *,
        special: bool = True,
        on_unknown: OnUnknown = "error",
        replace_t: bool = True,
        name: str = "sequence",
    ) -> NDArray[np.uint8]:
        """Token ids of one sequence.

        Args:
            sequence: Letters in any case; special strings such as ``<mask>`` are recognised
                anywhere, as they are written.
            special: Whether to put ``cls`` before and ``eos`` after the sequence.
            on_unknown: What to do about letters outside the vocabulary: stop, or write ``unk``.
            replace_t: Whether T is read as U.
            name: What an error calls the sequence.

        Returns:
            Ids, uint8 of shape (L,) or (L + 2,).

        Raises:
            ValueError: If a letter is unknown and ``on_unknown`` is ``error``, or codons are asked
                for and the length is no multiple of 3.
        """
        tokens, _ = self.encode_many(
            [sequence], names=[name], on_unknown=on_unknown, replace_t=replace_t
        )
        if not special:
            return tokens
        return np.insert(tokens, [0, len(tokens)], [self.cls_id, self.eos_id])

    def encode_many(
        self,
        sequences: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        on_unknown: OnUnknown = "error",
        replace_t: bool = True,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Token ids of many sequences, end to end and without ``cls`` and ``eos``.

        One table look-up over all letters, whatever the number of sequences. Parameters and errors
        are those of :meth:`encode`.

        Returns:
            The ids of all sequences, uint8 of shape (N,), and the number of tokens of each
            sequence, int64 of shape (B,).
        """
        text = "".join(sequences)
        if "<" in text:
            parts = [self._encode_marked(sequence, replace_t=replace_t) for sequence in sequences]
            lengths = np.fromiter((len(part) for part in parts), np.int64, len(parts))
            tokens = np.concatenate(parts) if parts else np.empty(0, np.uint8)
        else:
            lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
            if self.letters_per_token > 1 and (lengths % self.letters_per_token).any():
                first = int(np.flatnonzero(lengths % self.letters_per_token)[0])
                raise self._not_whole(int(lengths[first]), _name(names, first))
            lengths //= self.letters_per_token
            tokens = self._encode_plain(text, replace_t=replace_t)
        unknown = tokens == _UNKNOWN
        if unknown.any():
            if on_unknown == "error":
                raise self._not_known(sequences, names, lengths, int(unknown.argmax()), replace_t)
            tokens[unknown] = self.unk_id
        return tokens, lengths

    def decode(self, tokens: Iterable[int], *, special: bool = True) -> str:
        """Token strings of ids, joined.

        Args:
            tokens: Ids.
            special: Whether tokens in angle brackets are kept.
        """
        words = (self.tokens[int(token)] for token in tokens)
        return "".join(word for word in words if special or not word.startswith("<"))

    def _encode_plain(self, text: str, *, replace_t: bool) -> NDArray[np.uint8]:
        """Ids of letters without special strings; ``_UNKNOWN`` where there is no token."""
        if self.letters_per_token == 1 and text.isascii():  # three times as fast as numpy, writable
            table = self._letter_table(replace_t).tobytes()
            return np.frombuffer(bytearray(text, "ascii").translate(table), np.uint8)
        if text.isascii():
            letters = np.frombuffer(text.encode("ascii"), np.uint8)
        else:
            wide = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            letters = np.minimum(wide, _UNKNOWN).astype(np.uint8)
        if self.letters_per_token == 1:
            return self._letter_table(replace_t)[letters]
        first, second, third = self._base_table(replace_t)[letters].reshape(-1, 3).T
        return self._codon_table[first, second, third]

    def _encode_marked(self, sequence: str, *, replace_t: bool) -> NDArray[np.uint8]:
        """Ids of one sequence in which special strings may stand."""
        parts: list[NDArray[np.uint8]] = []
        for piece in self._special_pattern.split(sequence):
            if piece in self.ids and piece.startswith("<"):
                parts.append(np.array([self.ids[piece]], np.uint8))
            elif len(piece) % self.letters_per_token:
                raise self._not_whole(len(piece), f"{sequence!r}, between special tokens")
            else:
                parts.append(self._encode_plain(piece, replace_t=replace_t))
        return np.concatenate(parts)

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        words = "|".join(re.escape(self.tokens[i]) for i in self.special_ids)
        return re.compile(f"({words})")

    def _letter_table(self, replace_t: bool) -> NDArray[np.uint8]:  # noqa: FBT001
        table = np.full(256, _UNKNOWN, np.uint8)
        for token, i in self.ids.items():
            if len(token) == 1:
                table[[ord(token), ord(token.lower())]] = i
        if replace_t and "U" in self.ids:
            table[[ord("T"), ord("t")]] = self.ids["U"]
        return table

    def _base_table(self, replace_t: bool) -> NDArray[np.uint8]:  # noqa: FBT001
        table = np.full(256, 5, np.uint8)  # 5: no letter of a codon
        for i, base in enumerate("ACGUN"):
            table[[ord(base), ord(base.lower())]] = i
        if replace_t:
            table[[ord("T"), ord("t")]] = 3
        return table

    @cached_property
    def _codon_table(self) -> NDArray[np.uint8]:
        table = np.full((6, 6, 6), _UNKNOWN, np.uint8)
        for places in itertools.product(range(5), repeat=3):
            table[places] = self.ids.get("".join("ACGUN"[i] for i in places), _UNKNOWN)
        return table

    def _not_whole(self, length: int, name: str) -> ValueError:
        return ValueError(
            f"{name}: {length} letters are not a whole number of codons; "
            "cut the sequence to its reading frame, or use a nucleotide vocabulary"
        )

    def _not_known(
        self,
        sequences: Sequence[str],
        names: Sequence[str] | None,
        lengths: NDArray[np.int64],
        place: int,
        replace_t: bool,  # noqa: FBT001
    ) -> ValueError:
        """Say which letters of which record are unknown: the ``place``-th token of all."""
        record = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        offset, size = 0, self.letters_per_token
        for piece in self._special_pattern.split(sequences[record]):
            if piece.startswith("<") and piece in self.ids:
                offset += len(piece)
                continue
            ids = self._encode_plain(piece, replace_t=replace_t)
            if (ids == _UNKNOWN).any():
                offset += size * int((ids == _UNKNOWN).argmax())
                break
            offset += len(piece)
        letters = sequences[record][offset : offset + size]
        kind = "letter" if size == 1 else "codon"
        known = "".join(token for token in self.tokens if len(token) == 1) or "A C G U N in codons"
        return ValueError(
            f"{_name(names, record)}: {kind} {letters!r} at position {offset + 1} is not in the "
            f"vocabulary {self.name!r} (it has: {known}); correct the sequence, or set "
            "on_unknown='unk' to read it as <unk>"
        )


def _name(names: Sequence[str] | None, record: int) -> str:
    return f"sequence {record + 1}" if names is None else names[record]


_codons = tuple(map("".join, itertools.product("ACGUN", repeat=3)))
BUILT_IN: dict[str, Vocabulary] = {
    "rna": Vocabulary((*_SPECIALS, *"ACGUNRYSWKMBDHV", *".X*-I")),
    "rna-28": Vocabulary((*_SPECIALS, *"ACGUNRYSWKMBDHV", *"IX|.*-?")),
    "official-rna": Vocabulary(
        ("<cls>", "<pad>", "<eos>", "<unk>", *"ACGURYKMSWBDHVN-", *_NULLS, "<mask>")
    ),
    "codon": Vocabulary((*_SPECIALS, *_codons), letters_per_token=3),
    "official-codon": Vocabulary(
        ("<cls>", "<pad>", "<eos>", "<unk>", *_OFFICIAL_CODONS.split(), *_NULLS, "<mask>"),
        letters_per_token=3,
    ),
}
"""The vocabularies of the published models, by name."""
