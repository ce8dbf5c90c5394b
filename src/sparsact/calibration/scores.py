"""How much an entry of a site's tensor matters: ``score_i = |x_i|·c_i``, and what c is."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from sparsact.calibration.batches import Batch, LossFunction, counted, rows_of, run, run_to_head
from sparsact.calibration.histogram import ScoreHistogram
from sparsact.calibration.simulate import Simulation, below
from sparsact.calibration.sites import InputSite, weight_t
from sparsact.hooks import Taps

SCORES = ("magnitude", "weight", "loss")
Step = Callable[[], None]


def magnitude_scales(sites: Sequence[InputSite]) -> dict[str, Tensor]:
    """``c_i = 1``: TEAL's score."""
    return {site.name: torch.ones(site.inputs) for site in sites}


def weight_scales(model: nn.Module, sites: Sequence[InputSite]) -> dict[str, Tensor]:
    """``c_i = ‖W_:,i‖₂`` over all readers: WINA's score."""
    scales = {}
    for site in sites:
        weights = [weight_t(model.get_submodule(name)).float() for name in site.readers]
        scales[site.name] = torch.cat(weights, 1).norm(dim=1).cpu()
        if not bool(scales[site.name].isfinite().all()):
            raise ValueError(f"the weights are NaN or infinite at {site.label}")
    return scales


def loss_scales(
    model: nn.Module,
    sites: Sequence[InputSite],
    batches: Iterable[Batch],
    loss_fn: LossFunction,
    keep_first: int,
    step: Step,
) -> dict[str, Tensor]:
    """``c_i = g_i/√outputs``, g_i the mean over tokens of the loss's gradient's size at channel i.

    To first order an entry that is dropped changes the loss by its gradient times itself; these
    changes have random signs, so their squares add up. Dropping an entry of a wide layer saves
    more bytes, so the square is divided by the number of outputs. The mean of sizes in the place
    of the root of the mean square: a few tokens, the first above all, have gradients so large that
    they alone would decide (SmolLM2-135M, 50%: a KL divergence of 0.36 in the place of 0.39).
    """
    sums = {site.name: torch.zeros(site.inputs, dtype=torch.float64) for site in sites}
    rows = dict.fromkeys(sums, 0)
    for number, batch in enumerate(batches):
        kept = counted(batch, keep_first)
        for name, gradient in _gradients(model, sites, batch, loss_fn, number):
            taken = rows_of(gradient, kept)
            sums[name] += taken.double().abs().sum(0).cpu()
            rows[name] += len(taken)
        step()
    scales = {}
    for site in sites:
        size = sums[site.name] / max(rows[site.name], 1)
        if not bool(size.isfinite().all()):
            raise ValueError(f"the loss's gradient is NaN or infinite at {site.label}")
        scales[site.name] = (size / site.outputs**0.5).float()
    # where no token counts it is not the loss's fault, and the histograms will tell
    if any(rows.values()) and not any(bool(scale.any()) for scale in scales.values()):
        raise ValueError("the loss has no gradient at any site: does it depend on the output?")
    return scales


def score_histograms(
    model: nn.Module,
    sites: Sequence[InputSite],
    scales: dict[str, Tensor],
    batches: Iterable[Batch],
    thresholds: dict[str, Tensor] | None,
    keep_first: int,
    step: Step,
) -> dict[str, ScoreHistogram]:
    """The distribution of ``|x_i|·c_i`` at each site, over all tokens but padding.

    With `thresholds` it is that of the sparse model, each site looked at before its own zeros.

    Raises:
        ValueError: activations are NaN or infinite; the message tells where.
    """
    histograms = {site.name: ScoreHistogram() for site in sites}
    by_name = {site.name: site for site in sites}
    number, kept = 0, None

    def count(name: str, x: Tensor) -> None:
        scores = rows_of(x, kept).abs().float() * scales[name].to(x.device)
        try:
            histograms[name].update(scores)
        except ValueError as error:
            raise ValueError(_not_finite(by_name[name], number)) from error

    taps = Taps({site.name: model.get_submodule(site.name) for site in sites}, count, "input")
    sparse = sites if thresholds is not None else ()
    simulation = Simulation(model, sparse, below(thresholds or {}), keep_first)
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches):  # noqa: B007 (read by `count`)
                kept = counted(batch, keep_first)
                run_to_head(model, batch)
                step()
    finally:
        taps.remove()
        simulation.remove()
    return histograms


def _gradients(
    model: nn.Module,
    sites: Sequence[InputSite],
    batch: Batch,
    loss_fn: LossFunction,
    number: int,
) -> Iterator[tuple[str, Tensor]]:
    """The gradient of the loss at every site, for each time that this forward reads it."""
    read: dict[tuple[str, int], list[Tensor]] = {}
    calls: dict[str, int] = {}
    site_of = {reader: site for site in sites for reader in site.readers}

    def keep(reader: str, x: Tensor) -> Tensor:
        site, call = site_of[reader], calls.get(reader, 0)
        if not bool(x.isfinite().all()):
            raise ValueError(_not_finite(site, number))
        # readers get tensors of their own, and their gradients are added: one and the same would
        # miss those that read it through a view, and could not be changed in place later
        own = x.clone()
        if not own.requires_grad:  # with all parameters frozen, the graph begins at the first site
            own.requires_grad_()
        calls[reader] = call + 1
        read.setdefault((site.name, call), []).append(own)
        return own

    taps = Taps({name: model.get_submodule(name) for name in site_of}, keep, "input")
    try:
        with torch.enable_grad():
            loss = loss_fn(run(model, batch), batch)
    finally:
        taps.remove()
    tensors = [x for found in read.values() for x in found]
    gradients = iter(torch.autograd.grad(loss, tensors, allow_unused=True))
    for (name, _), found in read.items():
        parts = [next(gradients) for _ in found]
        known = [part for part in parts if part is not None]
        yield name, sum(known[1:], known[0]) if known else torch.zeros_like(found[0])


def _not_finite(site: InputSite, number: int) -> str:
    return f"activations are NaN or infinite at {site.label}, in batch {number}"
