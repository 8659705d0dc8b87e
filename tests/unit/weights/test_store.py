import json
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec.core
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from glorasearch.errors import WeightsCorruptError, WeightsNotFoundError, WeightStoreError
from glorasearch.weights import WeightStore

FIELDS = {"backbone": "b" * 64, "space": "s" * 64, "version": "0.1", "nested": {"steps": 3, "rates": [0.5, 1e-4]}}


def weights() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    base = torch.randn(6, 4, generator=g)
    return {
        "blocks.0.a": base,
        "slice": base[1:3],
        "transposed": base.t(),
        "half": base.bfloat16(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flag": torch.tensor([True, False]),
    }


@pytest.fixture(params=["path", "file", "memory"])
def store(request, tmp_path) -> WeightStore:
    return WeightStore(
        {"path": str(tmp_path / "w"), "file": f"file://{tmp_path}/w", "memory": f"memory://{uuid.uuid4()}/w"}[
            request.param
        ]
    )


def test_put_and_get(store):
    digest = store.put(weights(), FIELDS)
    assert digest in store
    assert store.digests() == [digest]
    stored = store.get(digest)
    assert stored.digest == digest
    assert stored.tensors.keys() == weights().keys()
    for name, tensor in weights().items():
        assert stored.tensors[name].dtype == tensor.dtype
        assert torch.equal(stored.tensors[name], tensor)
        stored.tensors[name].zero_()  # a copy of one's own: nothing of the store is mapped
    store.verify(digest)
    assert stored.manifest == store.manifest(digest)
    assert {key: stored.manifest[key] for key in FIELDS} == FIELDS
    assert stored.manifest["tensors"]["half"]["dtype"] == "bfloat16"
    assert stored.manifest["tensors"]["half"]["shape"] == [6, 4]


def test_put_is_idempotent_and_the_fields_count(store):
    digest = store.put(weights(), FIELDS)
    assert store.put(weights(), FIELDS) == digest
    other = store.put(weights(), FIELDS | {"space": "t"})
    assert other != digest
    assert store.digests() == sorted([digest, other])


def test_the_digest_is_the_same_everywhere(tmp_path):
    elsewhere = WeightStore(f"memory://{uuid.uuid4()}").put(weights(), FIELDS)
    assert WeightStore(str(tmp_path)).put(dict(reversed(weights().items())), FIELDS) == elsewhere


def test_no_weights(store):
    assert "0" * 64 not in store
    assert "../x" not in store
    assert store.digests() == []
    for digest in ("0" * 64, "../../etc", ""):
        with pytest.raises(WeightsNotFoundError, match="it holds 0 weight sets"):
            store.get(digest)


def test_wrong_input(store):
    with pytest.raises(ValueError, match=r"\['tensors'\] are reserved for the store"):
        store.put({}, {"tensors": 1})
    with pytest.raises(ValueError, match="JSON data only"):
        store.put({}, {"loss": float("nan")})
    with pytest.raises(WeightStoreError, match="'m' is on the meta device"):
        store.put({"m": torch.zeros(2, device="meta")}, {})
    assert store.digests() == []


def test_unknown_protocol():
    with pytest.raises(WeightStoreError, match="cannot be opened"):
        WeightStore("nosuch://x")


def test_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightStoreError, match="cannot be written"):
        WeightStore(str(tmp_path / "file" / "store")).put({"a": torch.zeros(1)}, {})


def test_manifest_comes_last_on_an_object_store():
    url = f"memory://{uuid.uuid4()}"
    store = WeightStore(url)
    files, root = fsspec.core.url_to_fs(url)
    digest = store.put(weights(), FIELDS)
    manifest = f"{root}/{digest}/manifest.json"
    text = files.cat_file(manifest)
    files.rm(manifest)  # as after a kill between the two objects
    assert digest not in store
    assert store.digests() == []
    assert store.put(weights(), FIELDS) == digest
    assert files.cat_file(manifest) == text


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_altered_or_missing_byte_is_detected(data, tmp_path):
    store = WeightStore(str(tmp_path / "w"))
    digest = store.put(weights(), FIELDS)
    file = tmp_path / "w" / digest / data.draw(st.sampled_from(["weights.safetensors", "manifest.json"]))
    sound = file.read_bytes()
    position = data.draw(st.integers(0, len(sound) - 1))
    if data.draw(st.booleans()):
        file.write_bytes(sound[:position])
    else:
        bad = bytearray(sound)
        bad[position] ^= data.draw(st.integers(1, 255))
        file.write_bytes(bad)
    try:
        with pytest.raises(WeightsCorruptError, match=re.escape(str(file))):
            store.get(digest)
        with pytest.raises(WeightsCorruptError, match=r"delete .* and put the weights again"):
            store.put(weights(), FIELDS)
    finally:
        file.write_bytes(sound)


def test_an_altered_tensor_is_named_with_both_checksums(tmp_path):
    store = WeightStore(str(tmp_path))
    digest = store.put({"a": torch.zeros(64), "b": torch.zeros(64)}, {})
    file = tmp_path / digest / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    expected = store.manifest(digest)["tensors"]["b"]["sha256"]
    with pytest.raises(WeightsCorruptError, match=rf"tensor 'b': expected checksum {expected}, found [0-9a-f]{{64}}"):
        store.get(digest)


def test_a_truncated_tensor_is_named_with_both_checksums(tmp_path):
    store = WeightStore(str(tmp_path))
    digest = store.put({"a": torch.zeros(64), "b": torch.zeros(64)}, {})
    file = tmp_path / digest / "weights.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    expected = store.manifest(digest)["tensors"]["b"]["sha256"]
    pattern = rf"truncated.*tensor 'b': 246 of 256 bytes are there; expected checksum {expected}, found [0-9a-f]{{64}}"
    with pytest.raises(WeightsCorruptError, match=pattern):
        store.get(digest)


def test_a_missing_file_is_named(tmp_path):
    store = WeightStore(str(tmp_path))
    digest = store.put({"a": torch.zeros(4)}, {})
    (tmp_path / digest / "weights.safetensors").unlink()
    with pytest.raises(WeightsCorruptError, match=r"weights\.safetensors: missing, though its manifest is there"):
        store.get(digest)


def test_a_weight_set_of_another_digest_is_not_accepted(tmp_path):
    store = WeightStore(str(tmp_path))
    one, two = store.put({"a": torch.zeros(4)}, {}), store.put({"a": torch.ones(4)}, {})
    for name in ("weights.safetensors", "manifest.json"):
        (tmp_path / one / name).write_bytes((tmp_path / two / name).read_bytes())
    with pytest.raises(WeightsCorruptError, match=f"expected digest {one}, found {two}"):
        store.get(one)


def test_many_writers_of_the_same_and_of_others(tmp_path):
    def put(n: int) -> str:
        return WeightStore(str(tmp_path)).put({"a": torch.full((1000,), float(n % 3))}, {})

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(put, range(24)))
    store = WeightStore(str(tmp_path))
    assert store.digests() == sorted(set(digests))
    assert len(set(digests)) == 3
    for digest in store.digests():
        store.verify(digest)
    assert sorted(os.listdir(tmp_path)) == store.digests()


def test_killed_writers_leave_nothing_visible(tmp_path, killed_writers):
    seen_partial = 0
    moments = killed_writers("store", tmp_path)
    assert sum(moment["killed"] for moment in moments) >= 5
    for moment in moments:
        root = Path(moment["directory"]) / "store"
        store = WeightStore(str(root))
        digests = store.digests()
        for digest in digests:
            store.verify(digest)
        seen_partial += bool(not digests and root.exists() and any(root.rglob("weights.safetensors")))
        digest = store.put({"w": torch.full(((12 << 20) // 4,), 2.0), "i": torch.arange(5)}, {"run": "r"})
        assert digests in ([], [digest])
        if not digests:
            assert os.listdir(root) == [digest], "what the killed writer left behind is removed"
        assert store.digests() == [digest]
    assert seen_partial >= 2, json.dumps(moments)


def test_a_manifest_of_another_format_is_refused(tmp_path):
    store = WeightStore(str(tmp_path))
    digest = store.put({"a": torch.zeros(4)}, {})
    file = tmp_path / digest / "manifest.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(WeightsCorruptError, match="its format is 2; this version reads format 1"):
        store.get(digest)
