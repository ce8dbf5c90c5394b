"""Thresholds for a chosen sparsity, from data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn, zeros_like

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress, ProgressCounter
from sparsact.calibration.allocations import ALLOCATIONS, Allocation
from sparsact.calibration.allocations.allocation import LevelRule, Levels, thresholds_at
from sparsact.calibration.batches import Batch, LossFunction, first_batch, reusable_batches
from sparsact.calibration.calibration_run import CalibrationRun, Thresholds
from sparsact.calibration.measured_sparsity import byte_sparsity
from sparsact.calibration.model_forward import unchanged
from sparsact.calibration.offloaded import warn_if_offloaded
from sparsact.calibration.parameter_samples import other_samples, weight_sample
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.score_histogram import Histograms, score_histograms
from sparsact.calibration.scores import SCORES, Score
from sparsact.calibration.simulate import check_dense
from sparsact.calibration.site_shares import site_shares
from sparsact.calibration.sites import find_sites
from sparsact.calibration.token_masks import no_token_counts

_STRIDES = (3, 1)
"""Thresholding changes the activations, so the thresholds are re-estimated twice: on every third
batch, then on all."""


def calibrate(
    model: nn.Module,
    batches: Iterable[Batch],
    sparsity: float | Mapping[str, float] = 0.5,
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
    """Find thresholds such that `sparsity` of a model's weight bytes need not be read.

    An entry of a layer's input becomes zero if its score ``|x_i|·c_i`` does not exceed a level.
    Levels are quantiles of the scores on the batches: first of the dense model's scores, then of
    the sparse model's, because zeros change what later layers see.

    Args:
        model: made of ``nn.Linear`` (or GPT-2's ``Conv1D``), on any device; left as it was.
        batches: each is a tensor (token ids or features), a dict of keyword inputs or a tuple of
            positional inputs. Tokens whose ``attention_mask`` (rows, length) is 0 do not count.
            The batches are read several times; an iterator is read into a list.
        sparsity: share of the weight bytes of all sites that is not read, in [0, 1). 0 skips only
            exact zeros and changes nothing. Or shares by globs on the names of layers,
            ``{"*.mlp.*": 0.6, "*.self_attn.*": 0.3}``: the first glob that matches a site counts,
            each share is reached by the sites of its glob together, and sites without a glob have
            0.
        score: ``"loss"``: c_i is the mean absolute gradient of the loss at channel i, divided by
            the square root of the bytes that a zero saves; ``"weight"``: ``‖W_:,i‖`` (WINA);
            ``"magnitude"``: 1 (TEAL).
        allocate: ``"global"``: one level for the whole network; ``"block"``: every block has the
            same sparsity, distributed greedily within it (TEAL); ``"uniform"``: every site has the
            same sparsity.
        loss_fn: takes the model's output and the batch, and returns the loss summed over the
            tokens that count. Used by the score ``"loss"`` only. By default, for outputs with
            logits, the cross-entropy of labels drawn from the model's own prediction.
        include: globs on the names of the layers that may become sparse.
        exclude: globs on the names of layers that stay dense. The output head of a Hugging Face
            language model always stays dense.
        keep_first: number of first tokens of a sequence that stay dense and do not count.
        held_out: batches on which `achieved` of the plan is measured; by default `batches`.
        progress: called with the steps done, the number of steps, and what is being done.

    Returns:
        the plan.

    Raises:
        InputError: sparsity outside [0, 1), unknown names, a glob of `sparsity` that decides for no
            layer, no batches, a model without linear layers or with quantised ones, activations or
            weights that are NaN (the message says where), or no loss for the score ``"loss"``.
        RuntimeError: a plan is applied to the model.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> batches = torch.randn(4, 64, 16).unbind()
        >>> plan = calibrate(model, batches, sparsity=0.4, score="weight")
        >>> round(plan.achieved_sparsity, 1)
        0.4

    Source:
        The scores of Liu et al. 2024 (TEAL) and Chen et al. 2025 (WINA). The score by the loss's
        gradient and the level over the whole network are our own.
    """
    _check(sparsity, score, allocate, keep_first)
    check_dense(model)
    run = CalibrationRun(model, reusable_batches(batches), keep_first=keep_first, loss_fn=loss_fn)
    first = run.first_batch
    measured = run.batches if held_out is None else reusable_batches(held_out)
    first_batch(measured, "measure")
    run = run.at(find_sites(model, first, include=include, exclude=exclude))
    shares = site_shares(run.sites, sparsity)
    strides = _STRIDES if any(shares.values()) else ()
    total = _number_of_steps(run, measured, SCORES[score], ALLOCATIONS[allocate], strides)
    run.counter = ProgressCounter(total, progress, "gradients")
    if SCORES[score].passes:
        warn_if_offloaded(model, score)
    with unchanged(model):
        run, thresholds = _thresholds(run, shares, SCORES[score], ALLOCATIONS[allocate], strides)
    readers = [reader for site in run.sites for reader in site.readers]
    plan = ThresholdPlan(
        sites=tuple(run.sites),
        thresholds=thresholds,
        samples={reader: weight_sample(model.get_submodule(reader)) for reader in readers},
        others=other_samples(model, readers),
        sparsity=byte_sparsity(run.sites, shares) if isinstance(sparsity, Mapping) else sparsity,
        score=score,
        allocate=allocate,
        keep_first=keep_first,
    )
    run.counter.label = "sparsity"
    return replace(plan, achieved=plan.measure(model, run.counter.through(measured)))


def _check(
    sparsity: float | Mapping[str, float], score: str, allocate: str, keep_first: int
) -> None:
    for share in sparsity.values() if isinstance(sparsity, Mapping) else [sparsity]:
        check_sparsity(share)
    if score not in SCORES:
        raise InputError(f"score= must be one of {', '.join(SCORES)}; got {score!r}")
    if allocate not in ALLOCATIONS:
        raise InputError(f"allocate= must be one of {', '.join(ALLOCATIONS)}; got {allocate!r}")
    if keep_first < 0:
        raise InputError(f"keep_first= must be at least 0, got {keep_first}")


def check_sparsity(sparsity: float) -> None:
    """Raise InputError unless it is a share of the bytes that can be left out."""
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must be in [0, 1), the share of bytes not read; got {sparsity}")


def _number_of_steps(
    run: CalibrationRun,
    measured: Iterable[Batch],
    score: Score,
    allocation: Allocation,
    strides: Iterable[int],
) -> int:
    """How often the run's counter advances; 0 if the number of batches is unknown."""
    if not isinstance(run.batches, Sequence) or not isinstance(measured, Sequence):
        return 0
    batches = len(run.batches)
    steps = (1 + score.passes) * batches + allocation.steps_per_site * len(run.sites)
    return steps + len(measured) + sum(-(-batches // stride) for stride in strides)


def _thresholds(
    run: CalibrationRun,
    shares: Mapping[str, float],
    score: Score,
    allocation: Allocation,
    strides: Iterable[int],
) -> tuple[CalibrationRun, Thresholds]:
    """The run at the sites that the batches reach, and their thresholds."""
    scales = score.scales(run)
    run.counter.label = "scores"
    histograms = score_histograms(run, scales)
    run = run.at([site for site in run.sites if histograms[site.name].counts.any()])
    if not run.sites:
        raise no_token_counts(run.keep_first)
    scales = {site.name: scales[site.name] for site in run.sites}
    levels_of = _level_rule(run, scales, histograms, shares, allocation)
    levels = levels_of(histograms)
    run.counter.label = "correction"
    for stride in strides:
        current = score_histograms(run, scales, _from_levels(levels, scales), stride=stride)
        histograms |= {name: scores for name, scores in current.items() if scores.counts.any()}
        levels = levels_of(histograms)
    thresholds = _from_levels(levels, scales)
    # at 0 only exact zeros are skipped, even at channels whose score is always zero
    zeros = {
        site.name: zeros_like(scales[site.name]) for site in run.sites if not shares[site.name]
    }
    return run, thresholds | zeros


def _level_rule(
    run: CalibrationRun,
    scales: Mapping[str, Tensor],
    histograms: Histograms,
    shares: Mapping[str, float],
    allocation: Allocation,
) -> LevelRule:
    """The allocation's rule, for the sites of each sparsity by themselves."""
    rules: list[tuple[set[str], LevelRule]] = []
    for share in sorted({shares[site.name] for site in run.sites}):
        sites = [site for site in run.sites if shares[site.name] == share]
        names = {site.name for site in sites}
        own = {name: histograms[name] for name in names}
        rules.append((names, allocation.rule(run.at(sites), scales, own, share)))

    def levels_of(current: Histograms) -> Levels:
        levels: Levels = {}
        for names, rule in rules:
            levels |= rule({name: current[name] for name in names})
        return levels

    return levels_of


def _from_levels(levels: Levels, scales: Mapping[str, Tensor]) -> Thresholds:
    return {name: thresholds_at(levels[name], scale) for name, scale in scales.items()}
