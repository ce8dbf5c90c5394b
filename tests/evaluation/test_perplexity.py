import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from sparsact.evaluation.perplexity import perplexity, perplexity_ratio, window_losses
from tiny_language import llama


def test_losses_equal_those_of_the_model():
    model, windows = llama().requires_grad_(False), torch.randint(18, (3, 20))
    actual = window_losses(model, windows)
    for window, loss in zip(windows.split(1), actual, strict=True):
        expected = model(input_ids=window, labels=window).loss
        assert math.isclose(float(loss), float(expected), rel_tol=1e-5)
    together = model(input_ids=windows).logits[:, :-1].flatten(0, 1)
    pooled = cross_entropy(together, windows[:, 1:].flatten()).exp()
    assert perplexity(actual).value == pytest.approx(float(pooled), rel=1e-5)


def test_the_standard_error_matches_many_draws_of_windows():
    generator = torch.Generator().manual_seed(0)
    draws = 3 + 0.2 * torch.randn(4000, 50, generator=generator, dtype=torch.float64)
    values = torch.tensor([perplexity(draw).value for draw in draws])
    errors = torch.tensor([perplexity(draw).error for draw in draws])
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.05)


def test_hard_windows_do_not_widen_the_error_of_a_ratio():
    dense = torch.tensor([1.0, 5.0, 2.0, 9.0], dtype=torch.float64)
    ratio = perplexity_ratio(dense + math.log(1.25), dense)
    assert ratio.value == pytest.approx(1.25)
    assert ratio.error == pytest.approx(0, abs=1e-12)
    assert perplexity(dense[:1]).error is None


def test_each_window_is_a_step_and_the_model_stays_unchanged():
    model, steps = llama().train(), []
    window_losses(model, torch.randint(18, (4, 8)), lambda: steps.append(1))
    assert len(steps) == 4
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
