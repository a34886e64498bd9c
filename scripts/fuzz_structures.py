"""Feeds broken dot-bracket, CT, BPSEQ and Stockholm files to the parsers.

pip install atheris
python scripts/fuzz_structures.py .dbn -max_total_time=600 FOLDER_OF_CASES

The first word is the ending that chooses the parser; what follows goes to libFuzzer. Records or a
ValueError with the place are fine; anything else, memory and hangs included, is a finding, written
to a file ``crash-...``. What was read is written again and must read back the same.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rnafm"]):
    from rnafm.data.structure import format_bpseq, format_ct, format_dbn
    from rnafm.data.structure_files import read_structures

_WRITERS = {".dbn": format_dbn, ".ct": format_ct, ".bpseq": format_bpseq}
_SEEDS = {
    ".dbn": b">a\nGGGAAACCC\n(((...)))\n>b x=1\nGGGAAACCC\n(([.]..))\n",
    ".ct": b"5 a\n1 G 0 2 5 1\n2 A 1 3 0 2\n3 A 2 4 0 3\n4 A 3 5 0 4\n5 C 4 6 1 5\n",
    ".bpseq": b"# a\n1 G 5\n2 A 0\n3 A 0\n4 A 0\n5 C 1\n",
    ".sto": b"# STOCKHOLM 1.0\n#=GF AC RF1\nx GGAA-CC\n#=GC SS_cons <<...>>\n//\n",
}


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    suffix = sys.argv.pop(1)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    file, again = folder / f"x{suffix}", folder / f"y{suffix}"

    def once(data: bytes) -> None:
        file.write_bytes(data)
        try:
            records, _ = read_structures(file)
        except ValueError as error:
            assert "x" + suffix in str(error), error  # noqa: PT017, S101  # the place is named
            return
        if suffix in _WRITERS and records:
            write = _WRITERS[suffix]
            again.write_text("".join(write(r.name, r.sequence, r.pairs) for r in records))
            second, _ = read_structures(again)
            for one, two in zip(records, second, strict=True):
                assert one.sequence == two.sequence  # noqa: S101
                assert one.pairs.tolist() == two.pairs.tolist()  # noqa: S101

    once(_SEEDS[suffix])
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
