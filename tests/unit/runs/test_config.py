"""Run files: strictness, overrides, what makes two of them the same run, and the template of `init`."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from glorasearch.errors import ConfigError
from glorasearch.runs.config import RunConfig
from glorasearch.runs.template import TEMPLATE, render

REQUIRED: dict[str, Any] = {"backbone": {"name": "vit"}, "data": {"source": "digits"}}


def test_the_template_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(render("mine", "vit", "digits", "glora_medium"))

    assert RunConfig.load(path) == RunConfig.from_dict(REQUIRED | {"name": "mine"})


def test_the_template_names_every_key() -> None:
    uncommented = "\n".join(line.removeprefix("# ") for line in TEMPLATE.splitlines()[2:])
    written = tomllib.loads(uncommented.format(**dict.fromkeys(("name", "backbone", "data", "space"), '"x"')))
    for section, field in RunConfig.model_fields.items():
        assert section in written
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert set(written[section]) == set(field.annotation.model_fields), section


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


def test_a_date_is_no_name(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = 2026-07-29\n[backbone]\nname = "vit"\n[data]\nsource = "digits"\n')

    with pytest.raises(ConfigError, match="key 'name'"):
        RunConfig.load(path)


def test_the_digest_is_of_what_decides_the_results(tmp_path: Path) -> None:
    space = tmp_path / "own.toml"
    space.write_text('name = "own"\n[choices]\nB = ["none", "lora:2"]\n')
    own = REQUIRED | {"space": {"name": str(space)}}
    digest = RunConfig.from_dict(own).digest()

    assert (
        RunConfig.from_dict(
            own, ["name=other", "export.path=there", "search.early_stopping=false", "search.early_stopping_lag=2"]
        ).digest()
        == digest
    )
    assert RunConfig.from_dict(own, ["train.steps=7"]).digest() != digest
    space.write_text('name = "renamed"\ndescription = "words"\n[choices]\nB = ["none", "lora:2"]\n')
    assert RunConfig.from_dict(own).digest() == digest
    space.write_text('name = "own"\n[choices]\nB = ["none", "lora:4"]\n')
    assert RunConfig.from_dict(own).digest() != digest


def test_a_run_of_before_is_found_again(tmp_path: Path) -> None:
    """What a configuration had before there were plugins, options, types of layers, rates of spectra and modes."""
    space = tmp_path / "own.toml"
    space.write_text('[choices]\nB = ["none", "lora:2"]\n[[groups]]\nlayers = ["*.qkv"]\nE = ["vector"]\n')
    run_file = RunConfig.from_dict(REQUIRED | {"space": {"name": str(space)}})
    before = run_file.configuration()
    for key in ("spectrum_lr", "ranks"):
        del before["train"][key]
    del before["search"]["mode"]
    for key in ("plugins", "options"):
        del before["spaces"]["space"][key]
    assert before["spaces"]["space"]["layers"].pop("types") == ["linear"]
    content = {key: value for key, value in before.items() if key not in ("name", "compile")}
    left_out = ("early_stopping", "early_stopping_lag", "max_failure_share")
    for section, key in (("export", "path"), *(("search", key) for key in left_out)):
        del content[section][key]

    assert run_file.digest() == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    digest, text = run_file.digest(), space.read_text()
    for addition in ("[options.dash]\nwarmup = 3\n", '[layers]\ntypes = ["conv2d"]\n'):
        space.write_text(addition + text)
        assert run_file.digest() != digest
    for override in ("train.spectrum_lr=0.1", "train.ranks=2", "search.mode=steady"):
        assert RunConfig.from_dict(REQUIRED, [override]).digest() != RunConfig.from_dict(REQUIRED).digest()
