"""TOML and JSON that a person gave, read at a bounded cost: what no run file and no subnet can be is refused."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final

MOST_BYTES: Final = 2**20
"""Of a TOML file. The longest shipped one has 3 kB; one group for each of 1,000 layers takes 100 kB."""
MOST_JSON_BYTES: Final = 2**26
MOST_KEYS: Final = 50_000
"""Keys and list entries, on all levels together."""
MOST_LEVELS: Final = 32
MOST_NAME_BYTES: Final = 255
MOST_PATH_BYTES: Final = 4_096
_LEVELS: Final = f"it is nested more than {MOST_LEVELS} levels deep"
_LONG_KEY: Final = re.compile(rf"""(?<![\w"'.-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{MOST_LEVELS}}}""")
"""A key of many parts, which takes `tomllib` a time that grows with their square."""


def user_path(text: str | Path) -> Path:
    """The path that a person gave: `~` and `~user` at its start are home folders, `./~` is a folder of that name."""
    return Path(os.path.expanduser(text))  # Path drops the `./`, and refuses users that there are not


def read_text(path: Path, most: int) -> str:
    """The text of a file, which is read no further than its largest allowed size.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it has more bytes than `most`, or is not UTF-8.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes; that is no file for this")
    try:
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start + 1:,}); save it as that") from error


def read_toml_file(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        OSError: if it cannot be read.
        ValueError: as `parse_toml`, or if it is too long or not UTF-8.
    """
    return parse_toml(read_text(path, MOST_BYTES))


def parse_toml(text: str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
        ValueError: (`TOMLDecodeError` among them) if it is not TOML, nested too deeply, or has too many keys.
    """
    if _LONG_KEY.search(text):
        raise ValueError(_LEVELS)
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_LEVELS) from None
    check_extent(found)
    return found


def read_json_file(path: Path) -> Any:
    """The content of a JSON file that holds a subnet, or a report with one.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is too long, or not UTF-8, or as `parse_json`.
    """
    return parse_json(read_text(path, MOST_JSON_BYTES))


def parse_json(text: str | bytes, **options: Any) -> Any:
    """The value of a JSON text; `options` are of `json.loads`.

    Raises:
        ValueError: (`JSONDecodeError` among them) if it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_extent(value: Any) -> None:
    """Refuse a value of too many keys or levels, without recursion.

    Raises:
        ValueError: saying which.
    """
    level, keys = [value], 0
    for _ in range(MOST_LEVELS):
        below: list[Any] = []
        for each in level:
            inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            keys += len(inner)
            if keys > MOST_KEYS:
                raise ValueError(f"it has more than {MOST_KEYS:,} keys and list entries")
            below.extend(inner)
        if not below:
            return
        level = below
    raise ValueError(_LEVELS)


def name_fault(text: str) -> str | None:
    """Why no file can have this path; None if one can."""
    longest = max((os.fsencode(part) for part in text.split("/")), key=len)
    if len(longest) > MOST_NAME_BYTES:
        return (
            f"{_brief(os.fsdecode(longest))} has {len(longest):,} bytes; a name of a file or folder has at most "
            f"{MOST_NAME_BYTES}"
        )
    if len(os.fsencode(text)) > MOST_PATH_BYTES:
        return f"{_brief(text)} has {len(os.fsencode(text)):,} bytes; a path has at most {MOST_PATH_BYTES:,}"
    return None


def _brief(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
