import torch
from torch import nn

from sparsact.hooks import Taps


def test_taps_on_calls_see_input_and_output_together():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    x = torch.randn(2, 3)
    calls = []

    def double(name, x, y):
        calls.append((name, x, y))
        return 2 * y

    dense = model(x)
    with Taps.on_calls({"layer": model[0]}, double):
        assert torch.equal(model(x), 2 * dense)
    ((name, seen, y),) = calls
    assert name == "layer"
    assert seen is x
    assert torch.equal(y, model[0](x))
    assert torch.equal(model(x), dense)


def test_taps_on_inputs_see_positional_and_keyword_inputs():
    class Adder(nn.Module):
        def forward(self, x, *, bias):
            return x + bias

    model, x = Adder(), torch.randn(2)
    calls = []
    with Taps.on_inputs({"adder": model}, lambda *call: calls.append(call)):
        model(x, bias=1)
    model(x, bias=2)
    assert calls == [("adder", (x,), {"bias": 1})]
