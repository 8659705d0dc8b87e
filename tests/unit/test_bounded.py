"""What costs more than it can be worth is refused at once: sizes, depths, counts, names beyond all sense."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glorasearch.bounded import MOST_BYTES, MOST_LEVELS, check_extent, name_fault, parse_json, parse_toml
from glorasearch.errors import ConfigError, InputError, SearchSpaceError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.resources import ResourceConfig
from glorasearch.search.config import SearchConfig
from glorasearch.search.starts import _of_file
from glorasearch.space import SearchSpace, Subnet

DEEP = 100_000
TOML = {
    "lists": "a = " + "[" * DEEP + "]" * DEEP,
    "tables": "a = " + "{a = " * DEEP + "1" + "}" * DEEP,
    "dotted key": ".".join("a" * DEEP) + " = 1",
    "dotted header": "[" + " . ".join("a" * DEEP) + "]",
    "quoted parts": "'a'." * DEEP + "a = 1",
    "keys": "\n".join(f"k{number} = 1" for number in range(60_000)),
    "700,000 keys": "\n".join(f"k{number} = 1" for number in range(700_000)),
    "list entries": "a = [" + "1," * 60_000 + "]",
    "digits": "a = " + "9" * 5_000,
    "bytes": "# " + "x" * MOST_BYTES,
}
RUN = {"backbone": {"name": "vit"}, "data": {"source": "digits"}}
LONG = "n" * 300


@contextmanager
def at_once() -> Iterator[None]:
    """Within processor time that no depth and no count makes longer."""
    began = time.process_time()
    yield
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", TOML)
@pytest.mark.parametrize("load", [RunConfig.load, SearchSpace.load])
def test_toml_that_is_no_run_file_and_no_space(kind: str, load: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    path.write_text(TOML[kind])
    with at_once(), pytest.raises(InputError, match=r"huge\.toml: not valid TOML: ") as refused:
        load(path)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    "key", ["train.steps", "train.lr", "data.size", "data.train", "backbone.args.x", "name", "race.rates", "seed"]
)
@pytest.mark.parametrize("brackets", ["", "[]"])
def test_a_number_of_more_digits_than_python_writes(key: str, brackets: str) -> None:
    """In base 16 TOML reads numbers of any length."""
    number = f"{brackets[:1]}0x{'f' * 5_000}{brackets[1:]}"
    with pytest.raises(ConfigError, match=rf"key '{key}.*found \[?a whole number of 20,000 bits"):
        RunConfig.from_dict(RUN, [f"{key}={number}"])


def test_such_a_number_from_python() -> None:
    with pytest.raises(ConfigError, match=r"'search.trials': expected at most .*, found a whole number of 20,001 bits"):
        SearchConfig(trials=16**5_000)


@pytest.mark.parametrize("key", ["data.size", "data.search", "train.steps", "search.mutation"])
def test_what_was_found_is_shown_in_brief(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{key}'.* found 'xxx") as refused:
        RunConfig.from_dict(RUN, [f"{key}={'x' * 5_000}"])
    assert len(str(refused.value)) < 400


def test_files_of_other_editors(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    text = '[backbone]\nname = "vit"\n[data]\nsource = "digits"\n'
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert RunConfig.load(path).backbone.name == "vit"
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"it is not UTF-8 \(byte 1\); save it as that"):
        RunConfig.load(path)


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with at_once(), pytest.raises(ConfigError, match=r"/dev/zero: not valid TOML: it has more than 1,048,576 bytes"):
        RunConfig.load(Path("/dev/zero"))


def test_thousands_of_wrong_keys_are_a_message_that_can_be_read() -> None:
    with at_once(), pytest.raises(ConfigError, match="980 more things are wrong") as refused:
        RunConfig.from_dict(RUN | {f"key{number}": 1 for number in range(1_000)})
    assert len(str(refused.value).splitlines()) == 21
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_dict(RUN | {"seed": list(range(40_000))})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP])
def test_json_that_is_nested_deeply(text: str, tmp_path: Path) -> None:
    with at_once(), pytest.raises(SearchSpaceError, match="a subnet must be JSON: it is nested too deeply"):
        Subnet.from_json(text)
    (tmp_path / "start.json").write_text(text)
    with pytest.raises(ConfigError, match=r"start\.json' is not JSON: it is nested too deeply"):
        _of_file(str(tmp_path / "start.json"))
    with pytest.raises(ValueError, match="nested"):
        parse_json(text)


def test_json_of_many_keys_is_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "start.json"
    path.write_text("{" + ",".join(f'"k{number}": 1' for number in range(700_000)) + "}")
    with at_once(), pytest.raises(ConfigError, match="holds no subnet") as refused:
        _of_file(str(path))
    assert len(str(refused.value)) < 1_000
    with at_once(), pytest.raises(SearchSpaceError, match="a subnet names 'k0' twice"):
        Subnet.from_json("{" + ",".join(f'"k{number % 200_000}": 1' for number in range(200_001)) + "}")


@pytest.mark.parametrize(
    "override",
    ["search.trials=" + "[" * 50_000, ".".join("a" * 50_000) + "=1", "seed=" + "9" * 5_000, "a=" + "[1," * 40_000],
)
def test_overrides(override: str) -> None:
    with at_once(), pytest.raises(ConfigError) as refused:
        RunConfig.from_dict(RUN, [override])
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("", "threads", 100_000, "key 'threads': expected at most 1,024, found 100000"),
        ("", "seed", 2**64, "key 'seed': expected less than 18446744073709551616, found 18446744073709551616"),
        ("train", "seed", 2**400, "key 'train.seed': expected less than 18446744073709551616"),
        ("data", "size", 1_000_000, "found 1000000; at most 4096 pixels on an edge are allowed"),
        ("data", "size", (224, 10_000), "at most 4096 pixels"),
        ("", "name", "n" * 256, "key 'name': expected a string of at most 200 characters"),
        ("train", "steps", 10**30, "expected at most 1,000,000,000"),
        ("train", "batch_size", 10**9, "expected at most 65,536"),
        ("refit", "mixed", 10**12, "expected at most 10,000,000"),
        ("search", "population", 10**12, "expected at most 1,000,000"),
        ("report", "chance_subnets", 10**12, "expected at most 100,000"),
        ("data", "source", f"folder:{LONG}/images", "has 307 bytes; a name of a file or folder has at most 255"),
        ("data", "source", "folder:images\0", "must not have the character NUL"),
        ("space", "name", LONG, "name: 'nnnn"),
        ("backbone", "checkpoint", "ä" * 128, "checkpoint: 'ää"),
        ("export", "path", "a/" * 3_000, "a path has at most 4,096"),
        ("report", "baselines", ("lora", LONG), "baselines: 'nnnn"),
    ],
)
def test_values_of_a_run_file(section: str, key: str, value: object, said: str) -> None:
    content = {name: dict(part) for name, part in RUN.items()}
    (content.setdefault(section, {}) if section else content)[key] = value  # type: ignore[assignment]
    with at_once(), pytest.raises(ConfigError) as refused:
        RunConfig.from_dict(content)
    assert said in str(refused.value)


def test_the_largest_values_are_allowed() -> None:
    config = RunConfig.from_dict(RUN | {"seed": 2**64 - 1, "threads": 1_024, "name": "n" * 200})
    assert config.search.seed == 2**64 - 1
    assert SearchConfig(trials=10_000_000).trials == 10_000_000


def test_workers_beyond_this_machine() -> None:
    with pytest.raises(InputError, match="--workers is 1000000; allowed are whole numbers from 1 to 10000"):
        ResourceConfig(executor="ray", workers=1_000_000)
    with pytest.raises(InputError, match=r"--workers is 9999: each is a process .* more on a cluster, with --address"):
        ResourceConfig(executor="ray", workers=9_999).check(gpus=0)
    for share in (float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError, match="--gpus-per-worker is"):
            ResourceConfig(executor="ray", gpus_per_worker=share)
    with pytest.raises(InputError, match="--evaluation-timeout is nan"):
        ResourceConfig(executor="ray", evaluation_timeout=float("nan"))


VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_small_is_let_through(value: object) -> None:
    check_extent(value)


@given(st.integers(1, 2 * MOST_LEVELS))
def test_levels_are_counted_alike_however_they_are_written(levels: int) -> None:
    allowed = levels < MOST_LEVELS
    for text in (
        "a = " + "[" * levels + "]" * levels,
        ".".join("a" * levels) + " = []",
        "a = " + "{a = " * (levels - 1) + "[]" + "}" * (levels - 1),
    ):
        if allowed:
            assert parse_toml(text) == tomllib.loads(text)
        elif levels > MOST_LEVELS:
            with pytest.raises(ValueError, match="nested more than"):
                parse_toml(text)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_names_that_a_file_can_have(text: str) -> None:
    assert name_fault(text) is None
