"""What goes with a run to a cluster, what stays, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from glorasearch.cli.run_commands import run as run_command
from glorasearch.errors import ConfigError, InputError
from glorasearch.runs.submission import DEFAULT_WORKSPACE, LARGEST_BYTES, prepare
from glorasearch.space import SearchSpace

RUN = """
[backbone]
name = "vit_tiny_patch16_224"
[data]
source = "digits"
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "flowers.toml"
    path.write_text(RUN)
    return path


def parsed(command: list[str]) -> click.Context:
    """The job's command line, as `glorasearch run` understands it."""
    assert command[:4] == ["python", "-m", "glorasearch", "run"]
    return run_command.make_context("run", command[4:], help_option_names=["-h", "--help"])  # click keeps the names


def test_a_run_file_goes_with_its_overrides_and_options(run_file: Path) -> None:
    sent = prepare(run_file, ["search.trials=20"], ["--workers", "8", "--compile", "off"], workspace="/srv/my runs")
    options = parsed(sent.command).params

    assert sent.run == "flowers"
    assert sent.files == {"flowers.toml": run_file}
    assert (options["executor"], options["address"], options["workers"]) == ("ray", "auto", 8)
    assert (options["workspace"], options["compile"]) == ("/srv/my runs", "off")
    assert options["overrides"] == ("name=flowers", "search.trials=20")
    assert "'/srv/my runs'" in sent.entrypoint
    assert sent.notes == []
    assert parsed(prepare(run_file).command).params["workspace"] == DEFAULT_WORKSPACE


def test_search_spaces_of_ones_own_go_along(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[choices]\nA = ["none", "lora:2"]\n')
    run_file.write_text(RUN + '[space]\nname = "mine.toml"\n[report]\nbaselines = ["lora", "mine.toml"]\n')

    sent = prepare(run_file)
    folder = tmp_path / "sent"
    folder.mkdir()
    sent.write(folder)

    assert {str(path.relative_to(folder)) for path in folder.rglob("*.toml")} == {"flowers.toml", "spaces/mine.toml"}
    assert SearchSpace.load(folder / "spaces" / "mine.toml").digest == SearchSpace.load(tmp_path / "mine.toml").digest
    overrides = parsed(sent.command).params["overrides"]
    assert 'space.name="spaces/mine.toml"' in overrides
    assert 'report.baselines=["lora", "spaces/mine.toml"]' in overrides


def test_two_spaces_of_one_name_are_refused(run_file: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text('[choices]\nA = ["none", "lora:2"]\n')
    run_file.write_text(RUN + '[space]\nname = "a/mine.toml"\n[report]\nbaselines = ["b/mine.toml"]\n')
    with pytest.raises(ConfigError, match="have one name"):
        prepare(run_file)


def test_data_stays_and_its_path_becomes_absolute(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    run_file.write_text(RUN.replace('"digits"', '"folder:images"') + '[export]\npath = "out"\n')

    sent = prepare(run_file)

    overrides = parsed(sent.command).params["overrides"]
    assert f'data.source="folder:{tmp_path / "images"}"' in overrides
    assert f'export.path="{tmp_path / "out"}"' in overrides
    assert sent.notes[0] == f"data.source: {tmp_path / 'images'} is a path of the cluster, on every node that uses it"
    assert list(sent.files) == ["flowers.toml"]


def test_a_relative_path_that_is_not_here_means_nothing_there(run_file: Path) -> None:
    for text in ('source = "folder:nowhere"', 'source = "npz:nowhere.npz#t"', 'source = "vtab:nowhere/cifar"'):
        run_file.write_text(RUN.replace('source = "digits"', text))
        with pytest.raises(ConfigError, match="a relative path means nothing on the cluster"):
            prepare(run_file)
    run_file.write_text(RUN.replace('"digits"', '"folder:/data/flowers"'))
    assert 'data.source="folder:/data/flowers"' in prepare(run_file).command
    run_file.write_text(RUN.replace('"digits"', '"npz:/data/flowers.npz#roses"'))
    assert 'data.source="npz:/data/flowers.npz#roses"' in prepare(run_file).command


def test_places_must_stay_where_they_are(run_file: Path) -> None:
    with pytest.raises(InputError, match=r"--workspace \./runs: a job has no current directory that stays"):
        prepare(run_file, workspace="./runs")
    with pytest.raises(InputError, match="give an absolute path"):
        prepare(run_file, database="sqlite:///runs.db")
    with pytest.raises(InputError, match="--store weights: a job has no current directory that stays"):
        prepare(run_file, options=["--store", "weights"])
    with pytest.raises(InputError, match="is not a URL; write sqlite:///path"):
        prepare(run_file, database="nonsense")
    sent = prepare(run_file, options=["--store", "s3://bucket/weights"], database="sqlite:////srv/runs.db")
    assert sent.notes == []


@pytest.mark.parametrize("secret", ["u:hidden@host/name", "u@host/name?password=hidden"])
def test_a_password_is_in_the_environment_only_and_that_is_said(run_file: Path, secret: str) -> None:
    database = f"postgresql+psycopg://{secret}"
    sent = prepare(run_file, database=database)

    assert sent.environment["GLORASEARCH_DATABASE"] == database
    assert "hidden" not in sent.entrypoint + "".join(sent.metadata.values()) + "".join(sent.notes)
    (note,) = sent.notes
    assert "anyone with access to the cluster's job API can read it" in note
    assert prepare(run_file, database="postgresql+psycopg://u@host/name").notes == []


@pytest.mark.parametrize(
    "store", ["sftp://key:hidden@host/x", "https://h/x?sig=hidden", "simplecache::ftp://u:hidden@h/x"]
)
def test_credentials_of_a_store_are_in_the_environment_only(run_file: Path, store: str) -> None:
    sent = prepare(run_file, options=["--workers", "3", "--store", store, "--fresh"])

    assert sent.environment["GLORASEARCH_STORE"] == store
    assert "hidden" not in sent.entrypoint + "".join(sent.notes)
    assert "--store" not in sent.command
    (note,) = sent.notes
    assert "set GLORASEARCH_STORE on the cluster's nodes and leave --store out" in note


@pytest.mark.parametrize("change", ["data.root=/x?token=hidden", "backbone.args={api_key='hidden'}"])
def test_a_credential_that_would_stand_in_the_command_line_is_refused(run_file: Path, change: str) -> None:
    with pytest.raises(
        InputError, match=r"the command line of the job, which everyone at the cluster can read"
    ) as said:
        prepare(run_file, [change, "data.source=torch/cifar10"])
    assert "hidden" not in str(said.value)


def test_what_is_large_is_refused(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"blocks.0.attn.qkv": {"B": "lora:4"}}' + " " * LARGEST_BYTES)
    run_file.write_text(RUN + '[search]\nstart = ["mine.json"]\n')
    with pytest.raises(InputError, match="MiB would go with the job"):
        prepare(run_file)


def test_subnets_to_start_from_go_along_and_runs_are_those_of_the_cluster(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"blocks.0.attn.qkv": {"B": "lora:4"}}')
    run_file.write_text(RUN + '[search]\nstart = ["named", "mine.json", "run:old"]\n')

    sent = prepare(run_file)

    assert sent.files["starts/mine.json"] == tmp_path / "mine.json"
    overrides = parsed(sent.command).params["overrides"]
    assert 'search.start=["named", "starts/mine.json", "run:old"]' in overrides
    assert "search.start: runs that it names must be in the workspace of the cluster" in sent.notes

    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds no subnet"):
        prepare(run_file)
