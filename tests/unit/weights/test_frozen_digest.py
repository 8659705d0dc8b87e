"""The digest of frozen weights: computed once, and again when the weights are others."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import Tensor

from glorasearch.weights import frozen_digest, tensor_digest


class Model:
    """Two frozen tensors, detached at every call as a supernet's are."""

    def __init__(self) -> None:
        self.weights = {"w": torch.arange(6.0), "b": torch.zeros(2)}

    def frozen_state(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.weights.items()}


def test_it_is_the_digest_of_the_frozen_state() -> None:
    model = Model()
    assert frozen_digest(model) == tensor_digest(model.frozen_state()) == frozen_digest(model)


def test_a_change_in_place_is_seen() -> None:
    model = Model()
    before = frozen_digest(model)
    model.weights["w"][3] = 7
    assert frozen_digest(model) == tensor_digest(model.frozen_state()) != before


def test_other_tensors_are_seen() -> None:
    model = Model()
    before = frozen_digest(model)
    model.weights["b"] = torch.ones(2)
    assert frozen_digest(model) == tensor_digest(model.frozen_state()) != before


def test_it_keeps_no_model_alive() -> None:
    model = Model()
    frozen_digest(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
