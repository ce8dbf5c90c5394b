"""The default score: the size of the entry times the mean size of the loss's gradient there."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sparsact._common.errors import InputError
from sparsact.calibration.batches import Batch
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.model_forward import forward
from sparsact.calibration.score_histogram import not_finite
from sparsact.calibration.scores.score import Score
from sparsact.calibration.token_masks import counted_rows, counted_tokens
from sparsact.hooks import Taps


def loss_scales(run: CalibrationRun) -> dict[str, Tensor]:
    """``c_i = g_i/√outputs``, where g_i is the mean over tokens of ``|∂loss/∂x_i|``.

    To first order, dropping an entry changes the loss by its gradient times its value. These
    changes have random signs, so their squares add up. Dropping an entry of a wide layer saves
    more bytes, so the square is divided by the number of outputs. The mean of absolute values is
    used instead of the root mean square: a few tokens, mainly the first ones, have gradients so
    large that they alone would decide (SmolLM2-135M at 50%: KL divergence 0.36 instead of 0.39).

    Raises:
        InputError: activations or gradients are not finite, or the loss has no gradient.
    """
    sums = {site.name: torch.zeros(site.inputs, dtype=torch.float64) for site in run.sites}
    rows = dict.fromkeys(sums, 0)
    for number, batch in enumerate(run.batches):
        mask = counted_tokens(batch, run.keep_first)
        for name, gradient in _gradients(run, batch, number):
            counted = counted_rows(gradient, mask)
            sums[name] += counted.double().abs().sum(0).cpu()
            rows[name] += len(counted)
        run.counter.advance()
    scales = {}
    for site in run.sites:
        size = sums[site.name] / max(rows[site.name], 1)
        if not bool(size.isfinite().all()):
            raise InputError(f"the loss's gradient is NaN or infinite at {site.label}")
        scales[site.name] = (size / site.outputs**0.5).float()
    # if no token counts, that is the batches' fault: the histograms will find it
    if any(rows.values()) and not any(bool(scale.any()) for scale in scales.values()):
        raise InputError("the loss has no gradient at any site: does it depend on the output?")
    return scales


def drawn_label_loss(output: Any, batch: Batch) -> Tensor:
    """Cross-entropy of labels drawn from the model's own prediction, summed over what counts.

    Its mean squared gradient is the diagonal of the Fisher information: the curvature, at the
    dense model, of the KL divergence from it. Labels from the text would give most of the weight
    to a few tokens that are predicted badly.

    Raises:
        InputError: the output has no logits.
    """
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the score 'loss' needs a loss, and the model's output ({type(output).__name__}) has "
            "no logits: give loss_fn=, which takes the output and the batch and returns the summed "
            "loss, or choose another score="
        )
    flat = counted_rows(logits, counted_tokens(batch)).float()
    generator = torch.Generator(flat.device).manual_seed(len(flat))
    # drawn from cumulated probabilities: torch.multinomial takes five times as long
    cumulated = flat.detach().softmax(-1).cumsum(-1)
    level = torch.rand(len(flat), 1, generator=generator, device=flat.device) * cumulated[:, -1:]
    labels = torch.searchsorted(cumulated, level).squeeze(-1).clamp(max=flat.shape[-1] - 1)
    return cross_entropy(flat, labels, reduction="sum")


def _gradients(run: CalibrationRun, batch: Batch, number: int) -> Iterator[tuple[str, Tensor]]:
    """The gradient of the loss at every site, once for each time that the forward reads it."""
    loss_fn = run.loss_fn or drawn_label_loss
    inputs: dict[tuple[str, int], list[Tensor]] = {}
    calls: dict[str, int] = {}
    site_of = {reader: site for site in run.sites for reader in site.readers}

    def keep(reader: str, x: Tensor) -> Tensor:
        site, call = site_of[reader], calls.get(reader, 0)
        if not bool(x.isfinite().all()):
            raise not_finite(site, number)
        own = _own_copy(x)
        calls[reader] = call + 1
        inputs.setdefault((site.name, call), []).append(own)
        return own

    modules = {name: run.model.get_submodule(name) for name in site_of}
    with Taps(modules, keep, "input"), torch.enable_grad():
        loss = loss_fn(forward(run.model, batch), batch)
    tensors = [x for copies in inputs.values() for x in copies]
    gradients = iter(torch.autograd.grad(loss, tensors, allow_unused=True))
    for (name, _), copies in inputs.items():
        parts = [next(gradients) for _ in copies]
        known = [part for part in parts if part is not None]
        yield name, sum(known[1:], known[0]) if known else torch.zeros_like(copies[0])


def _own_copy(x: Tensor) -> Tensor:
    """The tensor that one reader receives; the gradients of all readers' copies are added.

    A tensor shared by the readers would miss those that read it through a view, and could not be
    changed in place later.
    """
    own = x.clone()
    if not own.requires_grad:  # all parameters are frozen: the graph begins at the first site
        own.requires_grad_()
    return own


LOSS = Score(
    "loss", "its size times the mean gradient of the loss, per byte saved", loss_scales, passes=1
)
