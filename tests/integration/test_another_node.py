"""A driver is killed, and goes on at another node: all that they share is PostgreSQL, S3 and the Ray cluster.

The other node is this machine under another host name (a UTS namespace of its own, which needs Linux and root), with a
workspace of its own: nothing tells it that the first driver is dead but its silence.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ray.cluster_utils import Cluster

Bench = Any
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
SHORT = ("train.steps=12", "refit.steps=10", "report.baselines=[]", "search.trials=160", "search.early_stopping_lag=16")
ELSEWHERE = ["unshare", "--uts", "sh", "-c", 'hostname another-node && exec "$@"', "sh"]


def may_change_the_host_name() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*ELSEWHERE, "true"], check=False).returncode == 0


@pytest.fixture
def cluster(s3: Any) -> Iterator[Cluster]:
    """Two nodes that know the S3 service."""
    started = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        started.add_node(**NODE)
        yield started
    finally:
        started.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not may_change_the_host_name(), reason="needs a host name of its own")
def test_a_driver_that_is_killed_goes_on_at_another_node(
    make_bench: Callable[..., Bench], cluster: Cluster, s3_bucket: str, postgresql_url: str
) -> None:
    alone = make_bench(*SHORT)
    alone.finish()
    first, second = (make_bench(*SHORT, server_url=postgresql_url) for _ in range(2))
    where = ("--store", f"s3://{s3_bucket}/runs", "--executor", "ray", "--workers", "2", "--address", cluster.address)

    code = first.stop_when(lambda: first.trials() >= 20, first.start("run", *where))
    assert code == -signal.SIGKILL
    assert 20 <= first.trials() < 160

    command = [*ELSEWHERE, sys.executable, "-m", "glorasearch", *second.arguments("run", *where)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert "watching for 30 s whether it is alive" in done.stderr
    assert "taken over from" in done.stderr
    assert "search: resumes at trial" in done.stderr
    assert "supernet:" not in done.stderr, "the weights are in the store"
    assert second.findings == alone.findings
    assert second.trials() == 160
    assert second.count("select count(*) from glorasearch_trials") == 160
    assert second.exported == alone.exported
