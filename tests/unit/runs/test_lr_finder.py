"""The learning rate of a supernet from Python, on the quickstart's backbone."""

from __future__ import annotations

import pytest
import torch

import glorasearch as gs
from glorasearch.errors import ConfigError, DataError, RunError

RATES = (1e-6, 1e-2, 1e3)


@pytest.fixture(scope="module")
def data() -> gs.Splits:
    return gs.load_data("digits", "quickstart", train=100, search=50, test=50)


def test_the_sane_one_of_three_rates_is_found_and_the_supernet_stays_as_it_was(data: gs.Splits) -> None:
    supernet = gs.create_supernet("quickstart", "lean", data.classes)
    before = {name: value.clone() for name, value in supernet.adapter_state().items()}
    options = {"pilot_rates": RATES, "pilot_steps": 24, "batch_size": 16, "device": "cpu"}

    found = gs.find_lr(supernet, data, **options)

    assert found.lr == 1e-2
    assert [pilot.rate for pilot in found.pilots] == list(RATES)
    low, good, high = found.pilots
    assert (good.steps, good.checks, good.stopped, good.diverged) == (24, (8, 16, 24), False, False)
    assert low.score is None or low.score > found.pilots[1].scores[-1]
    assert high.diverged
    assert found.steps == low.steps + good.steps + high.steps
    for name, value in supernet.adapter_state().items():
        assert torch.equal(value, before[name]), name
    again = gs.find_lr(supernet, data, **options)
    assert [pilot.scores for pilot in again.pilots] == [pilot.scores for pilot in found.pilots]


def test_what_cannot_be_used_is_refused(data: gs.Splits) -> None:
    supernet = gs.create_supernet("quickstart", "ssf", data.classes)
    with pytest.raises(DataError, match="find_lr: expected what load_data returns, got a TrainSplit"):
        gs.find_lr(supernet, data.train)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pilot_rates"):
        gs.find_lr(supernet, data, pilot_rates=(1e-3,))
    with pytest.raises(ConfigError, match="a training needs a number"):
        gs.train_supernet(supernet, data.train, lr="auto")
    with pytest.raises(RunError, match="all pilots diverged, at learning rates 1e\\+20, 1e\\+30"):
        gs.find_lr(supernet, data, pilot_rates=(1e20, 1e30), pilot_steps=6, batch_size=16, device="cpu")
