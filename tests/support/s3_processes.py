"""Run as a script: processes at a weight store on S3, found by the usual environment variables.

    python -m support.s3_processes put URL BYTES             put a weight set of that size
    python -m support.s3_processes read URL DIGEST           four processes read a weight set at once
    python -m support.s3_processes cache URL DIGEST FOLDER   four processes map it through one node cache

Of the readers each one's sum of the tensor is printed, as a JSON list.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from glorasearch.weights import NodeCache, WeightStore


def put(url: str, size: str) -> None:
    print(WeightStore(url).put({"w": torch.arange(int(size) // 4, dtype=torch.float32)}, {}), flush=True)


def four(read: Callable[[], dict[str, torch.Tensor]]) -> None:
    pipe = os.pipe()
    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            os.write(pipe[1], f"{read()['w'].double().sum().item()}\n".encode())
            os._exit(0)
    os.close(pipe[1])
    with os.fdopen(pipe[0]) as lines:
        print(json.dumps([float(line) for line in lines]))
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)


if __name__ == "__main__":
    what, url, *more = sys.argv[1:]
    if what == "put":
        put(url, more[0])
    elif what == "read":
        four(lambda: WeightStore(url).get(more[0]).tensors)
    else:
        four(lambda: NodeCache(Path(more[1])).get(WeightStore(url), more[0]).tensors)
