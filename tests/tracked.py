"""What the real wandb has written into the file of an offline run."""

import json
import struct
import time
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _HEAD = 1 << 15, 7  # LevelDB's log format: blocks with chunks, each with a head


def records(path):
    """All records of a ``.wandb`` file, of which its process may still write the last one."""
    data, place, parts = path.read_bytes(), _HEAD, []
    assert data.startswith(b":W&B")
    while place + _HEAD <= len(data):
        room = _BLOCK - place % _BLOCK
        if room < _HEAD:
            place += room
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if kind == 0 or place + _HEAD + length > len(data):
            return
        parts.append(data[place + _HEAD : place + _HEAD + length])
        place += _HEAD + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(b"".join(parts))
            parts = []


class Page:
    """What a page of W&B would show of a run that is finished.

    Attributes:
        run: The record of the run: id, project, job.
        config: As it was in the end.
        history: The rows.
        summary: What was set at the end, and by hand.
        metrics: How metrics are defined, by name.
        artifacts: Their records.
        files: Of the run that would be uploaded.
    """

    def __init__(self, folder):
        (path,) = Path(folder).rglob("run-*.wandb")
        self.folder = path.parent
        self.run, self.config, self.history, self.summary = None, {}, [], {}
        self.metrics, self.artifacts, self.files = {}, [], []
        for record in _finished(path):
            kind = record.WhichOneof("record_type")
            if kind in ("run", "config", "history", "summary", "metric", "artifact", "files"):
                getattr(self, f"_add_{kind}")(getattr(record, kind))

    def _add_run(self, record):
        self.run = record
        self._add_config(record.config)

    def _add_config(self, record):
        self.config |= _values(record.update)

    def _add_history(self, record):
        self.history.append(_values(record.item))

    def _add_summary(self, record):
        self.summary |= _values(record.update)

    def _add_metric(self, record):
        self.metrics[record.name or record.glob_name] = record

    def _add_artifact(self, record):
        self.artifacts.append(record)

    def _add_files(self, record):
        self.files += [file.path for file in record.files]

    def column(self, name):
        """Step of the trainer -> value of a metric."""
        rows = [row for row in self.history if name in row]
        return {row["trainer/global_step"]: row[name] for row in rows}

    def artifact(self, kind):
        """The artifacts of a type."""
        return [each for each in self.artifacts if each.type == kind]


def _finished(path):
    """All records; another process writes the end, late on a busy machine."""
    for _ in range(600):
        found = list(records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path}: wandb has not written its end in a minute")


def _values(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
