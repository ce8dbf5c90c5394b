"""The straight line of noise variance over brightness, fitted to an image."""

import torch
from torch import Tensor

from sparsact._common.devices import widest_float
from sparsact._common.errors import InputError
from sparsact.denoise.missing_values import neighbours

BINS = 24  # of brightness
FLAT = 0.5  # share of the samples of a bin whose surroundings vary least
OUTLIERS = 4.0  # standard deviations
STEPS = 20  # of the robust fit


def photon_curve(
    x: Tensor,
    missing: Tensor | None,
    ndim: int,
    at_zero: tuple[float, float] | None,
    gain: float | None,
) -> tuple[float, float]:
    """The gain and the variance at brightness 0 of ``variance = gain·mean + at_zero``.

    Cells of 2 samples along each dim are sorted by the mean of their surroundings. The variance
    of a bin of like cells is that of Haar's diagonal coefficient, over the half of the cells with
    the flattest surroundings. Bins with more variance than the line have little weight: there,
    structure adds to the noise.

    Args:
        x: blocks (…, one size per dim).
        missing: where a sample is missing.
        ndim: number of dims of a block.
        at_zero: (a, b) if the variance at 0 is known to be ``a + b·gain``.
        gain: if it is known.

    Raises:
        InputError: no gain above 0 explains the image.

    Source:
        Foi, Trimeche, Katkovnik & Egiazarian, "Practical Poissonian-Gaussian noise modeling and
        fitting for single-image raw-data", IEEE TIP 17 (2008), with a simpler choice of cells.
    """
    means, squares = _bins(*_cells(x.to(widest_float(x.device)), missing, ndim))
    if len(means) < 2 and at_zero is None and gain is None:
        raise InputError("the gain cannot be estimated: the image has one brightness; set gain=")
    weight = torch.ones_like(means)
    for _ in range(STEPS):
        gain_now, zero = _line(means, squares, weight, at_zero, gain)
        line = (gain_now * means + zero).clamp(min=1e-3 * float(squares.max()) + 1e-30)
        miss = (squares - line) / line
        scale = miss.abs().median().clamp(min=0.02)
        weight = 1 / line.square() / (1 + (miss.clamp(min=0) / scale).square())
    if not 0 < gain_now < float("inf"):
        raise InputError(
            f"no photon noise was found (the estimated gain is {gain_now:.3g}); set gain=, or use "
            "noise='gaussian'"
        )
    return gain_now, zero


def _line(
    means: Tensor,
    squares: Tensor,
    weight: Tensor,
    at_zero: tuple[float, float] | None,
    gain: float | None,
) -> tuple[float, float]:
    """The weighted least squares of ``squares = gain·means + zero``, with what is known."""
    if at_zero is not None:
        constant, factor = at_zero
        place = means + factor
        if gain is None:
            top = (weight * place * (squares - constant)).sum()
            gain = float(top / (weight * place.square()).sum())
        return gain, constant + factor * gain
    middle, level = ((weight * t).sum() / weight.sum() for t in (means, squares))
    if gain is None:
        away = means - middle
        gain = float((weight * away * squares).sum() / (weight * away.square()).sum())
    return gain, float(level - gain * middle)


def _cells(x: Tensor, missing: Tensor | None, ndim: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell: the mean of its surroundings, their unevenness, and d²."""
    mean, diagonal = x, x
    known = torch.ones_like(x) if missing is None else (~missing).to(x.dtype)
    for dim in range(-ndim, 0):
        size = x.shape[dim] // 2 * 2
        pairs = [t.narrow(dim, 0, size).unflatten(dim, (-1, 2)) for t in (mean, diagonal, known)]
        mean = pairs[0].mean(dim)
        diagonal = (pairs[1].select(dim, 0) - pairs[1].select(dim, 1)) / 2**0.5
        known = pairs[2].amin(dim)
    wide = mean
    for dim in range(-ndim, 0):
        wide = _mean_of_three(wide, dim)
    uneven = torch.zeros_like(mean)
    for dim in range(-ndim, 0):
        before, after = neighbours(wide, dim)
        uneven = uneven + (after - before).square()
    keep = known.flatten() > 0
    return wide.flatten()[keep], uneven.flatten()[keep], diagonal.flatten()[keep].square()


def _mean_of_three(x: Tensor, dim: int) -> Tensor:
    before, after = neighbours(x, dim)
    return (before + x + after) / 3


def _bins(mean: Tensor, uneven: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """The mean brightness and the mean d² of each bin, from its flattest cells."""
    order = mean.argsort()
    pieces = order.tensor_split(max(1, min(BINS, len(order) // 50)))
    means, squares = [], []
    for piece in pieces:
        flattest = piece[uneven[piece].argsort()[: max(1, int(FLAT * len(piece)))]]
        values = square[flattest]
        inside = values <= OUTLIERS**2 * values.mean()
        means.append(mean[flattest].mean())
        squares.append(values[inside].mean())
    return torch.stack(means), torch.stack(squares)
