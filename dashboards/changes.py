"""What a dashboard that was started with `--allow-changes` changes: notes, names, and whether a run is there."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from typing import Final

from glorasearch.db import NoteStore, RunNote, RunRecord
from glorasearch.errors import ChangedMeanwhileError, DamagedRowError, RunNotFoundError
from glorasearch.runs import removal
from glorasearch.runs.removal import Removal
from glorasearch.runs.workspace import Workspace

_DAMAGED: Final = "damaged"
"""The version of a run that cannot be read; it can be removed."""


class Changes:
    """The changes to one workspace's runs. Threads may share it.

    Who changes a run says which version of it was read; if somebody else was faster, nothing is changed.

    Args:
        workspace: whose runs they are; its database is opened for writing.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.notes = NoteStore(workspace.database)
        self._secret = secrets.token_bytes(32)
        self._one_by_one = threading.Lock()

    def seal(self, action: str, run: str) -> str:
        """What a form of ours carries: other web pages can neither guess nor read it."""
        return hmac.digest(self._secret, f"{action} {run}".encode(), "sha256").hex()

    def is_sealed(self, action: str, run: str, given: str) -> bool:
        """Whether a form is of this process."""
        return hmac.compare_digest(self.seal(action, run).encode(), given.encode())

    def record(self, run: str) -> RunRecord | None:
        """The run; None if it is damaged.

        Raises:
            RunNotFoundError: if there is none of that name.
        """
        try:
            found = self._workspace.runs.get(run)
        except DamagedRowError:
            return None
        if found is None:
            raise RunNotFoundError(f"there is no run {run!r}: it was removed, or has another name now")
        return found

    def version(self, run: str) -> str:
        """What changes when a run or its note does.

        Raises:
            RunNotFoundError: if there is none of that name.
        """
        record = self.record(run)
        if record is None:
            return _DAMAGED
        parts = (record.created, record.updated, record.state, self.notes.version(run))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]

    def write_note(self, run: str, text: str, read: int) -> RunNote:
        """Replace the note of a run; see `NoteStore.write`."""
        return self.notes.write(run, text, expected=read)

    def check_idle(self, run: str) -> None:
        """Refuse a run that a process works on.

        Raises:
            RunLockedError: naming the process.
            RunNotFoundError: if there is none of that name.
        """
        record = self.record(run)
        if record is not None:
            removal.check_idle(record)

    def rename(self, run: str, new: str, read: str | None = None) -> None:
        """Give a run another name; see `glorasearch.runs.removal.rename`.

        Args:
            run: its name.
            new: its name afterwards.
            read: the version that was read; without it, whichever there is.

        Raises:
            ChangedMeanwhileError: if it is another version by now.
        """
        with self._one_by_one:
            self._check(run, read)
            removal.rename(self._workspace, run, new)

    def ahead_of_removal(self, run: str) -> Removal:
        """What removing a run removes; see `glorasearch.runs.removal.removals`."""
        (found,) = removal.removals(self._workspace, [run])
        return found

    def remove(self, run: str, read: str | None = None) -> None:
        """Remove a run with its trials, folder, and weights that no other run uses; see `removal.remove`.

        Args:
            run: its name.
            read: the version that was read; without it, whichever there is.

        Raises:
            ChangedMeanwhileError: if it is another version by now.
        """
        with self._one_by_one:
            self._check(run, read)
            removal.remove(self._workspace, self.ahead_of_removal(run))

    def _check(self, run: str, read: str | None) -> None:
        if read is not None and read != self.version(run):
            raise ChangedMeanwhileError(
                f"run {run!r} has changed after you read it; nothing was changed now: look at it again"
            )
