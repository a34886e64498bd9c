"""Feeds broken FASTA files, plain and gzip, to the reader and to `build_store`.

pip install atheris
python scripts/fuzz_fasta.py -max_total_time=600 -rss_limit_mb=2048 -timeout=20 FOLDER_OF_CASES

Of the first byte, two bits choose how the rest becomes a file (as text, as the text inside a gzip
file, as gzip data that may be broken), the others the sizes of pieces and blocks. Records that are
those of a parser of ten lines, or a ValueError or OSError that names the file, are fine; anything
else, memory and hangs included, is a finding, written to a file ``crash-...``.
"""

from __future__ import annotations

import gzip
import re
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rnafm.data"]):
    from rnafm.data import blocks, encoding
    from rnafm.data.fasta import FastaFile
    from rnafm.data.store import Filters, build_store
from rnafm.data.vocabulary import Vocabulary

SEEDS = (
    b"\x00>a b=c\nACGU\nNN\n>b\n\n>c rRNA from 3 species\r\nacgt\r\n",
    b"\x01>a b=c\nACGU\nNN\n>b\n\n>c rRNA from 3 species\r\nacgt\r\n",
    b"\x02" + gzip.compress(b">a\nACGU\n>b\nAC\n", mtime=0) + bytes(3),
    b"\x07" + b">x \xc3\xa9\nAC<mask>GU\n@\n>y\n+\n",
)
PLAIN = re.compile(rb"[A-Za-z=\n> ]*")


def parsed(text: bytes) -> list[tuple[str, str]]:
    """Names and sequences of a text without anything unusual."""
    records = re.split(rb"(?m)^>", text.lstrip(b"\n"))[1:]
    heads = [record.partition(b"\n") for record in records]
    return [
        (head.split(b" ")[0].decode(), lines.replace(b"\n", b"").decode())
        for head, _, lines in heads
    ]


def try_reading(data: bytes, folder: Path) -> None:
    """Read a file as a user would, and refuse all that is no message for that user."""
    if not data:
        return
    how, text = data[0] & 3, data[1:]
    blocks._CHUNK = 19 + (data[0] >> 2) % 8  # noqa: SLF001
    blocks._PART = 1 << (data[0] >> 5)  # noqa: SLF001
    path = folder / "x.fa"
    path.write_bytes(gzip.compress(text, 1, mtime=0) if how == 1 else text)
    records = None
    try:
        file = FastaFile(path)
        records = [record for batch in file.batches() for record in batch]
    except (ValueError, OSError) as error:
        assert "x.fa" in str(error), error  # noqa: PT017, S101
    if records is not None and how < 2 and PLAIN.fullmatch(text) and b"> " not in text:  # noqa: PLR2004
        found = [(name, sequence) for name, sequence, _ in records]
        assert found == parsed(text), (found, parsed(text))  # noqa: S101
    if records is None and not data[0] & 4:
        return  # the same words, in most cases
    try:
        store = build_store(
            [path],
            folder / "store",
            vocabulary=Vocabulary.named("rna"),
            filters=Filters(max_ambiguous=1.0),
            columns=(None, "rnacentral")[data[0] >> 7],
            on_unknown="unk",
            progress=False,
        )
    except (ValueError, OSError) as error:
        assert "x.fa" in str(error) or "store" in str(error) or "columns" in str(error), error  # noqa: PT017, S101
    else:
        store.verify(num_threads=1)
        assert records is not None and store.info["counts"]["read"] == len(records)  # noqa: PT018, S101
        shutil.rmtree(store.path)


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    cases = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    for i, seed in enumerate(SEEDS):
        try_reading(seed, folder)
        if cases:
            cases[0].mkdir(parents=True, exist_ok=True)
            (cases[0] / f"seed{i}").write_bytes(seed)
    assert encoding  # noqa: S101  # instrumented with the rest
    atheris.Setup(sys.argv, lambda data: try_reading(data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
