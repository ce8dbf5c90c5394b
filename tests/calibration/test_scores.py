import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import calibrate, find_sites
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.linear_layers import weight_t
from sparsact.calibration.model_forward import unchanged
from sparsact.calibration.score_histogram import score_histograms
from sparsact.calibration.scores import SCORES
from sparsact.calibration.scores.loss_score import drawn_label_loss, loss_scales
from sparsact.calibration.scores.magnitude_score import magnitude_scales
from sparsact.calibration.scores.weight_score import weight_scales


def summed_square(output, batch):
    return output.square().sum()


def scales_of(model, batches, loss_fn=summed_square, keep_first=0):
    sites = find_sites(model, batches[0])
    with unchanged(model):
        return loss_scales(CalibrationRun(model, batches, sites, keep_first, loss_fn))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_weight_is_the_norm_of_the_columns(kind):
    model = getattr(tiny_models, kind)()
    sites = find_sites(model, torch.zeros(1, 3, dtype=torch.long))
    run = CalibrationRun(model, [], sites)
    actual = weight_scales(run)
    for site in sites:
        layers = [model.get_submodule(name) for name in site.readers]
        total = sum(weight_t(layer).double().square().sum(1) for layer in layers)
        torch.testing.assert_close(actual[site.name].double(), total.sqrt())
    assert all((scale == 1).all() for scale in magnitude_scales(run).values())


def test_loss_is_the_mean_size_of_the_gradient():
    first, second = nn.Linear(5, 7), nn.Linear(7, 3)
    model, x = nn.Sequential(first, nn.Tanh(), second), torch.randn(9, 5)
    actual = scales_of(model, [x[:4], x[4:]])

    def through(x):
        return model(x).square().sum()

    hidden = torch.tanh(first(x)).detach()
    by_input = torch.autograd.functional.jacobian(through, x)
    by_hidden = torch.autograd.functional.jacobian(lambda h: second(h).square().sum(), hidden)
    torch.testing.assert_close(actual["0"], by_input.abs().mean(0) / 7**0.5)
    torch.testing.assert_close(actual["2"], by_hidden.abs().mean(0) / 3**0.5)


class Readers(nn.Module):
    """Two layers that read one tensor, as such or through views."""

    def __init__(self, view):
        super().__init__()
        self.first, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)
        self.view = view

    def forward(self, x):
        h = self.first(x)
        a, b = (
            (self.a(h.view(-1, 6)), self.b(h.view(-1, 6))) if self.view else (self.a(h), self.b(h))
        )
        return torch.cat([a, b], -1)


@pytest.mark.parametrize("view", [False, True])
def test_gradients_of_all_readers_are_added(view):
    model, x = Readers(view), torch.randn(8, 4)
    hidden = model.first(x).detach().requires_grad_()
    torch.cat([model.a(hidden), model.b(hidden)], -1).square().sum().backward()
    actual = scales_of(model, [x])
    assert list(actual) == ["first", "a"]
    torch.testing.assert_close(actual["a"], hidden.grad.abs().mean(0) / 5**0.5)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = torch.tanh(x)
        x += self.first(x)
        x *= torch.sigmoid(self.second(x))
        return x


def test_inputs_that_are_changed_in_place_afterwards():
    model, x = InPlace(), torch.randn(8, 4)
    start = torch.tanh(x)
    read = start.clone().requires_grad_()  # what `first` reads, and no one else
    middle = start + model.first(read)
    (middle * torch.sigmoid(model.second(middle))).square().sum().backward()
    actual = scales_of(model, [x])
    torch.testing.assert_close(actual["first"], read.grad.abs().mean(0) / 4**0.5)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, attention_mask=None):
        return self.layer(self.layer(x))


def test_a_layer_called_twice_counts_both_and_no_padding():
    model, x = Twice(), torch.randn(2, 5, 4)
    mask = torch.ones(2, 5, dtype=torch.long)
    mask[0, 3:] = 0

    def loss(output, batch):
        return output[mask.bool()].square().sum()

    rows = x[mask.bool()]
    once = scales_of(model, [rows])["layer"]
    padded = scales_of(model, [{"x": x, "attention_mask": mask}], loss)["layer"]
    torch.testing.assert_close(padded, once)


def test_padding_does_not_count():
    model = tiny_models.llama()
    (padded,) = tiny_models.token_batches(count=1, rows=1)
    start = int((padded["attention_mask"] == 0).sum())
    whole = {"input_ids": padded["input_ids"][:, start:]}
    alone, among = (scales_of(model, [batch], drawn_label_loss) for batch in (whole, padded))
    for name, scale in alone.items():
        torch.testing.assert_close(among[name], scale, rtol=2e-3, atol=1e-5)


@pytest.mark.versions
def test_the_first_tokens_do_not_count():
    model, batch = tiny_models.gpt2(), torch.randint(0, tiny_models.VOCABULARY, (3, 8))
    all_of, later = (scales_of(model, [batch], drawn_label_loss, keep) for keep in (0, 1))
    assert any(not torch.allclose(all_of[name], later[name]) for name in all_of)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_callers_tensor_and_model_stay_as_they_were(frozen):
    model, x = tiny_models.mlp().requires_grad_(not frozen), torch.randn(6, 16)
    scales_of(model, [x])
    assert not x.requires_grad
    assert x.grad is None
    leaf = torch.randn(6, 16, requires_grad=True)
    scales_of(model, [leaf])
    assert leaf.requires_grad
    assert leaf.grad is None
    assert all(p.requires_grad == (not frozen) and p.grad is None for p in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_batches_of_every_kind():
    model, x = Twice(), torch.randn(3, 4)
    expected = scales_of(model, [x])["layer"]
    for batch in ({"x": x}, (x,), [x, None]):
        assert torch.equal(scales_of(model, [batch])["layer"], expected)


def test_bfloat16():
    model, x = tiny_models.mlp(), torch.randn(64, 16)
    expected = scales_of(model, [x])
    for name, scale in scales_of(model.bfloat16(), [x.bfloat16()]).items():
        torch.testing.assert_close(
            scale, expected[name], rtol=0.1, atol=0.05 * float(expected[name].max())
        )
        assert scale.dtype == torch.float32


def test_histograms_hold_scores_before_the_sites_own_zeros():
    model, x = tiny_models.mlp(), torch.randn(40, 16)
    sites = find_sites(model, x)
    scales = {site.name: torch.rand(site.inputs) for site in sites}
    thresholds = {site.name: torch.full((site.inputs,), 1e9) for site in sites}
    run = CalibrationRun(model, [x], sites)
    dense = score_histograms(run, scales)
    sparse = score_histograms(run, scales, thresholds)
    assert torch.equal(dense["0"].counts, sparse["0"].counts)
    assert not torch.equal(dense["2"].counts, sparse["2"].counts)
    assert sparse["2"].counts.sum() == 40 * 48


@pytest.mark.parametrize("score", SCORES)
def test_activations_that_are_not_finite_are_named(score):
    model, x = tiny_models.mlp(), torch.randn(3, 8, 16)
    model[0].bias.data[3] = float("nan")
    with pytest.raises(ValueError, match="infinite at 2, in batch 0"):
        calibrate(model, list(x), score=score, loss_fn=summed_square)
    model = tiny_models.mlp()
    model[0].weight.data[:, 2] = 0  # a score of inf · 0
    x[1, 0, 2] = float("inf")
    with pytest.raises(ValueError, match="infinite at 0, in batch 1"):
        calibrate(model, list(x), score=score, loss_fn=summed_square)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_weight_that_is_not_finite_is_named():
    model = tiny_models.mlp()
    model[2].weight.data[1, 1] = float("nan")
    with pytest.raises(ValueError, match=r"weights are NaN or infinite at 2$"):
        calibrate(model, [torch.randn(4, 16)], score="weight")


def test_losses_without_a_useful_gradient():
    model, x = tiny_models.mlp(), torch.randn(4, 16)
    with pytest.raises(ValueError, match="no logits: give loss_fn="):
        calibrate(model, [x])
    with pytest.raises(ValueError, match="no gradient at any site"):
        calibrate(model, [x], loss_fn=lambda output, batch: 0 * output.sum())
    with pytest.raises(ValueError, match="gradient is NaN or infinite at 0"):
        calibrate(model, [x], loss_fn=lambda output, batch: float("nan") * output.sum())


def test_inside_inference_mode():
    model = tiny_models.llama()
    with torch.inference_mode():
        batch = torch.randint(0, tiny_models.VOCABULARY, (2, 9))
        plan = calibrate(model, [batch], 0.5)
    assert plan.achieved_sparsity == pytest.approx(0.5, abs=0.01)
