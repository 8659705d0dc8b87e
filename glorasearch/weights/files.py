"""The files of a weight store behind fsspec: transient failures are retried, others are explained."""

from __future__ import annotations

import errno
import logging
import os
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import fsspec.core
import fsspec.utils
import tenacity
from fsspec.implementations.local import LocalFileSystem

from glorasearch.errors import WeightStoreError, reason
from glorasearch.redact import conceal, redact, redact_url

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

ATTEMPTS: Final = 6
"""Attempts before an operation has failed."""
CHECK_ATTEMPTS: Final = 3
"""Attempts of the check before any work."""
_FIRST_PAUSE_SECONDS: Final = 0.5
"""Doubled after each failure, with jitter between half and all of it, so that many workers do not retry at once."""
_TRANSIENT: Final = frozenset(
    {  # by name: aiohttp, botocore, urllib3 and s3fs are not needed for a store on a disk
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectionError",
        "HTTPClientError",
        "IncompleteReadError",
        "ProtocolError",
        "ResponseParserError",
    }
)
_TRANSIENT_CODES: Final = frozenset(
    {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "IncompleteBody"}
)
_NO_CREDENTIALS: Final = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})
MARK: Final = ".glorasearch"
_MARK_CONTENT: Final = b"This is a weight store of glorasearch: weight sets, each named by its digest.\n"


class Files:
    """The file operations of a store, under its root. Paths are those of fsspec, without the scheme."""

    def __init__(self, url: str) -> None:
        conceal(url)
        self.name = redact_url(url)
        self.root: str
        self.local: Path | None
        options: dict[str, Any] = {}
        if url.startswith("/"):  # a path, whatever characters it has: fsspec would read `::` and `://` in it
            self._files, self.root, self.local = LocalFileSystem(), url.rstrip("/"), Path(url)
            return
        protocol = fsspec.utils.get_protocol(url)
        if protocol in ("s3", "s3a") and "AWS_MAX_ATTEMPTS" not in os.environ:
            options["config_kwargs"] = {"retries": {"total_max_attempts": 2, "mode": "standard"}}
        try:
            self._files, root = fsspec.core.url_to_fs(url, **options)
        except Exception as error:  # every file system of fsspec raises its own
            raise WeightStoreError(explain_url(url, error)) from error
        if protocol in ("s3", "s3a"):
            self._files.retries = 1  # s3fs retries silently; the retries here are logged
        self.root = root.rstrip("/")
        self.local = Path(root) if isinstance(self._files, LocalFileSystem) else None

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if it is not there."""
        return self._call("read", lambda: bytes(self._files.cat_file(path)))

    def write(self, path: str, content: bytes, attempts: int = ATTEMPTS) -> None:
        """Write a file, which appears whole or not at all."""

        def put() -> bool:
            self._files.pipe_file(path, content)
            return True

        if self._call("written", put, attempts) is None:
            raise WeightStoreError(f"weight store {self.name!r} cannot be written: {self._container()} does not exist")

    def exists(self, path: str, attempts: int = ATTEMPTS) -> bool:
        """Whether a file is there."""
        return self._call("read", lambda: bool(self._files.info(path)), attempts) is not None

    def find(self) -> list[str]:
        """All files."""
        return self._call("listed", lambda: [str(path) for path in self._files.find(self.root)]) or []

    def check(self, *, write: bool) -> None:
        """Find out whether the store can be reached and read (or written); raises `WeightStoreError` otherwise.

        To check writing, a small object, always the same, is put into an object store.
        """
        if self.local is not None:
            self._check_folder(self.local, write)
        elif write:
            self.write(f"{self.root}/{MARK}", _MARK_CONTENT, CHECK_ATTEMPTS)
        else:
            self.exists(f"{self.root}/{MARK}", CHECK_ATTEMPTS)

    def _check_folder(self, folder: Path, write: bool) -> None:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir() or not (_can_write(folder) if write else os.access(folder, os.R_OK | os.X_OK)):
            reason = f"{folder} is not a folder that can be {'written' if write else 'read'}"
            raise WeightStoreError(f"weight store {self.name!r}: {reason}; give another with --store")

    def _call(self, what: str, call: Callable[[], _Result], attempts: int = ATTEMPTS) -> _Result | None:
        """The result of a call, retried after transient failures; None if there is no such file.

        Raises:
            WeightStoreError: if it fails for another reason, or too often.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_after_attempt(attempts),
            wait=_pause,
            before=lambda state: self._files.invalidate_cache(),
            before_sleep=lambda state: self._log_retry(what, state, attempts),
            reraise=True,
        )
        try:
            return retrying(call)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # of libraries that are not imported here
            if self.local is not None and not isinstance(error, OSError):
                raise
            made = int(retrying.statistics["attempt_number"])
            tried = f" ({made} attempts)" if made > 1 else ""
            raise WeightStoreError(
                f"weight store {self.name!r} cannot be {what}{tried}: {self._explain(error)}"
            ) from error

    def _log_retry(self, what: str, state: tenacity.RetryCallState, attempts: int) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        _log.warning(
            "weight store %s cannot be %s: %s; attempt %d of %d in %.1f s",
            self.name,
            what,
            self._explain(error) if isinstance(error, Exception) else error,
            state.attempt_number + 1,
            attempts,
            state.upcoming_sleep,
        )

    def _explain(self, error: Exception) -> str:
        """The error and, if known, what to do about it."""
        names, code = _names(error), _response(error).get("Error", {}).get("Code", "")
        text = redact(f"{type(error).__name__}: {error}")
        if names & _NO_CREDENTIALS:
            advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"
            return f"there are no credentials ({text}); {advice}"
        if isinstance(error, PermissionError) and self.local is None:
            refusal = f"{code or 'no code'}: {error}"
            return f"the server refused these credentials ({refusal}); they must be allowed to {_RIGHTS}"
        if "EndpointConnectionError" in names:
            return f"{text}; AWS_ENDPOINT_URL_S3 says where an S3 service other than Amazon's is"
        return text

    def _container(self) -> str:
        return f"bucket {self.root.split('/')[0]!r}" if self.local is None else f"folder {self.root!r}"


_RIGHTS: Final = "get, put and list objects there"


def _can_write(folder: Path) -> bool:
    """Tried out: the mode says too little of a read-only disk, or of a user who may do everything."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def explain_url(url: str, error: Exception) -> str:
    """Why a URL cannot be opened, and what to do about it."""
    shown = redact_url(url)
    if isinstance(error, ImportError):
        s3 = fsspec.utils.get_protocol(url) in ("s3", "s3a")
        package = "pip install 'glorasearch[s3]'" if s3 else "the package that the message names"
        return f"weight store {shown!r} needs a library that is not installed ({error}); install it with {package}"
    return (
        f"weight store {shown!r} cannot be opened: {reason(error)}; allowed are a path and fsspec's URLs, such as "
        "s3://bucket/prefix"
    )


def _pause(state: tenacity.RetryCallState) -> float:
    return _FIRST_PAUSE_SECONDS * 2.0 ** (state.attempt_number - 1) * random.uniform(0.5, 1.0)


def _is_transient(error: BaseException) -> bool:
    """Whether a failure is transient: the connection failed, or the server reports an error of its own."""
    response = _response(error)
    if response:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or status == 429 or response.get("Error", {}).get("Code") in _TRANSIENT_CODES
    transient_numbers = (errno.EBUSY, errno.ETIMEDOUT)
    if isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "errno", None) in transient_numbers:
        return True
    return bool(_names(error) & _TRANSIENT)


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(kind.__name__ for kind in type(error).__mro__)


def _response(error: BaseException) -> Mapping[str, Any]:
    """The answer of an S3 service, if there is one; s3fs keeps it in the cause."""
    for part in (error, error.__cause__):
        response = getattr(part, "response", None)
        if isinstance(response, dict):
            return response
    return {}
