"""Curves as an event file of TensorBoard, with the run's configuration as hyperparameters."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from glorasearch.runs.curves.curves import Table
from glorasearch.runs.curves.hyperparameters import Hyperparameter
from glorasearch.runs.curves.rows import Row, tag

COMPARED: Final = ("test/accuracy", "test/parameters", "search/best_accuracy")
"""What TensorBoard's table of hyperparameters shows beside them."""
_PATTERN: Final = "events.out.tfevents.*"
_FLUSH_SECONDS: Final = 5.0
"""Points are in the file after so long, or when more come; what a kill takes is in the database."""
_KEPT_SECONDS: Final = 600
"""For so long an empty file is kept."""
_numbers: Final = itertools.count(1)
"""Of the files of this process: names have the second of their making only."""


class EventFile:
    """One event file in a folder; what was there is emptied once a new one is whole."""

    def __init__(self, folder: Path, hyperparameters: Mapping[str, Hyperparameter]) -> None:
        """In a folder, which is made when there is something to write."""
        self._folder, self._hyperparameters = folder, hyperparameters
        self._writer: EventsWriter | None = None
        self._flushed = 0.0

    @property
    def place(self) -> str:
        """The event file of the folder."""
        return str(self._folder / _PATTERN)

    def append(self, row: Row, table: Table) -> None:
        """Add points, which are in the file some seconds later."""
        assert self._writer is not None
        self._put(self._writer, row)
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self._flush(self._writer)

    def rewrite(self, table: Table) -> None:
        """Write a new file. It begins with the mark at which a TensorBoard that runs forgets what it has read."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._leave()
        old = set(self._folder.glob(_PATTERN))
        try:
            writer = EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{next(_numbers)}")
            writer.write_event(Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))
            for summary in hparams(dict(self._hyperparameters), dict.fromkeys(COMPARED)):
                writer.write_event(Event(wall_time=time.time(), summary=summary))
            for rows in table.values():
                for step in sorted(rows):
                    self._put(writer, rows[step])
            self._flush(writer)
        except BaseException:
            for path in set(self._folder.glob(_PATTERN)) - old:
                path.unlink(missing_ok=True)
            raise
        self._writer = writer
        for path in old:
            _retire(path)

    def close(self, state: str) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _put(self, writer: EventsWriter, row: Row) -> None:
        values = [Summary.Value(tag=tag(row.stage, name), simple_value=value) for name, value in row.values.items()]
        writer.write_event(Event(wall_time=row.time, step=row.step, summary=Summary(value=values)))

    def _flush(self, writer: EventsWriter) -> None:
        """Hand the points over to the disk, which is waited for."""
        writer.flush()
        self._flushed = time.monotonic()

    def _leave(self) -> None:
        """Let go of a file that is about to be replaced, whatever it was that could not be written to it."""
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
        except OSError:
            pass


def _retire(path: Path) -> None:
    """Empty a file, and remove it later: a TensorBoard that reads it now would look for it, and for no other one."""
    found = path.stat()
    if found.st_size:
        os.truncate(path, 0)
    elif time.time() - found.st_mtime > _KEPT_SECONDS:
        path.unlink()
