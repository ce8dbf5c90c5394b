import pytest
import torch
from torch import nn

from tiny_language import llama


@pytest.fixture(scope="session")
def sparse_data():
    """Rows that are sparse sums of 24 directions in 16 dims, off centre and of no unit scale."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=1)
    active = torch.rand(9000, 24, generator=generator) < 0.1
    return 5 * (torch.rand(9000, 24, generator=generator) * active) @ directions + 2


@pytest.fixture
def batches(sparse_data):
    """Batches of 256 without end, in a fixed order; the last 4000 rows stay out."""

    def forever():
        generator = torch.Generator().manual_seed(1)
        while True:
            yield sparse_data[torch.randint(5000, (256,), generator=generator)]

    return forever()


class LayerModel(nn.Module):
    """Two layers; the forward fails after the second one."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 6)
        self.first = nn.Linear(6, 4)
        self.unused = nn.Linear(6, 4)
        self.calls = 0

    def forward(self, input_ids, attention_mask):
        self.calls += 1
        self.first(self.embed(input_ids))
        raise AssertionError("the forward went on after the layer")


@pytest.fixture
def layer_model():
    """The class of a model whose forward must stop at a layer."""
    return LayerModel


@pytest.fixture(scope="module")
def model():
    """A tiny language model, to which autoencoders are attached."""
    return llama()
