import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from glorasearch.errors import WeightStoreError
from glorasearch.weights import tensor_digest

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)


@given(shape=st.lists(st.integers(0, 4), max_size=3), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 1000))
def test_depends_on_content_only(shape, dtype, seed):
    x = torch.randint(0, 2, (*shape, 1), generator=torch.Generator().manual_seed(seed)).to(dtype)[..., 0]
    y = x.clone(memory_format=torch.contiguous_format)
    other_layout = y.t().contiguous().t() if y.ndim == 2 else y
    assert tensor_digest({"a": x, "b": y}) == tensor_digest({"b": other_layout, "a": y})


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0.0, 0.0, -0.0])},
        {"a": torch.zeros(4), "b": torch.zeros(0)},
        {},
    ],
)
def test_every_aspect_counts(other):
    assert tensor_digest({"a": torch.zeros(4)}) != tensor_digest(other)


def test_the_digest_of_a_modules_state_covers_its_buffers():
    torch.manual_seed(0)
    one, two = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert tensor_digest(one.state_dict()) == tensor_digest(two.state_dict())
    two.running_mean += 1
    assert tensor_digest(one.state_dict()) != tensor_digest(two.state_dict())


def test_tensors_without_data_are_named():
    with pytest.raises(WeightStoreError, match="'a' is on the meta device"):
        tensor_digest({"a": torch.zeros(3, device="meta")})
    with pytest.raises(WeightStoreError, match="'a' is of layout"):
        tensor_digest({"a": torch.zeros(3).to_sparse()})
