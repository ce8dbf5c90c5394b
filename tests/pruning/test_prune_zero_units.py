"""Zero units are removed, and the outputs do not change."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sparsact as sa
from sparsact.optim import Proximal

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(5))
IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(6))


def zero(tensor, index=slice(None)):
    with torch.no_grad():
        tensor[index] = 0


def check(model, example, unseen, removed, kept=()):
    """Prune, and compare the outputs on data that pruning has not seen."""
    model.eval()
    before, size = model(unseen), sum(p.numel() for p in model.parameters())
    report = sa.prune_zero_units(model, example)
    torch.testing.assert_close(model(unseen), before, rtol=1e-5, atol=1e-5)
    assert report.removed == removed
    assert set(report.kept) == set(kept)
    assert report.parameters_before == size
    assert report.parameters_after == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter:
        model(example)
    assert report.flops_after == counter.get_total_flops()
    return report


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.PReLU, lambda: nn.PReLU(8)])
@pytest.mark.parametrize("bias", [True, False])
def test_mlp(activation, bias):
    model = nn.Sequential(
        nn.Linear(4, 8), activation(), nn.Linear(8, 6, bias=bias), nn.Tanh(), nn.Linear(6, 2)
    )
    zero(model[0].weight, [1, 4, 5])
    zero(model[2].weight, 2)
    report = check(model, X, 3 * X.flip(1), {"0": 3, "2": 1})
    assert [tuple(model[k].weight.shape) for k in (0, 2, 4)] == [(5, 4), (5, 5), (2, 5)]
    assert report.flops_before == 2 * 5 * (4 * 8 + 8 * 6 + 6 * 2)
    assert report.flops_after == 2 * 5 * (4 * 5 + 5 * 5 + 5 * 2)


def test_an_unread_unit():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    zero(model[2].weight, (slice(None), [0, 7]))
    check(model, X, 2 * X, {"0": 2})


def test_a_unit_that_becomes_zero_by_a_removal():
    """Row 3 of the second layer reads only a removed unit: then it is zero too."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    zero(model[0].weight, 0)
    zero(model[2].weight, (3, slice(1, None)))
    check(model, X, 2 * X, {"0": 1, "2": 1})


class Cnn(nn.Module):
    def __init__(self, padding=0):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, padding=padding, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * (2 if padding == 0 else 3) ** 2, 3)
        for norm in (self.norm, self.norm2):
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = nn.functional.max_pool2d(torch.relu(self.norm2(self.second(x))), 2)
        return self.head(torch.flatten(x, 1))


def test_convolutions_with_batch_norm():
    model = Cnn()
    zero(model.first.weight, [0, 3])
    zero(model.second.weight, 5)
    check(model, IMAGES, -2 * IMAGES, {"first": 2, "second": 1})
    assert model.norm.num_features == model.norm.running_mean.numel() == 6
    assert model.head.in_features == 5 * 4
    assert model.second.bias is not None  # it contains the constants
    model.train()(IMAGES).sum().backward()


def test_zero_padding_keeps_a_constant_that_is_not_zero():
    model = Cnn(padding=1)
    with torch.no_grad():
        model.norm.bias[[0, 3]] = torch.tensor([20.0, -20.0])  # after the ReLU: not 0, and 0
    zero(model.first.weight, [0, 3])
    report = check(model, IMAGES, -2 * IMAGES, {"first": 1}, kept=["first"])
    assert "pads with zeros" in report.kept["first"]
    model = Cnn(padding=1)
    model.second.padding_mode = "circular"
    model.second._reversed_padding_repeated_twice = [1, 1, 1, 1]
    zero(model.first.weight, [0, 3])
    check(model, IMAGES, -2 * IMAGES, {"first": 2})


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.norms = nn.ModuleList(nn.BatchNorm1d(8) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(8, 16) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(16, 8) for _ in range(2))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            x = x + down(torch.relu(up(norm(x))))
        return self.head(x)


def test_residual_units_are_removed_only_together():
    model = Residual()
    model(X)
    zero(model.stem.weight, [0, 1, 2])
    zero(model.down[0].weight, [0, 1])
    zero(model.down[1].weight, [1, 2])
    zero(model.up[1].weight, [4, 5])
    check(model, X, 2 * X, {"stem": 1, "down.0": 1, "down.1": 1, "up.1": 2})
    assert model.stem.out_features == model.head.in_features == 7
    assert model.up[0].in_features == 7


class InputResidual(nn.Module):
    def __init__(self, norm=None):
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2)
        self.norm = norm or nn.Identity()

    def forward(self, x):
        return self.head(x + self.outer(self.norm(torch.relu(self.inner(x)))))


def test_units_added_to_the_input_are_kept():
    model = InputResidual()
    zero(model.outer.weight, 0)
    zero(model.outer.bias, 0)
    zero(model.head.weight, (slice(None), 1))
    zero(model.inner.weight, 0)
    report = check(model, X, 2 * X, {"inner": 1}, kept=["outer"])
    assert "cannot be made smaller" in report.kept["outer"]


def test_units_read_by_a_layer_norm_are_kept():
    model = InputResidual(nn.LayerNorm(6))
    zero(model.inner.weight, 0)
    report = check(model, X, 2 * X, {}, kept=["inner"])
    assert "LayerNorm" in report.kept["inner"]


def test_outputs_and_shared_weights_are_kept():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    zero(model[2].weight, 1)
    report = check(model, X, 2 * X, {}, kept=["2"])
    assert "outputs" in report.kept["2"]
    model[2].weight = model[0].weight
    zero(model[0].weight, 1)
    report = check(model, X, 2 * X, {}, kept=["0", "2"])
    assert "shares" in report.kept["0"]


def test_a_layer_keeps_at_least_one_unit():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    zero(model[0].weight)
    check(model, X, 2 * X, {"0": 7}, kept=["0"])


class Softmaxed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.second(torch.softmax(self.first(x), -1))


def test_units_mixed_outside_the_layers_are_kept():
    model = Softmaxed()
    zero(model.second.weight, (slice(None), 0))
    report = check(model, X, 2 * X, {}, kept=["first"])
    assert "_softmax in the model" in report.kept["first"]


def test_keywords_containers_frozen_parameters_modes_and_hooks():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU())
            self.head = nn.Linear(8, 2)

        def forward(self, x, *, ids):
            hidden = self.body(x)
            return {"logits": self.head(hidden), "ids": ids}

    model = Model()
    zero(model.body[0].weight, [1, 2])
    model.body[0].weight.requires_grad_(False)
    head = model.head.bias
    penalty = sa.ActivationPenalty(model, {nn.ReLU: sa.L1(0.1)})
    inputs = {"x": X, "ids": torch.arange(5)}
    with torch.no_grad():
        report = sa.prune_zero_units(model, inputs)
    assert report.removed == {"body.0": 2}
    assert model.training
    assert model.body[1].training
    assert not model.body[0].weight.requires_grad
    assert model.head.weight.requires_grad
    assert model.head.bias is head
    with pytest.raises(RuntimeError, match="call the model first"):
        penalty()
    model(**inputs)["logits"].sum().backward()
    assert penalty().item() > 0


def test_after_group_lasso_on_units():
    """Training gives exact zeros by the prox; pruning then removes these units."""
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    spec = {"0.weight": sa.GroupLasso(0.02, dim=1)}
    optimizer = Proximal(torch.optim.SGD(model.parameters(), lr=0.1), model, spec)
    x = torch.randn(64, 4)
    for _ in range(200):
        optimizer.zero_grad()
        (model(x) - x[:, :2].abs()).square().mean().backward()
        optimizer.step()
    dead = int((model[0].weight == 0).all(1).sum())
    assert 0 < dead < 32
    check(model, x[:3], x, {"0": dead})


def test_thresholds_per_channel_are_sliced():
    threshold = sa.nn.Softshrink(torch.rand(8), num_parameters=8, channel_dim=-1)
    model = nn.Sequential(nn.Linear(4, 8), threshold, nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    zero(model[0].weight, [1, 4, 5])
    zero(model[2].weight, [2])
    check(model, X, 2 * X, {"0": 3, "2": 1})
    assert threshold.num_parameters == threshold.lambd.numel() == 5


def test_a_threshold_of_groups_is_kept():
    grouped = sa.nn.GroupSoftshrink(0.1, group_size=4)
    model = nn.Sequential(nn.Linear(4, 8), grouped, nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    zero(model[0].weight, [1, 4, 5])
    zero(model[2].weight, [2])
    report = check(model, X, 2 * X, {"2": 1}, kept=["0"])
    assert "GroupSoftshrink" in report.kept["0"]


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.b(input=self.a(input=x).relu())


def test_layers_called_by_keyword():
    model = ByKeyword()
    zero(model.a.weight, [1, 4])
    check(model, X, 2 * X, {"a": 2})


def test_a_parametrized_weight_is_kept():
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 8))
    model = nn.Sequential(normed, nn.ReLU(), nn.Linear(8, 2))
    zero(normed.parametrizations.weight.original0, [1, 4])
    check(model, X, 2 * X, {}, kept=["0"])


class Summed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.first, self.second, self.dim = nn.Linear(4, 8), nn.Linear(8, 3), dim

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return self.second(hidden + hidden.sum(self.dim, keepdim=True))


@pytest.mark.parametrize("dim", [0, 1])
def test_a_constant_in_a_sum_over_any_number_is_kept(dim):
    model = Summed(dim)
    zero(model.first.weight, [0, 3])
    with torch.no_grad():
        model.first.bias[[0, 3]] = torch.tensor([0.5, -0.5])  # after the ReLU: not 0, and 0
    example = torch.randn(1, 5, 4)
    report = check(model, example, torch.randn(7, 20, 4), {"first": 1}, kept=["first"])
    assert "sum in the model" in report.kept["first"]


class Gated(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.up, self.gate = nn.Linear(4, 8), nn.Linear(4, 8)
        self.fused, self.down = nn.Linear(4, 16), nn.Linear(8, 3)
        self.way = way

    def forward(self, x):
        if self.way == "two":
            return self.down(self.up(x) * nn.functional.silu(self.gate(x)))
        if self.way == "glu":
            return self.down(nn.functional.glu(self.fused(x)))
        both = self.fused(x)
        up, gate = both.chunk(2, -1) if self.way == "chunk" else (both[..., :8], both[..., 8:])
        return self.down(up * nn.functional.silu(gate))


@pytest.mark.parametrize("way", ["two", "glu", "chunk", "slice"])
def test_zero_times_a_gate_is_zero(way):
    model = Gated(way)
    layer = model.up if way == "two" else model.fused
    zero(layer.weight, [1, 5])
    zero(layer.bias, [1, 5])
    removed = {"two": {"up": 2, "gate": 2}, "slice": {}}.get(way, {"fused": 4})
    report = check(model, X, torch.randn(3, 7, 4), removed, kept=["fused"] if not removed else ())
    if not removed:
        assert "fixed size" in report.kept["fused"]
        assert model.fused.out_features == 16


def test_a_batch_norm_with_a_scale_of_zero():
    model = Cnn()
    zero(model.norm.weight, [0, 3])
    check(model, IMAGES, -2 * IMAGES, {"first": 2})


def test_depthwise_and_grouped_convolutions():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(8, 3, 1),
    )
    zero(model[0].weight, [0, 1, 2, 3])
    zero(model[0].bias, [0, 1, 2, 3])
    zero(model[2].bias, [0, 1, 2, 3])
    zero(model[6].weight, (slice(None), slice(4)))
    check(model, IMAGES, torch.randn(2, 1, 11, 9), {"0": 4, "2": 4, "4": 4})
    assert (model[2].groups, model[4].groups) == (4, 1)


class Attention(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.heads = heads

    def forward(self, x, mask=None):
        split = (*x.shape[:2], self.heads, 4)
        q, k, v = (each(x).view(split).transpose(1, 2) for each in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, mask)
        return self.o(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("heads", [-1, 2])
@pytest.mark.parametrize("part", ["v", "o"])
def test_attention_heads(heads, part):
    model = Attention(heads).eval()
    rows = slice(4) if part == "v" else (slice(None), slice(4))
    zero(getattr(model, part).weight, rows)
    zero(model.v.bias, slice(4))
    x, mask = torch.randn(3, 7, 8), torch.ones(7, 7, dtype=torch.bool).tril()
    before = model(x, mask)
    report = sa.prune_zero_units(model, torch.randn(2, 5, 8))
    torch.testing.assert_close(model(x, mask), before, rtol=1e-5, atol=1e-5)
    assert report.removed == ({"q": 4, "k": 4, "v": 4} if heads == -1 else {})
    if heads == 2:
        assert "fixed size" in report.kept["v"]


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        hidden = self.a(x)
        if hidden.sum() > 0:
            hidden = hidden + 1
        return self.b(hidden)


def test_a_forward_that_reads_values_is_kept():
    model = Branching()
    zero(model.a.weight, 0)
    zero(model.a.bias, 0)
    report = check(model, X, 2 * X, {}, kept=["a"])
    assert "reads the value of a tensor" in report.kept["a"]


@pytest.mark.parametrize("channels", [4, 3])
def test_a_transposed_convolution_reads_its_inputs_in_dim_0(channels):
    """Its weight is (in, out, …): the dims were taken for each other."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, channels, 2), nn.Conv2d(channels, 2, 1)
    ).eval()
    with torch.no_grad():
        for rows in (model[0].weight, model[0].bias):
            rows[1] = 0
        model[2].weight[2, 0] = 0
    x = torch.randn(2, 2, 6, 6)
    expected = model(x)
    sa.prune_zero_units(model, x)
    assert model[2].in_channels == 3
    torch.testing.assert_close(model(x), expected)
