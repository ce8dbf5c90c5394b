"""The scores against scikit-learn, the baselines, and the test against ReLU."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sparsact._common.errors import InputError
from sparsact.compare.results.baselines import class_baseline, value_baseline
from sparsact.compare.results.multiply_adds import count_multiply_adds
from sparsact.compare.results.scores import SCORES, class_logits, default_class_score, named_score
from sparsact.compare.results.significance import paired_p_values, standard_error

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.randint(3, (50,), generator=GENERATOR)
LOGITS = torch.randn(50, 3, generator=GENERATOR)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def measured(name: str, prediction: Tensor, target: Tensor) -> float:
    measure = SCORES[name].measure
    assert measure is not None
    return measure(prediction, target)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_classes(dtype: torch.dtype) -> None:
    logits = LOGITS.to(dtype)
    shares = logits.double().softmax(1).numpy()
    labels, predicted = LABELS.numpy(), logits.double().argmax(1).numpy()
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "auc": metrics.roc_auc_score(labels, shares, multi_class="ovr"),
        "log_loss": -metrics.log_loss(labels, shares),
    }
    for name, value in expected.items():
        assert measured(name, logits, LABELS) == pytest.approx(value), name


def test_scores_of_two_classes_from_one_logit() -> None:
    labels, logit = (LABELS > 0).long(), LOGITS[:, :1]
    both = torch.cat([torch.zeros_like(logit), logit], 1)
    for name in ("accuracy", "balanced_accuracy", "f1", "auc", "log_loss"):
        assert measured(name, logit, labels) == pytest.approx(measured(name, both, labels))
    predicted = (logit[:, 0] > 0).long()
    assert measured("f1", logit, labels) == pytest.approx(metrics.f1_score(labels, predicted))


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_values(dtype: torch.dtype) -> None:
    prediction, target = LOGITS.to(dtype), LOGITS.flip(0).to(dtype)
    y, p = target.double().numpy(), prediction.double().numpy()
    r2 = metrics.r2_score(y, p, multioutput="variance_weighted")
    tolerance = 0.05 if dtype in DTYPES[2:] else 1e-6
    assert measured("r2", prediction, target) == pytest.approx(r2, abs=tolerance)
    assert measured("mae", prediction, target) == pytest.approx(-metrics.mean_absolute_error(y, p))


def test_a_class_that_is_absent() -> None:
    labels = LABELS.clamp(max=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.balanced_accuracy_score(labels, LOGITS.argmax(1))
    assert measured("balanced_accuracy", LOGITS, labels) == pytest.approx(expected)
    with pytest.raises(InputError, match="every class"):
        measured("auc", LOGITS, labels)


@pytest.mark.parametrize("last", [True, False], ids=["classes last", "classes second"])
def test_classes_on_either_dim(last: bool) -> None:
    logits, labels = torch.randn(4, 5, 6, 3), torch.randint(3, (4, 5, 6))
    labels[0] = -100
    flat, kept = class_logits(logits if last else logits.movedim(-1, 1), labels)
    assert torch.equal(flat, logits[1:].reshape(-1, 3))
    assert torch.equal(kept, labels[1:].reshape(-1))


@pytest.mark.parametrize(
    ("counts", "name"),
    [((50, 50), "accuracy"), ((25, 75), "accuracy"), ((24, 76), "balanced_accuracy")],
)
def test_a_rare_class_is_less_than_half_an_even_share(counts: tuple[int, ...], name: str) -> None:
    labels = torch.repeat_interleave(torch.tensor(counts))
    assert default_class_score(labels) == name


def test_baselines() -> None:
    train = torch.tensor([0, 1, 1, 1, -100])
    test = torch.tensor([0, 1])
    for name, value in [("accuracy", 0.5), ("balanced_accuracy", 0.5), ("auc", 0.5)]:
        baseline = class_baseline(SCORES[name], train, test, test, 2)
        assert baseline is not None
        assert baseline.score == value
    shares = np.tile([0.25, 0.75], (2, 1))
    baseline = class_baseline(SCORES["log_loss"], train, test, test, 2)
    assert baseline is not None
    assert baseline.score == pytest.approx(-metrics.log_loss(test, shares))
    values = torch.tensor([[1.0], [3.0]])
    own = value_baseline(SCORES["mae"], values, values, values + 1)
    assert own is not None
    assert (own.validation_score, own.score) == (-1, pytest.approx(-1))
    assert value_baseline(SCORES["loss"], values, values, values) is None


def test_a_score_that_does_not_suit() -> None:
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        named_score("acuracy", ("accuracy",))
    with pytest.raises(InputError, match="does not suit"):
        named_score("r2", ("accuracy",))


def test_p_values_are_those_of_scipy() -> None:
    base = {0: 0.5, 1: 0.6, 2: 0.55}
    scores = {
        "relu": base,
        "better": {0: 0.7, 1: 0.81, 2: 0.76},
        "noise": {0: 0.52, 1: 0.57, 2: 0.56},
        "short": {0: 0.9},
        "same": dict(base),
        "shifted": {seed: value + 0.25 for seed, value in {0: 0.5, 1: 0.75}.items()},
    }
    raw = [
        stats.ttest_rel(list(scores[name].values()), list(base.values())).pvalue
        for name in ("better", "noise")
    ]
    shifted = stats.ttest_rel([0.75, 1.0], [0.5, 0.6]).pvalue
    expected = stats.false_discovery_control([*raw, 1.0, shifted])
    found = paired_p_values(scores, "relu")
    assert list(found) == ["better", "noise", "same", "shifted"]
    assert list(found.values()) == pytest.approx(list(expected))
    assert paired_p_values(scores, None) == {}
    assert paired_p_values({"relu": {0: 0.5, 1: 0.75}, "a": {0: 0.75, 1: 1.0}}, "relu") == {}
    assert standard_error([1.0, 2.0, 4.0]) == pytest.approx(stats.sem([1.0, 2.0, 4.0]))
    assert standard_error([1.0]) is None


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2)
        self.up = nn.ConvTranspose2d(6, 3, 2)
        self.head = nn.Linear(5, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.up(self.conv(x)).relu())


def test_multiply_adds_are_half_the_operations_that_torch_counts() -> None:
    model, x = Layers(), torch.randn(2, 4, 8, 8)
    with FlopCounterMode(display=False) as counter:
        model(x)
    counts = count_multiply_adds(model, lambda: model(x))
    assert counts.dense == counter.get_total_flops() / 2
    assert 0 < counts.needed < counts.dense


def test_multiply_adds_that_are_needed() -> None:
    layer, x = nn.Linear(4, 3), torch.tensor([[1.0, 0, 0, 2], [0, 0, 0, 5]])
    counts = count_multiply_adds(layer, lambda: layer(x))
    assert (counts.dense, counts.needed) == (24, 9)
    assert not layer._forward_hooks
