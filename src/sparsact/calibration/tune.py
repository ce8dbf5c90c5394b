"""Training a plan by distillation from the dense model."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.calibration.batches import Batch, Target
from sparsact.calibration.model_forward import forward, unchanged
from sparsact.calibration.offloaded import check_in_memory
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.rescaling import rescaled
from sparsact.calibration.simulate import check_dense
from sparsact.calibration.sparse_student import Learning, SparseStudent
from sparsact.calibration.token_masks import batches_that_count

LEARNED = ("norms", "low_rank", "thresholds")

_WARMUP = 5  # steps
_FIRST_LR, _FURTHER_LR = 2e-3, 2e-4  # corrections that start at zero have further to go
_THRESHOLD_LR = 0.005  # in a threshold's logarithm


def tune(
    plan: ThresholdPlan,
    model: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    *,
    learn: Sequence[str] = ("norms", "low_rank"),
    lr: float | None = None,
    rank: int = 16,
    target: Target | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ThresholdPlan:
    """Train the plan so that the sparse model's predictions come closer to the dense model's.

    Each step uses one batch, in a new random order in every pass, and lowers the KL divergence of
    the sparse model from the dense one. Without logits, or with `target`, it lowers the relative
    squared error. All thresholds move by a common factor that holds the sparsity.

    Args:
        plan: the plan to start from, best a compensated one.
        model: the model that was calibrated; left as it was.
        batches: as for :func:`sparsact.calibration.calibrate`; the more diverse, the better.
        steps: number of steps; each takes about as long as four forwards.
        learn: some of ``"norms"`` (all parameters with one dim), ``"low_rank"`` (a correction of
            rank `rank` to the weight of every layer, which costs nothing at inference) and
            ``"thresholds"`` (a factor for the thresholds of each site, by a straight-through
            gradient within a tenth of the threshold, in directions that keep the sparsity).
        lr: learning rate of Adam; it rises for five steps and then falls as a cosine. By default
            2e-4 for a plan with updates, and 2e-3 where corrections start at zero.
        rank: of corrections that the plan does not have yet.
        target: takes the model's output and the batch, and returns the tensor that must stay close
            to the dense model's, such as a sentence embedding. By default the logits, or the first
            tensor of the output.
        seed: for the order of the batches and the start of new corrections.
        progress: called with the steps done, the number of steps, and what is being done.

    Returns:
        a new plan with what was learned in `updates`, and `achieved` measured on the first batches.

    Raises:
        InputError: no batches, an unknown name in `learn`, another model, or a loss that becomes
            NaN.
        RuntimeError: a plan is applied to the model.

    Example:
        >>> import sparsact as sa
        >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> batches = torch.randn(4, 64, 16).unbind()
        >>> plan = sa.calibrate(model, batches, 0.4, score="weight")
        >>> tuned = tune(plan, model, batches, steps=5)
        >>> sorted(tuned.updates.low_rank)
        ['0', '2']
    """
    _check(steps, learn, rank)
    batches = batches_that_count(batches, plan.keep_first, "tune")
    check_in_memory(model, "tune")
    plan.check(model)
    check_dense(model)
    if lr is None:
        lr = _FURTHER_LR if plan.updates else _FIRST_LR
    counter = ProgressCounter(steps, progress, "tuning")
    with unchanged(model):
        student = SparseStudent(model, plan, Learning(learn, rank, target, seed))
        for step, batch in enumerate(counter.through(_shuffled(batches, steps, seed))):
            with torch.no_grad():
                dense = student.predictions(forward(model, batch), batch)
            schedule = min(1, (step + 1) / _WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
            student.step(batch, dense, lr * schedule, _THRESHOLD_LR * schedule)
        return rescaled(student.plan(), model, batches)


def _check(steps: int, learn: Sequence[str], rank: int) -> None:
    if steps < 1 or rank < 1:
        raise InputError(f"steps= and rank= must be at least 1, got {steps} and {rank}")
    if not learn or not set(learn) <= set(LEARNED):
        raise InputError(f"learn= takes some of {', '.join(LEARNED)}; got {tuple(learn)}")


def _shuffled(batches: Sequence[Batch], steps: int, seed: int) -> Iterator[Batch]:
    """`steps` batches; each pass over all of them has its own order."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        yield batches[order.pop()]
