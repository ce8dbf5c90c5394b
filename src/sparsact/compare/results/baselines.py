"""The score of a constant prediction: what a network has to beat."""

import torch
from torch import Tensor

from sparsact.compare.results.scores import Score
from sparsact.report.comparison.comparison_records import Baseline


def class_baseline(
    score: Score, train: Tensor, validation: Tensor, test: Tensor, classes: int
) -> Baseline | None:
    """Always the class that is most frequent in the training part, with the shares there.

    Args:
        score: a score of classes.
        train: labels of the training part, (samples,) int64.
        validation: labels of the validation part.
        test: labels of the test part.
        classes: how many there are.
    """
    counts = torch.bincount(train[train >= 0].reshape(-1), minlength=classes).double()
    logits = (counts / counts.sum()).clamp(min=1e-12).log().float()
    return _baseline("most frequent class", score, logits.to(train.device), validation, test)


def value_baseline(
    score: Score, train: Tensor, validation: Tensor, test: Tensor
) -> Baseline | None:
    """Always the mean of the training part; the targets are (samples, …) of floats."""
    mean = train.double().mean(0).to(train.dtype)
    return _baseline("mean of the training part", score, mean, validation, test)


def _baseline(
    label: str, score: Score, row: Tensor, validation: Tensor, test: Tensor
) -> Baseline | None:
    if score.measure is None:
        return None
    values = [score.measure(row.expand(len(part), *row.shape), part) for part in (validation, test)]
    return Baseline(label, *values)
