"""``rnafm prepare``: FASTA files into a token store."""

from __future__ import annotations

import logging
import sys
from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rnafm.data.store import SequenceStore


def prepare(  # noqa: PLR0913  # one option each
    fasta: list[Path],
    out: Path | None = None,
    *,
    vocabulary: str = "rna",
    min_length: int = 1,
    max_length: int | None = None,
    max_ambiguous: float = 0.1,
    redundancy: Literal["none", "exact", "contained"] = "exact",
    columns: str | None = None,
    metadata: list[Path] | None = None,
    cluster: float | None = None,
    on_unknown: Literal["error", "unk"] = "error",
    num_workers: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Read FASTA files once and write the token store that pretraining reads.

    Pretraining does the same on first use. A store that is up to date is left as it is.

    Args:
        fasta: FASTA files, plain or gzip.
        out: Folder of the store; by default <first file>.<vocabulary>.store.
        vocabulary: rna, rna-28, official-rna, codon or official-codon.
        min_length: Drop sequences of fewer nucleotides.
        max_length: Drop sequences of more nucleotides. Without it long ones stay whole, and
            training cuts windows of them.
        max_ambiguous: Drop sequences with a larger share of letters other than A, C, G, U and T.
        redundancy: exact drops all but the first of equal sequences; contained drops, moreover,
            what is a piece of a longer sequence, on either strand; none drops nothing.
        columns: Names the columns of the header: a regular expression with named groups, searched
            in the whole header, such as "(?P<type>[^ ]+)$"; or rnacentral, for its headers
            (rna_type, num_species, species). By default key=value words are columns.
        metadata: Tables of RNAcentral and Rfam, plain or gzip, each with a --metadata+=FILE of its
            own: id_mapping.tsv gives the columns rna_type, database and taxid, rfam_annotations.tsv
            gives family, and clan_membership.txt gives clan.
        cluster: Put sequences of at least this identity, 0.5 to 1, into one cluster, with mmseqs;
            the column cluster is for splits and for sampling.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or write <unk>.
        num_workers: Processes that encode, of about 130 MB each; by default one per core, at most
            8, and none besides this one for small files.
        overwrite: Replace a store of other settings or files also if it took long to make: one
            without contained sequences, or with metadata or clusters.
        quiet: Show neither progress nor report.
    """
    from rnafm.data.store import Filters, SequenceStore, build_store
    from rnafm.data.store_clusters import find_mmseqs
    from rnafm.data.vocabulary import Vocabulary

    words = Vocabulary.named(vocabulary)
    path = out or fasta[0].with_name(f"{fasta[0].name}.{words.name}.store")
    filters = Filters(
        min_length=min_length,
        max_length=max_length,
        max_ambiguous=max_ambiguous,
        redundancy=redundancy,
    )

    if cluster is not None:
        find_mmseqs(cluster)
    if not quiet:
        _show_messages()

    def annotate(folder: Path) -> None:
        _with_metadata(SequenceStore(folder), metadata or [], progress=not quiet)

    store = build_store(
        fasta,
        path,
        vocabulary=words,
        filters=filters,
        columns=columns,
        on_unknown=on_unknown,
        num_workers=num_workers,
        annotate=annotate if metadata else None,
        overwrite=overwrite,
        progress=not quiet,
    )
    if metadata:
        store = _with_metadata(store, metadata, progress=not quiet)
    if cluster is not None:
        store = _with_clusters(store, cluster, progress=not quiet)
    _report(store, quiet=quiet)


def _report(store: SequenceStore, *, quiet: bool) -> None:
    """Draw the lengths, and say what is in the store."""
    import numpy as np
    from rich.console import Console

    from rnafm.data.redundancy_report import redundancy_of_store
    from rnafm.data.report import draw_lengths, report_of_store

    picture = store.path / "lengths.png"
    report = report_of_store(store)
    if not picture.exists():
        draw_lengths(report, picture)
    if quiet:
        return
    console = Console(soft_wrap=True)
    console.print(report.table())
    if table := redundancy_of_store(store):
        console.print(table)
    for name in store.columns:
        codes, categories = store.column(name)
        if categories is None:
            print(f"column {name}: {len(np.unique(codes)):,} numbers")
        else:
            missing = f"{int((codes == 0).sum()):,} sequences without one"
            print(f"column {name}: {len(categories) - 1:,} values, {missing}")
    print(f"store: {store.path}\npicture of the lengths: {picture}")


def _show_messages() -> None:
    """Say what is gone on with, or left out."""
    package = logging.getLogger("rnafm")
    package.setLevel(logging.INFO)
    package.handlers = [logging.StreamHandler(sys.stderr)]


def _with_metadata(store: SequenceStore, tables: list[Path], *, progress: bool) -> SequenceStore:
    """The store with columns of these tables; those that it has are kept if the tables are."""
    from rnafm.data.annotations import read_annotations
    from rnafm.data.fasta import FastaFile
    from rnafm.data.manifest import changed_files
    from rnafm.data.store_columns import add_columns

    files = [FastaFile(path) for path in tables]
    added = store.info.get("added", {}).get("metadata", {})
    if added and changed_files(added["files"], files) is None:
        return store
    found = read_annotations(store.names(), tables, progress=progress)
    if not any((codes > 0).any() for codes, _ in found.columns.values()):
        raise ValueError(
            f"{', '.join(map(str, tables))}: no row is about a sequence of {store.path}, such as "
            f"{store.name(0)!r}; names have to be RNAcentral's (URS...)"
        )
    settings = {"files": [file.identify() for file in files], "counts": found.counts}
    return add_columns(store.path, found.columns, {"metadata": settings})


def _with_clusters(store: SequenceStore, identity: float, *, progress: bool) -> SequenceStore:
    """The store with clusters of this identity; those that it has are kept."""
    from rnafm.data.store_clusters import cluster_store
    from rnafm.data.store_columns import add_columns

    if store.info.get("added", {}).get("cluster", {}).get("identity") == identity:
        return store
    found = cluster_store(store, identity, progress=progress)
    settings = {"cluster": {"identity": identity, "method": found.method}}
    return add_columns(store.path, {"cluster": (found.labels, None)}, settings)
