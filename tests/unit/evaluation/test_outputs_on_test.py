"""The one pass over the test split, of which all metrics are made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glorasearch.data import Splits
from glorasearch.errors import DataError
from glorasearch.evaluation import correct_on_test, outputs_on_test
from glorasearch.supernet import Supernet


def test_outputs_are_those_of_the_model_in_the_order_of_the_split(
    splits: Splits, new_supernet: Callable[..., Supernet]
) -> None:
    supernet = new_supernet()
    model = supernet.merged(supernet.space.largest())
    images, labels = splits.test.batch(slice(None))
    with torch.no_grad():
        expected = model.eval()(images)
    found = outputs_on_test(model, splits.test, batch_size=32)
    assert found.logits.shape == (90, expected.shape[1])
    assert found.logits.dtype == torch.float32
    assert torch.allclose(found.logits, expected, atol=1e-5)
    assert torch.equal(found.predicted, found.logits.argmax(1))
    assert torch.equal(found.predicted == labels, correct_on_test(model, splits.test, batch_size=32))


def test_mirrored_outputs_are_means_of_probabilities(splits: Splits, new_supernet: Callable[..., Supernet]) -> None:
    supernet = new_supernet()
    model = supernet.merged(supernet.space.largest())
    images, _ = splits.test.batch(slice(None))
    with torch.no_grad():
        expected = (model.eval()(images).softmax(-1) + model(images.flip(-1)).softmax(-1)) / 2
    found = outputs_on_test(model, splits.test, batch_size=32, mirrored=True)
    assert torch.allclose(found.logits.exp(), expected, atol=1e-5)
    assert torch.equal(found.predicted, expected.argmax(1))
    assert not torch.allclose(found.logits.exp(), outputs_on_test(model, splits.test).logits.softmax(-1), atol=1e-3)


def test_no_other_split_is_measured(splits: Splits, new_supernet: Callable[..., Supernet]) -> None:
    supernet = new_supernet()
    with pytest.raises(DataError, match="measures on the test split only, got a SearchSplit"):
        outputs_on_test(supernet.merged(supernet.space.largest()), splits.search)  # type: ignore[arg-type]
