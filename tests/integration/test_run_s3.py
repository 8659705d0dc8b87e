"""A whole run whose weights are on S3; and one whose workspace is lost on the way, while database and store remain."""

import shutil
from pathlib import Path

import pytest

from glorasearch.db import TrialStorage
from glorasearch.weights import WeightStore


@pytest.mark.slow
def test_a_finished_run_is_reported_and_exported_again_elsewhere(make_bench, undisturbed, s3, s3_bucket):
    bench = make_bench()
    url = f"s3://{s3_bucket}/runs"
    bench.finish("run", "--store", url)
    assert not (bench.workspace / "weights").exists()
    found, wanted = bench.record.stages, undisturbed.record.stages
    assert bench.findings == undisturbed.findings
    assert {name: result.get("weights") for name, result in found.items()} == {
        name: result.get("weights") for name, result in wanted.items()
    }
    assert bench.exported == undisturbed.exported
    digests = {result["weights"] for result in found.values() if "weights" in result}
    assert digests <= set(WeightStore(url).digests())

    other = make_bench()
    said = other.finish("run", "--store", url, "--database", bench.database_url)
    assert other.findings == undisturbed.findings
    assert (other.folder / "export" / "config.json").is_file()
    for title in ("supernet", "search (", "refit"):
        assert title not in said


def test_a_run_goes_on_elsewhere_when_its_workspace_is_lost(make_bench, undisturbed, s3, s3_bucket, tmp_path):
    url = f"s3://{s3_bucket}/runs"
    first = make_bench()
    process = first.start("run", "--store", url)
    first.stop_when(lambda: first.trials() >= 10, process)
    assert first.has_stage("train")
    assert not first.has_stage("search")
    database = tmp_path / "shared.db"
    for path in first.workspace.glob("glorasearch.db*"):
        shutil.copy(path, database.with_name(path.name.replace("glorasearch.db", database.name)))
    shutil.rmtree(first.workspace)

    second = make_bench()
    arguments = ("run", "--store", url, "--database", f"sqlite:///{database}")
    said = second.finish(*arguments)
    assert "search: resumes at trial" in said
    assert "running it again" not in said
    assert second.findings == undisturbed.findings
    assert trials(database) == trials(undisturbed.workspace / "glorasearch.db")
    assert second.exported == undisturbed.exported


def trials(database: Path) -> list[tuple[object, ...]]:
    storage = TrialStorage(f"sqlite:///{database}")
    return [
        (trial.number, trial.state.name, trial.values, trial.params)
        for trial in storage.get_all_trials(storage.get_study_id_from_name("tiny"))
    ]
