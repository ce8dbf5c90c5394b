"""Thresholds for a chosen sparsity, from data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from torch import Tensor, nn, zeros_like

from sparsact._common.progress import Progress
from sparsact.calibration.allocate import (
    ALLOCATIONS,
    Histograms,
    Levels,
    block_sparsity,
    global_levels,
    thresholds_of,
    uniform_levels,
)
from sparsact.calibration.batches import (
    Batch,
    LossFunction,
    drawn_label_loss,
    nothing_counts,
    read_twice,
    unchanged,
)
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.samples import other_samples, weight_sample
from sparsact.calibration.scores import (
    SCORES,
    loss_scales,
    magnitude_scales,
    score_histograms,
    weight_scales,
)
from sparsact.calibration.simulate import check_dense
from sparsact.calibration.sites import InputSite, find_sites

_CORRECTIONS = (3, 1)
"""A sparse model's activations differ from the dense one's: they are looked at twice again, first
in every third batch."""


def calibrate(
    model: nn.Module,
    batches: Iterable[Batch],
    sparsity: float = 0.5,
    *,
    score: str = "loss",
    allocate: str = "global",
    loss_fn: LossFunction | None = None,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    keep_first: int = 0,
    held_out: Iterable[Batch] | None = None,
    progress: Progress | None = None,
) -> ThresholdPlan:
    """Find thresholds under which `sparsity` of the weight bytes of a model need not be read.

    An entry of a layer's input is zero where its score ``|x_i|·c_i`` is not above a level. Levels
    are quantiles of the scores on the batches, first of the dense model's and then, since zeros
    change what later layers see, of the sparse model's own.

    Args:
        model: made of ``nn.Linear`` (or GPT-2's ``Conv1D``), on any device; left as it was.
        batches: each a tensor (token ids or features), a dict of keyword inputs or a tuple of
            positional ones. Where an ``attention_mask`` (rows, length) is 0, nothing counts. They
            are gone through several times; an iterator is read into a list.
        sparsity: the share of the weight bytes of all sites that is not to be read, in [0, 1).
            0 skips exact zeros only and changes nothing.
        score: ``"loss"``: c_i is the mean size of the loss's gradient at channel i, over the root
            of the bytes that a zero saves; ``"weight"``: ``‖W_:,i‖`` (WINA); ``"magnitude"``: 1
            (TEAL).
        allocate: ``"global"``: one level for the whole network; ``"block"``: every block has the
            same sparsity, shared out greedily (TEAL); ``"uniform"``: every site has the same.
        loss_fn: takes the model's output and the batch, and gives the loss summed over what counts;
            by default, for outputs with logits, the cross-entropy of labels drawn from the
            model's own prediction. Only for the score ``"loss"``.
        include: globs on the names of the layers that may become sparse.
        exclude: globs on those that stay dense; the output head of a Hugging Face language model
            does in any case.
        keep_first: so many first tokens of a sequence are left dense, and count for nothing.
        held_out: batches on which `achieved` of the plan is measured; by default `batches`.
        progress: called with the steps done, their number, and what is being done.

    Returns:
        the plan.

    Raises:
        ValueError: sparsity outside [0, 1), unknown names, no batches, a model without linear
            layers or with quantised ones, NaN activations or weights (where), an unknown loss.
        RuntimeError: a plan is applied to the model.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> batches = torch.randn(4, 64, 16).unbind()
        >>> plan = calibrate(model, batches, sparsity=0.4, score="weight")
        >>> round(plan.achieved_sparsity, 1)
        0.4

    Source:
        Liu et al. 2024 (TEAL) and Chen et al. 2025 (WINA) for their scores; the score by the
        loss's gradient and the level over the whole network are ours.
    """
    _check(sparsity, score, allocate, keep_first)
    check_dense(model)
    batches = read_twice(batches)
    first = _first(batches, "calibrate")
    measured = batches if held_out is None else read_twice(held_out)
    _first(measured, "measure")
    sites = find_sites(model, first, include=include, exclude=exclude)
    corrections = _CORRECTIONS if sparsity else ()
    blocks = sites if allocate == "block" else ()
    steps = _Steps(progress, _number_of_steps(batches, measured, score, corrections, blocks))
    with unchanged(model):
        scales = _scales(
            model, sites, batches, score, loss_fn or drawn_label_loss, keep_first, steps
        )
        steps.name = "scores"
        histograms = score_histograms(model, sites, scales, batches, None, keep_first, steps)
        sites = [site for site in sites if histograms[site.name].counts.any()]
        if not sites:
            raise ValueError(nothing_counts(keep_first))
        scales = {site.name: scales[site.name] for site in sites}
        shares = {site.name: sparsity for site in sites}
        if allocate == "block":
            steps.name = "blocks"
            shares = block_sparsity(model, sites, histograms, scales, first, sparsity, steps)
        levels = _levels(allocate, sites, histograms, shares, sparsity)
        steps.name = "correction"
        for stride in corrections:
            thresholds = _thresholds(levels, scales)
            some = islice(batches, None, None, stride)
            found = score_histograms(model, sites, scales, some, thresholds, keep_first, steps)
            histograms |= {name: seen for name, seen in found.items() if seen.counts.any()}
            levels = _levels(allocate, sites, histograms, shares, sparsity)
    readers = [reader for site in sites for reader in site.readers]
    plan = ThresholdPlan(
        sites=tuple(sites),
        thresholds=_thresholds(levels, scales) if sparsity else _none(scales),
        samples={reader: weight_sample(model.get_submodule(reader)) for reader in readers},
        others=other_samples(model, readers),
        sparsity=sparsity,
        score=score,
        allocate=allocate,
        keep_first=keep_first,
    )
    steps.name = "sparsity"
    return replace(plan, achieved=plan.measure(model, steps.through(measured)))


def _first(batches: Iterable[Batch], what: str) -> Batch:
    first = next(iter(batches), None)
    if first is None:
        raise ValueError(f"there are no batches to {what} on")
    return first


def _number_of_steps(
    batches: Iterable[Batch],
    measured: Iterable[Batch],
    score: str,
    corrections: Iterable[int],
    blocks: Sequence[InputSite],
) -> int:
    if not isinstance(batches, Sequence) or not isinstance(measured, Sequence):
        return 0
    passes = (1 + (score == "loss")) * len(batches) + len(blocks) + len(measured)
    return passes + sum(-(-len(batches) // stride) for stride in corrections)


class _Steps:
    """Tells how far it is."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total = progress, total
        self.name, self.done = "gradients", 0

    def __call__(self, steps: int = 1) -> None:
        self.done += steps
        if self.progress is not None:
            self.progress(self.done, self.total, self.name)

    def through(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, each a step once it was used."""
        for batch in batches:
            yield batch
            self()


def check_sparsity(sparsity: float) -> None:
    """Raise ValueError unless it is a share of the bytes that can be left out."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), the share of bytes not read; got {sparsity}")


def _check(sparsity: float, score: str, allocate: str, keep_first: int) -> None:
    check_sparsity(sparsity)
    if score not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}; got {score!r}")
    if allocate not in ALLOCATIONS:
        raise ValueError(f"allocate must be one of {', '.join(ALLOCATIONS)}; got {allocate!r}")
    if keep_first < 0:
        raise ValueError(f"keep_first must be at least 0, got {keep_first}")


def _scales(
    model: nn.Module,
    sites: Sequence[InputSite],
    batches: Iterable[Batch],
    score: str,
    loss_fn: LossFunction,
    keep_first: int,
    step: Callable[[], None],
) -> dict[str, Tensor]:
    if score == "magnitude":
        return magnitude_scales(sites)
    if score == "weight":
        return weight_scales(model, sites)
    return loss_scales(model, sites, batches, loss_fn, keep_first, step)


def _levels(
    allocate: str,
    sites: Sequence[InputSite],
    histograms: Histograms,
    shares: dict[str, float],
    sparsity: float,
) -> Levels:
    if allocate == "global":
        return global_levels(sites, histograms, sparsity)
    return uniform_levels(histograms, shares)


def _thresholds(levels: Levels, scales: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: thresholds_of(levels[name], scale) for name, scale in scales.items()}


def _none(scales: dict[str, Tensor]) -> dict[str, Tensor]:
    """Exact zeros alone are skipped, even at channels whose score is always zero."""
    return {name: zeros_like(scale) for name, scale in scales.items()}
