"""Text of FASTA files into records, by pyfastx; what it passes over in silence is refused."""

from __future__ import annotations

import os
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np
import pyfastx

from rnafm.data.blocks import LONGEST_HEADER, LONGEST_RECORD

if TYPE_CHECKING:
    from rnafm.data.blocks import Block


class Parser:
    """Parses blocks of one file after another out of memory, since pyfastx reads files only."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
            self._file: IO[bytes] = os.fdopen(os.memfd_create("fasta"), "wb")
            self._name = f"/proc/self/fd/{self._file.fileno()}"
        else:
            self._file = cast("IO[bytes]", tempfile.NamedTemporaryFile("wb"))  # noqa: SIM115
            self._name = self._file.name

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()

    def parse(self, block: Block, source: str) -> list[tuple[str, str, str]]:
        """The records of a block: names, sequences and descriptions.

        Args:
            block: Whole records; small, since all of them are in memory at a time.
            source: What errors call the file.

        Raises:
            ValueError: If the text is no FASTA, or not UTF-8, or has too long a record.
        """
        text = block.text
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        self._file.seek(0)
        self._file.write(text)
        self._file.truncate()
        self._file.flush()
        reader = pyfastx.Fastx(self._name, format="fasta", comment=True)
        try:
            records: list[tuple[str, str, str]] = list(reader)
        except UnicodeDecodeError as error:
            raise _not_text(block, source) from error
        _check(block, len(records), source)
        longest = max(map(len, map(itemgetter(1), records)), default=0)
        if longest > LONGEST_RECORD:
            raise too_long(next(r[0] for r in records if len(r[1]) == longest), source)
        if records and records[0][2] is None:  # what pyfastx says before the first description
            records = [(name, sequence, about or "") for name, sequence, about in records]
        return records


def too_long(name: str, source: str) -> ValueError:
    """What a reader says of a record without end."""
    return ValueError(
        f"{source}:{name}: is a record of more than {LONGEST_RECORD:,} letters, which is no RNA; "
        "leave it out or cut it into pieces"
    )


def _check(block: Block, num_records: int, source: str) -> None:
    """Refuse what pyfastx takes for the end of a sequence, without an error, and long headers."""
    if b"\0" in block.text:
        raise ValueError(
            f"{source}:{block.name_at(block.text.index(0))}: has a NUL byte; is this a text "
            "file? If so, remove it with: tr -d '\\000'"
        )
    letters = np.frombuffer(block.text, np.uint8)
    ends = np.append(np.flatnonzero(letters == ord("\n")), len(letters))
    starts = np.append(0, ends[:-1] + 1)
    starts, ends = starts[starts < len(letters)], ends[starts < len(letters)]
    signs = letters[starts]
    for sign in "+@":
        if (signs == ord(sign)).any():
            name = block.name_at(block.text.index(f"\n{sign}".encode()))
            raise ValueError(
                f"{source}:{name}: has a line that starts with {sign!r}, where FASTQ goes "
                "on; remove that letter"
            )
    headers = signs == ord(">")
    sizes = (ends - starts)[headers]
    if len(sizes) and sizes.max() > LONGEST_HEADER:
        longest = int(sizes.argmax())
        raise ValueError(
            f"{source}:{block.name_at(int(starts[headers][longest]) + 1)}: has a header of "
            f"{int(sizes[longest]):,} bytes, and at most {LONGEST_HEADER:,} are read; shorten it"
        )
    if num_records != len(sizes):
        raise ValueError(
            f"{source}:{block.name_at(len(block.text))}: is not among the {num_records:,} "
            f"records that pyfastx reads of {len(sizes):,} here; if it is empty, remove it"
        )


def _not_text(block: Block, source: str) -> ValueError:
    try:
        block.text.decode()
    except UnicodeDecodeError as error:
        record = block.name_at(error.start)
    else:
        record = "?"
    return ValueError(
        f"{source}:{record}: has bytes that are not UTF-8; convert the file, for instance "
        "with: iconv -f latin1 -t utf-8"
    )
