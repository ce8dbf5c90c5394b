import copy
import pickle

import pytest
import torch
from torch import nn

from sparsact.inference import SparseLinear
from sparsact.inference.dense_crossing import Crossings, use_crossings
from sparsact.inference.shared_readers import Readers


@pytest.fixture(autouse=True)
def _unmeasured():
    class Fixed(Crossings):
        def inputs_at_most(self, *_):
            return 0

    with use_crossings(Fixed()):
        yield


class Counted:
    """Three layers that share, and how often they compute."""

    def __init__(self, monkeypatch):
        sources = [nn.Linear(6, width) for width in (3, 4, 5)]
        self.sources = [source.requires_grad_(False) for source in sources]
        self.layers = [SparseLinear(source, 0.0) for source in sources]
        SparseLinear.share(self.layers)
        self.computed = 0
        product = Readers.product

        def counting(readers, x, inputs_at_most):
            self.computed += 1
            return product(readers, x, inputs_at_most)

        for layer in self.layers:  # the measuring at the first call does not count
            layer(torch.randn(2, 6))
        monkeypatch.setattr(Readers, "product", counting)

    def check(self, place, x):
        y = self.layers[place](x)
        torch.testing.assert_close(y, self.sources[place](x))
        return y


@pytest.fixture
def three(monkeypatch):
    return Counted(monkeypatch)


def test_the_first_reader_computes_for_all(three):
    for _ in range(3):
        x = torch.randn(2, 6)
        for place in range(3):
            three.check(place, x)
    assert three.computed == 3
    assert three.layers[0]._readers._held is None  # nothing is kept alive


def test_views_of_the_whole_tensor_count_as_the_tensor(three):
    x = torch.randn(2, 6)
    for place in range(3):
        three.check(place, x.view(2, 6))
    assert three.computed == 1
    three.check(0, x)
    three.check(1, x.view(3, 4)[:2].as_strided((2, 6), (1, 2)))  # same memory, other entries
    assert three.computed == 3


def test_another_tensor_is_computed_again(three):
    x, other = torch.randn(2, 6), torch.randn(2, 6)
    three.check(0, x)
    three.check(1, other)
    three.check(2, x)
    assert three.computed == 3


def test_any_order_and_some_alone(three):
    x = torch.randn(2, 6)
    for place in (2, 0, 1):
        three.check(place, x)
    for _ in range(2):
        three.check(1, x)
    assert three.computed == 3


def test_an_input_that_was_changed_in_place(three):
    x = torch.randn(2, 6)
    three.check(0, x)
    x.mul_(2)
    three.check(1, x)
    assert three.computed == 2


def test_outputs_belong_to_the_caller(three):
    x = torch.randn(2, 6)
    three.check(0, x).zero_()
    three.check(0, x)
    three.check(1, x)


def test_an_input_buffer_that_is_refilled_in_inference_mode(three):
    with torch.inference_mode():
        x = torch.randn(2, 6)
        three.check(0, x)
        three.check(1, x)  # the third is not called this time
        x.mul_(2)
        for place in range(3):
            three.check(place, x)


def test_copies_share_among_themselves(three):
    x = torch.randn(2, 6)
    three.layers[0](x)  # and the others are still to come
    copied = copy.deepcopy(three.layers)
    assert copied[0]._readers is copied[1]._readers is not three.layers[0]._readers
    assert copied[0]._readers._held is None
    for place, layer in enumerate(pickle.loads(pickle.dumps(copied))):
        torch.testing.assert_close(layer(x), three.sources[place](x))
