"""Where a run works: what cannot work is refused before anything starts."""

import socket

import pytest

from glorasearch.errors import InputError, RunError
from glorasearch.runs.resources import ResourceConfig
from workers import cluster


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("workers", 2),
        ("address", "head:6379"),
        ("gpus_per_worker", 0.5),
        ("evaluation_timeout", 3.0),
        ("train_workers", 2),
        ("train_gpus", 1.0),
    ],
)
def test_what_is_for_workers_needs_workers(option: str, value: object) -> None:
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')} is for workers of Ray; add --executor ray"):
        ResourceConfig(**{option: value})
    assert not ResourceConfig(executor="ray", **{option: value}).local


def test_two_workers_unless_told_otherwise() -> None:
    assert ResourceConfig(executor="ray").evaluators == 2
    assert ResourceConfig(executor="ray", workers=5).evaluators == 5


def test_gpus_that_this_machine_does_not_have() -> None:
    wanted = ResourceConfig(executor="ray", workers=3, gpus_per_worker=0.5)
    with pytest.raises(InputError, match=r"--gpus-per-worker 0.5 for 3 processes makes 1.5 GPUs; this machine has 1"):
        wanted.check(gpus=1)
    wanted.check(gpus=2)
    with pytest.raises(InputError, match=r"--train-gpus 1 for 1 process makes 1 GPUs; this machine has none"):
        ResourceConfig(executor="ray", train_gpus=1).check(gpus=0)


def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 0.2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(RunError, match=f"no Ray cluster answers at {address}"):
            ResourceConfig(executor="ray", address=address, gpus_per_worker=8).check(gpus=0)
        with pytest.raises(RunError, match=f"no Ray cluster answers at {address}"):  # a sweep has none
            cluster.connect(workers=1, gpus_per_worker=0, address=address)
        listening.listen()
        ResourceConfig(executor="ray", address=address, gpus_per_worker=8).check(gpus=0)
    ResourceConfig(executor="ray", address="auto").check(gpus=0)
