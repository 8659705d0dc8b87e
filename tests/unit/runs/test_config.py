"""Run files: strictness, overrides, what makes two of them the same run, and the template of `init`."""

from __future__ import annotations

import json
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from glorasearch.config import Config
from glorasearch.errors import ConfigError
from glorasearch.runs.config import RunConfig, configuration_digest
from glorasearch.runs.refit_config import RefitConfig
from glorasearch.runs.report_config import ReportConfig
from glorasearch.runs.template import reference, render
from glorasearch.statistics import METRICS
from glorasearch.training import TrainingConfig, TrainSection

REQUIRED: dict[str, Any] = {"backbone": {"name": "vit"}, "data": {"source": "digits"}}


def test_the_template_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(render("mine", "vit", "digits", "glora_medium"))

    assert RunConfig.load(path) == RunConfig.from_dict(REQUIRED | {"name": "mine"})


def test_the_template_names_every_key_with_a_comment_and_a_value_that_is_allowed() -> None:
    text = render("mine", "vit", "hfds/x", "glora_medium")
    assert all(len(line) <= 120 for line in text.splitlines())
    assert "# list of tensorboard | csv |" in text
    lines = text.splitlines()[3:]
    for line, below in pairwise([*lines, ""]):  # the comment is beside the key, or below where it is too long for that
        assert "#" in line.removeprefix("# ") or not line or (len(line) >= 32 and below.startswith(32 * " " + "#"))
    written = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines))
    for section, field in RunConfig.model_fields.items():
        assert section in written
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert set(written[section]) == set(field.annotation.model_fields), section
    assert RunConfig.from_dict(written).name == "mine"


def test_the_reference_has_every_key_and_its_default() -> None:
    text = reference()
    for model in (RunConfig, *(field.annotation for field in RunConfig.model_fields.values())):
        if isinstance(model, type) and issubclass(model, Config):
            for key, field in model.model_fields.items():
                if not (isinstance(field.annotation, type) and issubclass(field.annotation, Config)):
                    assert f"| `{key}` |" in text
                    assert field.description, f"{model.__name__}.{key} has no docstring"
    assert "| `trials` | whole number, ≥ 1, ≤ 10,000,000 | `1_000` |" in text
    assert '| `lr` | `auto` or number, > 0 | `"auto"` |' in text
    assert "| `objectives` | list of `tempered`, `accuracy`," in text
    assert '| `strategy` | `uniform`, `sandwich` | `"uniform"` |' in text


def test_the_template_keeps_quotes_and_backslashes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(render("mine", "vit", 'folder:C:\\my "images"', "glora_medium"))

    assert RunConfig.load(path).data.source == 'folder:C:\\my "images"'


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("search.trials=200", "search", "trials", 200),
        ("search.trials = 2_00", "search", "trials", 200),
        ("search.sampler=tpe", "search", "sampler", "tpe"),
        ("search.sampler='tpe'", "search", "sampler", "tpe"),
        ("train.lr=1e-3", "train", "lr", 1e-3),
        ("data.allow_overlap=true", "data", "allow_overlap", True),
        ("data.size=[32, 48]", "data", "size", (32, 48)),
        ("backbone.args={img_size=28}", "backbone", "args", {"img_size": 28}),
        ("backbone.args.img_size=28", "backbone", "args", {"img_size": 28}),
        ('report.baselines=["lora"]', "report", "baselines", ("lora",)),
        ("export.path=a=b", "export", "path", "a=b"),
    ],
)
def test_overrides(override: str, section: str, key: str, value: Any) -> None:
    assert getattr(getattr(RunConfig.from_dict(REQUIRED, [override]), section), key) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials", "expected section.key=value"),
        ("=3", "expected section.key=value"),
        ("search.trails=3", "unknown key 'search.trails' (did you mean 'trials'?)"),
        ("sarch.trials=3", "unknown key 'sarch' (did you mean 'search'?)"),
        ("name.x=3", "'name' is a value, not a section"),
        ("search.trials=0", "'search.trials'"),
        ("search.trials=", "'search.trials'"),
        ("train.lr=inf", "'train.lr'"),
        ("train.lr=nan", "'train.lr'"),
        ("train=3", "'train'"),
    ],
)
def test_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict(REQUIRED | {"name": "x"}, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.steps", "'3'", "expected a whole number, found '3'"),
        ("train.steps", "3.0", "expected a whole number, found 3.0"),
        ("train.steps", "true", "expected a whole number, found True"),
        ("seed", "true", "expected a whole number, found True"),
        ("data.train", "'200'", "expected a whole number, found '200'"),
        ("space.max", "'200'", "expected a whole number, found '200'"),
        ("train.lr", "'0.1'", "expected a number or 'auto', found '0.1'"),
        ("train.lr", "true", "expected a number or 'auto', found True"),
        ("refit.lr", "'0.1'", "expected a number, found '0.1'"),
        ("search.early_stopping", "'yes'", "expected true or false, found 'yes'"),
        ("search.early_stopping", "1", "expected true or false, found 1"),
        ("backbone.name", "3", "expected a string, found 3"),
        ("export.path", "3", "expected a string, found 3"),
        ("name", "'a/b'", "expected a string that matches ^[A-Za-z0-9][A-Za-z0-9._-]*$, found 'a/b'"),
        ("report.baselines", "'lora'", "expected a list, in [brackets] (of tables: [[double brackets]]), found 'lora'"),
        ("report.baselines[0]", "[3]", "expected a string, found 3"),
        ("data.mean[1]", "[1, '2']", "expected a number, found '2'"),
        ("data.mean[0]", "[true]", "expected a number, found True"),
        ("backbone.args", "3", "expected a table, found 3"),
        ("train.scale", "[0.5]", "expected a list that has 2 or more entries, found [0.5]"),
        ("train.scale", "[0.5, 0.6, 0.7]", "expected a list that has at most 2 entries, found [0.5, 0.6, 0.7]"),
    ],
)
def test_types_are_not_converted(key: str, value: str, said: str) -> None:
    name = key.partition("[")[0]
    with pytest.raises(ConfigError) as from_toml:
        RunConfig.from_dict(REQUIRED, [f"{name}={value}"])
    assert str(from_toml.value) == f"run: key {key!r}: {said}"

    *sections, last = name.split(".")
    config: Config = RunConfig.from_dict(REQUIRED)
    for section in sections:
        config = getattr(config, section)
    with pytest.raises(ConfigError) as from_python:
        config.replace(**{last: tomllib.loads(f"value = {value}")["value"]})
    assert str(from_python.value) == f"key {key!r}: {said}"


def test_what_toml_and_json_can_say_is_taken() -> None:
    """Whole numbers stand for floats, lists for tuples, null for what is not given."""
    config = RunConfig.from_dict(REQUIRED, ["train.lr=1", "data.mean=[0, 0.5]", 'report.baselines=["lora"]'])
    assert (config.train.lr, config.data.mean, config.report.baselines) == (1.0, (0.0, 0.5), ("lora",))
    assert config.replace(threads=None).threads is None
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    assert RunConfig.from_dict(stored) == config


def test_a_date_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = 2026-07-29\n[backbone]\nname = "vit"\n[data]\nsource = "digits"\n')

    with pytest.raises(ConfigError, match="key 'name'"):
        RunConfig.load(path)


def digest_of(config: RunConfig) -> str:
    return configuration_digest(config.configuration(config.load_spaces()))


def test_the_digest_is_of_what_decides_the_results(tmp_path: Path) -> None:
    space = tmp_path / "own.toml"
    space.write_text('name = "own"\n[choices]\nB = ["none", "lora:2"]\n')
    own = REQUIRED | {"space": {"name": str(space)}}
    digest = digest_of(RunConfig.from_dict(own))

    assert (
        digest_of(
            RunConfig.from_dict(
                own, ["name=other", "export.path=there", "search.early_stopping=false", "search.early_stopping_lag=2"]
            )
        )
        == digest
    )
    assert digest_of(RunConfig.from_dict(own, ["train.steps=7"])) != digest
    space.write_text('name = "renamed"\ndescription = "words"\n[choices]\nB = ["none", "lora:2"]\n')
    assert digest_of(RunConfig.from_dict(own)) == digest
    space.write_text('name = "own"\n[choices]\nB = ["none", "lora:4"]\n')
    assert digest_of(RunConfig.from_dict(own)) != digest


def test_sections_without_a_seed_have_the_runs() -> None:
    own = RunConfig.from_dict(REQUIRED, ["seed=4", "train.seed=2"])
    assert (own.data.seed, own.train.seed, own.search.seed) == (4, 2, 4)
    again = own.replace(seed=5)
    assert (again.data.seed, again.train.seed, again.search.seed) == (5, 2, 5)
    assert RunConfig.from_dict(own.to_dict()) == own
    assert digest_of(RunConfig.from_dict(REQUIRED, ["seed=4", "train.seed=4"])) != digest_of(own)
    assert digest_of(RunConfig.from_dict(REQUIRED, ["seed=4", "data.seed=4", "train.seed=2"])) == digest_of(own)
    assert digest_of(RunConfig.from_dict(REQUIRED, ["seed=4", "data.seed=0", "train.seed=2"])) != digest_of(own)


def test_python_and_a_run_file_refuse_the_same_with_the_same_words() -> None:
    with pytest.raises(ConfigError) as from_python:
        TrainSection(steps=-1, strategy="best", lr=float("nan"), stpes=3)  # type: ignore[call-arg, arg-type]
    with pytest.raises(ConfigError) as from_file:
        RunConfig.from_dict(REQUIRED, ["train.steps=-1", "train.strategy=best", "train.lr=nan", "train.stpes=3"])
    lines = str(from_python.value).splitlines()
    assert [f"run: {line}" for line in lines] == str(from_file.value).splitlines()
    assert lines[:3] == [
        "key 'train.steps': expected at least 0, found -1",
        "key 'train.strategy': expected 'uniform' or 'sandwich', found 'best'",
        "key 'train.lr': expected a finite number or 'auto', found nan",
    ]
    assert lines[3].startswith("unknown key 'train.stpes' (did you mean 'steps'?)")


def test_rates_of_groups_follow_lr_and_scale_with_the_refits() -> None:
    train = TrainingConfig(lr=1e-2, head_lr=4e-2, ranks=2, batch_size=4)
    assert RefitConfig(steps=30).training(train) == train.replace(steps=30, ranks=1)
    assert [RefitConfig(steps=steps).steps_of_teachers for steps in (30, 1_500, 0)] == [30, 1_000, 1_000]
    assert RefitConfig(steps=30, teacher_steps=60).steps_of_teachers == 60
    refit = RefitConfig(steps=30, lr=5e-3, warmup_steps=7).training(train)
    assert (refit.lr, refit.vector_lr, refit.head_lr, refit.spectrum_lr) == (5e-3, 5e-3, 2e-2, None)
    assert (refit.warmup_steps, refit.warmup) == (7, 3)
    assert ReportConfig().training(train).steps == train.steps
    assert ReportConfig(steps=3).training(train).steps == 3


def test_metrics_are_named_and_a_wrong_name_is_refused_with_the_right_ones() -> None:
    some = RunConfig.from_dict(REQUIRED, ['report.metrics=["macro_f1", "auc"]', "report.resamples=0"])
    assert some.report.metrics == ("macro_f1", "auc")
    assert RunConfig.from_dict(REQUIRED).report.metrics == METRICS
    with pytest.raises(ConfigError, match=r"report\.metrics.*'balanced_accuracy'.*found 'f1'"):
        RunConfig.from_dict(REQUIRED, ['report.metrics=["f1"]'])
    with pytest.raises(ConfigError, match=r"report\.resamples"):
        RunConfig.from_dict(REQUIRED, ["report.resamples=-1"])
