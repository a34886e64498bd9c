"""What is in the files of tables: cells by column, and the place of each row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Contents = tuple[dict[str, list[Any]], list[str]]
"""Cells of each column, and the place of each row."""

_NUMBER = re.compile(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?")
_SEQUENCE = re.compile(r"[ACGTUN]{8,}|[acgtun]{8,}")


def read_bytes(path: Path, *, packed: bool) -> bytes:
    """The bytes of a file, unpacked.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, empty, damaged, or compressed against its name.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; correct the path")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name the tables in it")
    data = path.read_bytes()
    if packed:
        try:
            data = gzip.decompress(data)
        except EOFError as error:
            raise ValueError(
                f"{path}: the gzip data end too early; fetch or compress the file again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path}: the gzip data are damaged ({error}); fetch the file again, or take .gz "
                "off its name if it is not compressed"
            ) from error
    elif data.startswith(b"\x1f\x8b"):
        raise ValueError(f"{path}: is compressed; add .gz to its name")
    if not data.strip():
        raise ValueError(f"{path}: is empty; is this the right file?")
    return data


def decode(path: Path, data: bytes) -> str:
    """Text, without the mark that Excel puts before it.

    Raises:
        ValueError: If it is no UTF-8 text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(
            f"{path}: is UTF-16; convert it, for instance with: iconv -f utf-16 -t utf-8"
        )
    data = data.removeprefix(b"\xef\xbb\xbf")
    if (place := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, place) + 1
        raise ValueError(f"{path}:{line}: has a NUL byte; is this a text file?")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: has bytes that are not UTF-8; convert the file, for instance with: "
            "iconv -f latin1 -t utf-8"
        ) from error


def read_delimited(path: Path, text: str, delimiter: str) -> Contents:
    """Rows of CSV or TSV under a header, with the quoting of RFC 4180.

    Raises:
        ValueError: If there is no header, a column twice, or a row of another number of fields.
    """
    limit = csv.field_size_limit(sys.maxsize)  # labels of a long sequence are a long field
    try:
        rows = list(_delimited_rows(path, text, delimiter))
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise ValueError(f"{path}: is empty; is this the right file?")
    (place, header), *rows = rows
    header = [name.strip() for name in header]
    _check_header(place, header, delimiter)
    for place, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{place}: has {len(row)} fields, but the header names {len(header)} columns; "
                f"put fields that contain {delimiter!r} into double quotes"
            )
    cells = map(list, zip(*(row for _, row in rows), strict=True)) if rows else [[] for _ in header]
    return dict(zip(header, cells, strict=True)), [place for place, _ in rows]


def _delimited_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Rows, each with the place of its first line: quoted fields may go over several."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    start = 1
    try:
        for row in reader:
            if row:
                yield f"{path}:{start}", row
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}:{start}: cannot be read ({error}); a field in double quotes ends with one, "
            "and a double quote inside is written twice"
        ) from error


def _check_header(place: str, header: list[str], delimiter: str) -> None:
    if len(header) == 1:
        for other, remedy in (("\t", "end its name in .tsv"), (";", "save it with commas")):
            if other in header[0] and other != delimiter:
                raise ValueError(
                    f"{place}: has a single column {header[0]!r}, fields seem to be separated by "
                    f"{other!r}; {remedy}"
                )
    if all(map(_NUMBER.fullmatch, filter(None, header))) or any(map(_SEQUENCE.fullmatch, header)):
        values = ", ".join(name[:20] for name in header)
        raise ValueError(
            f"{place}: the first line ({values}) names no columns; put a header line above it"
        )
    _check_names(place, header)


def _check_names(place: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{place}: columns appear twice: {', '.join(map(repr, twice))}; rename or remove one"
        )


def read_json(path: Path, text: str) -> Contents:
    """Rows of JSON lines; a row has None where it lacks a name that others have.

    Raises:
        ValueError: If a line is no object, or has a name twice.
    """
    columns: dict[str, list[Any]] = {}
    places: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        row = _parse_object(place, line)
        for name in row:
            columns.setdefault(name, [None] * len(places))
        for name, cells in columns.items():
            cells.append(row.get(name))
        places.append(place)
    return columns, places


def _parse_object(place: str, line: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_names(place, [name for name, _ in pairs])
        return dict(pairs)

    remedy = (
        'every line must be one object such as {"sequence": "ACGU", "label": 0.5}; '
        "with pandas: to_json(..., orient='records', lines=True), with jq: jq -c '.[]'"
    )
    if not line.lstrip().startswith("{"):
        raise ValueError(f"{place}: is no JSON object ({line.strip()[:40]}); {remedy}")
    try:
        row: dict[str, Any] = json.loads(line, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{place}: is no JSON ({error.msg} at letter {error.pos + 1}); {remedy}"
        ) from error
    return row


def read_parquet(path: Path, data: bytes) -> Contents:
    """Rows of Parquet.

    Raises:
        ValueError: If pyarrow is not installed, the file is damaged, or has a column twice.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Parquet needs pyarrow, which is not installed: "
            "pip install 'rnafm[parquet]'"
        ) from error
    try:
        # Not by its path, which could add columns: folders such as split=train.
        table = parquet.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path}: is no Parquet file or a damaged one ({error}); fetch or write it again"
        ) from error
    _check_names(str(path), table.column_names)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return columns, [f"{path}: row {row}" for row in range(1, table.num_rows + 1)]
