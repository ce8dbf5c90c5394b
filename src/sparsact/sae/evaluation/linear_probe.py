"""Logistic regression on activations or latents, for probing."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError

ITERATIONS = 100


class LinearProbe(NamedTuple):
    """``logit = x @ weight + bias``.

    Attributes:
        weight: (features,) float64.
        bias: scalar float64.
    """

    weight: Tensor
    bias: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """(n,) bool, for inputs (n, features)."""
        return x.double() @ self.weight + self.bias > 0

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Share of the labels (n,) bool that are predicted."""
        return float((self.predict(x) == labels).double().mean())


def fit_probe(x: Tensor, labels: Tensor, *, strength: float = 1.0) -> LinearProbe:
    """Fit ``Σ softplus(∓logit) + strength/2·‖w‖²``, in which `w` is for standardised features.

    Args:
        x: (n, features).
        labels: (n,) bool, with both values.
        strength: of the L2 penalty; 1 is that of scikit-learn.

    Raises:
        InputError: a ValueError: there is one class only, or NaN.
    """
    if bool(labels.all()) or not bool(labels.any()):
        raise InputError("a probe needs examples of two classes")
    x, labels = x.detach().double(), labels.double()
    if not bool(x.isfinite().all()):
        raise InputError("a probe cannot be fitted to NaN or infinity")
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = scale.where(scale > 0, torch.ones_like(scale))
    standard = (x - mean) / scale
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-8, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = standard @ weight + bias
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        total = entropy + strength / 2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    own = weight.detach() / scale
    return LinearProbe(own, bias.detach() - own @ mean)


def split_of(count: int, seed: int, test_share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Indices to train on and to test on, drawn at random; at least one of each."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    tests = min(max(round(count * test_share), 1), count - 1)
    return order[tests:], order[:tests]
