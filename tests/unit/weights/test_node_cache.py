import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.processes import run_script

from glorasearch.errors import WeightsCorruptError, WeightsNotFoundError, WeightStoreError
from glorasearch.weights import NodeCache, WeightStore
from glorasearch.weights.encoding import ALIGNMENT, encode, tensor_spans

MIB = 1 << 20


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "w": torch.full((256, 1024), float(value)),  # 1 MiB
        "half": torch.full((32, 2), value, dtype=torch.bfloat16),
        "odd": torch.arange(5),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(value),
        "empty": torch.zeros(0, 3),
    }


def equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and torch.equal(found[name], wanted[name]) for name in wanted
    )


def remote(**sets: float) -> tuple[WeightStore, list[str]]:
    """A store that is on no disk of this machine, with weight sets of these values."""
    store = WeightStore(f"memory://{os.urandom(8).hex()}")
    return store, [store.put(tensors(value), {"name": name}) for name, value in sets.items()]


def mapped_files(tensor: torch.Tensor) -> list[str]:
    """The file whose mapping the memory of a tensor lies in."""
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(text, 16) for text in line.split()[0].split("-"))
        if begin <= first and last <= end and "/" in line:
            found.append(line[line.index("/") :])
    return found


def run_processes(what: str, folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_script("node_cache_processes", what, str(folder)))
    return found


def test_tensors_are_views_of_the_file(tmp_path):
    store, (digest,) = remote(a=3)
    stored = NodeCache(tmp_path).get(store, digest)
    assert equal(stored.tensors, tensors(3))
    assert stored.manifest == store.manifest(digest)
    path = tmp_path / digest / "weights.safetensors"
    for name in ("w", "half"):
        assert mapped_files(stored.tensors[name]) == [str(path)]
        assert stored.tensors[name].data_ptr() % ALIGNMENT == 0
    stored.tensors["w"].zero_()
    assert equal(store.get(digest).tensors, tensors(3))
    assert equal(NodeCache(tmp_path).get(store, digest).tensors, tensors(3))


def test_a_local_store_is_mapped_where_it_lies(tmp_path):
    store = WeightStore(str(tmp_path / "store"))
    digest = store.put(tensors(), {})
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    cache = NodeCache(tmp_path / "cache")
    stored = cache.get(store, digest)
    assert equal(stored.tensors, tensors())
    assert mapped_files(stored.tensors["w"]) == [str(tmp_path / "store" / digest / "weights.safetensors")]
    stored.tensors["w"].zero_()
    assert equal(cache.get(store, digest).tensors, tensors())
    assert before == {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_processes_read_once_and_share_the_pages(tmp_path):
    processes = run_processes("together", tmp_path)
    assert (tmp_path / "reads").read_text() == "read\n"
    kib = 4 * MIB // 1024
    for number, process in enumerate(processes):
        assert process["sum"] == processes[0]["sum"]
        assert process["memory"]["Rss"] >= kib
        assert process["memory"]["Private_Dirty"] == 0
        assert process["memory"]["Pss"] < 1.1 * kib / len(processes) + 16
        assert process["written"] == [float(number)] * 10 + [10.0]


def test_a_process_killed_while_fetching_leaves_nothing_half(tmp_path):
    results = run_processes("killed", tmp_path)
    assert sum(result["killed"] for result in results) >= 8
    for moment, result in enumerate(results, 1):
        assert result["right"], f"touch {moment}"
        assert result["files"] == ["", ".lock", ".verified"], f"touch {moment}"


def test_who_waits_for_a_process_that_dies_fetches_itself(tmp_path):
    first, second = run_processes("orphaned", tmp_path)
    assert os.WTERMSIG(first["status"]) == signal.SIGKILL
    assert second["status"] == 0


def test_an_entry_that_was_altered_is_fetched_again(tmp_path, caplog):
    store, (digest,) = remote(a=1)
    cache = NodeCache(tmp_path)
    cache.get(store, digest)
    path = tmp_path / digest / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert equal(cache.get(store, digest).tensors, tensors(1))
    assert "replacing a damaged entry" in caplog.text
    assert path.read_bytes() == store.read(digest)[1]


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_an_entry_that_lost_something_is_fetched_again(name, how, tmp_path):
    store, (digest,) = remote(a=1)
    cache = NodeCache(tmp_path)
    cache.get(store, digest)
    path = tmp_path / digest / name
    path.unlink() if how == "missing" else path.write_bytes(path.read_bytes()[:100])
    assert equal(cache.get(store, digest).tensors, tensors(1))


def test_damage_in_a_local_store_is_named(tmp_path):
    store = WeightStore(str(tmp_path / "store"))
    digest = store.put(tensors(), {})
    cache = NodeCache(tmp_path / "cache")
    cache.get(store, digest)
    path = tmp_path / "store" / digest / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsCorruptError, match="expected checksum"):
        cache.get(store, digest)
    path.unlink()
    with pytest.raises(WeightsCorruptError, match="missing, though its manifest is there"):
        cache.get(store, digest)


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_weights_that_are_nowhere(kind, tmp_path):
    store = WeightStore(str(tmp_path / "store")) if kind == "local" else remote()[0]
    with pytest.raises(WeightsNotFoundError, match="has no weights"):
        NodeCache(tmp_path / "cache").get(store, "0" * 64)


def test_made_tensors_are_made_once_for_each_key(tmp_path):
    calls: list[str] = []

    def make(name: str, value: float) -> dict[str, torch.Tensor]:
        calls.append(name)
        return tensors(value)

    for _ in range(2):
        assert equal(NodeCache(tmp_path).remember("a", lambda: make("a", 1)), tensors(1))
        found = NodeCache(tmp_path).remember("b", lambda: make("b", 2))
        assert equal(found, tensors(2))
        assert mapped_files(found["w"])
    assert calls == ["a", "b"]


def test_a_failing_maker_leaves_nothing(tmp_path):
    def fail() -> dict[str, torch.Tensor]:
        raise RuntimeError("no backbone")

    with pytest.raises(RuntimeError, match="no backbone"):
        NodeCache(tmp_path).remember("a", fail)
    assert equal(NodeCache(tmp_path).remember("a", tensors), tensors())


def test_the_least_recently_used_goes_but_none_that_is_mapped(tmp_path):
    store, digests = remote(a=1, b=2, c=3, d=4)
    cache = NodeCache(tmp_path, limit_gib=2.5 / 1024)

    def there() -> list[str]:
        return [name for name, digest in zip("abcd", digests, strict=True) if (tmp_path / digest).exists()]

    held = cache.get(store, digests[0])
    cache.get(store, digests[1])
    assert there() == ["a", "b"]
    cache.get(store, digests[2])
    assert there() == ["a", "c"]  # a was used least recently, and is in use
    assert equal(held.tensors, tensors(1))
    del held
    cache.get(store, digests[2])
    cache.get(store, digests[3])
    assert there() == ["c", "d"]
    assert equal(NodeCache(tmp_path, limit_gib=0).get(store, digests[0]).tensors, tensors(1))
    assert there() == ["a"]


def test_a_full_disk_costs_the_sharing_only(tmp_path, caplog):
    store, (digest,) = remote(a=1)
    cache = NodeCache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, hard))
    try:
        found = cache.get(store, digest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert equal(found.tensors, tensors(1))
    assert not mapped_files(found.tensors["w"])
    assert "the weights are not shared" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == [f"{digest}.lock"]
    assert mapped_files(cache.get(store, digest).tensors["w"])


def test_where_the_cache_is(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("GLORASEARCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert NodeCache().folder == tmp_path / "home" / ".cache" / "glorasearch"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert NodeCache().folder == tmp_path / "xdg" / "glorasearch"
    monkeypatch.setenv("GLORASEARCH_CACHE", str(tmp_path / "own"))
    assert NodeCache().folder == tmp_path / "own"
    assert NodeCache(tmp_path / "given").folder == tmp_path / "given"
    (tmp_path / "file").write_text("")
    assert not caplog.text
    monkeypatch.setenv("GLORASEARCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert NodeCache().folder == tmp_path / "tmp" / f"glorasearch-cache-{os.getuid()}"
    assert f"{tmp_path / 'file'}" in caplog.text
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(WeightStoreError, match="give one by GLORASEARCH_CACHE"):
        NodeCache()


def test_the_limit_is_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("GLORASEARCH_CACHE_GIB", "0.5")
    assert NodeCache(tmp_path).limit_bytes == 2**29
    monkeypatch.setenv("GLORASEARCH_CACHE_GIB", "much")
    with pytest.raises(WeightStoreError, match="GLORASEARCH_CACHE_GIB is 'much'"):
        NodeCache(tmp_path)


def test_large_tensors_begin_at_multiples_of_64_bytes():
    content = encode(tensors() | {"a long name, so that the header has another length": torch.ones(1)})
    spans = tensor_spans(content)
    assert spans is not None
    assert all(begin % ALIGNMENT == 0 for begin, end in spans.values() if (end - begin) % ALIGNMENT == 0)
    loaded = safetensors.torch.load(content)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())
