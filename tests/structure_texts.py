"""Text -> file -> structures, for the tests of the formats."""

import gzip

import pytest

from rnafm.data.structure_files import read_structures


def read_text(folder, name, text, **options):
    """The records of a file with this text."""
    data = text.encode("latin-1") if isinstance(text, str) else text
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return read_structures(folder / name, **options)[0]


def refuse_text(folder, name, text, line, match, reason, **options):
    """See that one record is refused at this line and counted by this reason; gives the others."""
    place = f"{folder}/{name}:{line}: "
    with pytest.raises(ValueError, match=f"^{place}{match}"):
        read_text(folder, name, text, **options)
    records, dropped = read_structures(folder / name, on_error="drop", **options)
    assert dict(dropped) == {reason: 1}
    assert dropped.examples[reason].startswith(place)
    return records
