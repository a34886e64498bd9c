"""Feeds broken token stores to `SequenceStore`, as a stranger could make them.

pip install atheris
python scripts/fuzz_stores.py manifest -max_total_time=600 -rss_limit_mb=2048 FOLDER_OF_CASES

The first word chooses what is broken: ``manifest`` (store.json, with its digest put right),
``values`` (one of the files, with the checksums put right) or ``raw`` (any file, as it is). A
store whose every sequence, name and column can be read, or a ValueError or OSError that names the
store, is fine; a broken file that ``raw`` does not notice, or anything else, memory and hangs
included, is a finding, written to a file ``crash-...``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import atheris
import xxhash

with atheris.instrument_imports(include=["rnafm.data"]):
    from rnafm.data.checksums import Spans
    from rnafm.data.manifest import write_manifest
    from rnafm.data.store import SequenceStore, build_store
from rnafm.data.fasta import Record, write_fasta
from rnafm.data.vocabulary import Vocabulary

TARGETS = ("manifest", "values", "raw")
HEAD, BLANK = b'{\n "digest": "', b"0" * 32


def sound_store(folder: Path) -> Path:
    """A small store."""
    records = [Record(f"r{i}", "ACGUN"[: 1 + i % 5] * (i + 1), f"type=t{i % 3}") for i in range(9)]
    write_fasta(folder / "x.fa", records)
    store = build_store([folder / "x.fa"], folder / "sound", vocabulary=Vocabulary.named("rna"))
    return store.path


def try_opening(path: Path) -> bool:
    """Use a store as a training run would; whether it was refused."""
    try:
        store = SequenceStore(path)
        for i in range(min(len(store), 50)):
            store.sequence(i), store.name(i)
        for names in store.names():
            assert isinstance(names, list)  # noqa: S101
        for name in store.columns:
            codes, categories = store.column(name)
            if categories is not None:
                assert all(isinstance(categories[code], str) for code in codes[:50])  # noqa: S101
        assert len(store.lengths) == len(store.hashes) == len(store)  # noqa: S101
        assert int(store.lengths.sum()) == len(store.tokens)  # noqa: S101
        store.verify(num_threads=1)
    except (ValueError, OSError) as error:
        assert path.name in str(error), error  # noqa: PT017, S101
        return True
    return False


def manifest(data: bytes, sound: Path, broken: Path) -> None:
    """Another store.json, with the digest that it has to have."""
    _copy(sound, broken)
    text = HEAD + BLANK + data[len(HEAD) + len(BLANK) :]
    digest = xxhash.xxh3_128_hexdigest(text).encode()
    (broken / "store.json").write_bytes(HEAD + digest + text[len(HEAD) + len(BLANK) :])
    try_opening(broken)


def values(data: bytes, sound: Path, broken: Path) -> None:
    """Other bytes in one of the files, which one the first byte says, with right checksums."""
    _copy(sound, broken)
    files = sorted(path.name for path in sound.glob("*.bin"))
    if not data:
        return
    path = broken / files[data[0] % len(files)]
    before = path.read_bytes()
    path.write_bytes((data[1:] + before[len(data) - 1 :])[: len(before)])
    info, spans = json.loads((sound / "store.json").read_bytes()), Spans()
    spans.update(path.read_bytes())
    info["files"][path.name] = spans.sums()
    write_manifest(broken / "store.json", info)
    try_opening(broken)


def raw(data: bytes, sound: Path, broken: Path) -> None:
    """Other bytes in one of the files, which one the first byte says."""
    _copy(sound, broken)
    files = sorted(path.name for path in sound.iterdir())
    if not data:
        return
    path = broken / files[data[0] % len(files)]
    path.write_bytes(data[1:])
    same = data[1:] == (sound / path.name).read_bytes()
    assert try_opening(broken) != same, path.name  # noqa: S101


def _copy(sound: Path, broken: Path) -> None:
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(sound, broken)


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    target = {"manifest": manifest, "values": values, "raw": raw}[sys.argv.pop(1)]
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    sound, broken = sound_store(folder), folder / "broken"
    cases = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    seed = (sound / "store.json").read_bytes()
    if cases:
        cases[0].mkdir(parents=True, exist_ok=True)
        (cases[0] / "seed").write_bytes(seed)
        for i, path in enumerate(sorted(sound.iterdir())):
            if target is not manifest:
                (cases[0] / f"seed{i}").write_bytes(bytes([i]) + path.read_bytes())
    target(seed, sound, broken)
    atheris.Setup(sys.argv, lambda data: target(data, sound, broken))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
