"""Running a model up to some places, and taking the activations there."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact.hooks import Taps
from sparsact.hooks.early_stop import stop_after, stop_before
from sparsact.sae.data.model_batches import ModelBatch, Positions, chosen_positions
from sparsact.sae.data.places import Place


class LayerReader:
    """Reads the activations at some places, in one forward that stops at the last of them.

    Args:
        model: any model; put into eval mode.
        places: key → place.
        positions: which positions of each input count.
    """

    def __init__(
        self, model: nn.Module, places: Mapping[str, Place], positions: Positions = "all"
    ) -> None:
        self.model, self.places, self.positions = model.eval(), places, positions
        first = next(model.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device
        order = {module: at for at, module in enumerate(model.modules())}
        self._last: Place | None = max(places.values(), key=lambda place: order[place.module])

    @torch.no_grad()
    def read(self, batch: ModelBatch) -> dict[str, Tensor]:
        """The activations (kept positions, width) at each place, on the CPU.

        Raises:
            InputError: a place is never reached; an activation is NaN or infinite, or does not
                fit the positions.
        """
        found = self._forward(batch)
        if self._last is not None and len(found) < len(self.places):
            self._last = None  # the modules run in another order than they are defined in
            found = self._forward(batch)
        missing = [self.places[key].name for key in self.places if key not in found]
        if missing:
            raise InputError(f"the forward of the model never calls {missing[0]!r}")
        return {key: self._kept(key, found[key], batch) for key in self.places}

    def _forward(self, batch: ModelBatch) -> dict[str, Tensor]:
        """Key → the first activation."""
        found: dict[str, Tensor] = {}
        taps = [
            Taps({key: place.module}, partial(_keep, found), on=place.site)
            for key, place in self.places.items()
        ]
        args = [_on(value, self.device) for value in batch.args]
        kwargs = {name: _on(value, self.device) for name, value in batch.kwargs.items()}
        try:
            with self._stop():
                self.model(*args, **kwargs)
        finally:
            for tap in taps:
                tap.remove()
        return found

    def _stop(self) -> Any:
        if self._last is None or self._last.module is self.model:
            return stop_before(None)
        stop = stop_after if self._last.site == "output" else stop_before
        return stop(self._last.module)

    def _kept(self, key: str, activation: Tensor, batch: ModelBatch) -> Tensor:
        """The rows of an activation that count, checked."""
        name = self.places[key].name
        if activation.ndim == 4:  # images: each place in the picture is a row
            activation = activation.movedim(1, -1).flatten(1, 2)
        kept = batch.kept
        if kept is None and activation.ndim == 3:
            everywhere = torch.ones(activation.shape[:2], dtype=torch.bool)
            kept = chosen_positions(everywhere, self.positions)
        if kept is None:
            kept = torch.ones(activation.shape[:-1], dtype=torch.bool)
        elif kept.shape != activation.shape[:-1]:
            raise InputError(
                f"{name!r} gives activations of shape {tuple(activation.shape)}, but the inputs "
                f"have {tuple(kept.shape)} positions"
            )
        kept = kept.to(activation.device)
        rows = activation[kept]
        if not bool(rows.isfinite().all()):
            bad = (~activation.isfinite().all(-1) & kept).flatten(1) if kept.ndim > 1 else None
            spoilt = ~activation.isfinite().all(-1) if bad is None else bad.any(1)
            raise InputError(
                f"activations of {name!r} are NaN or infinite in row "
                f"{batch.first + int(spoilt.nonzero()[0])} of the data (rows of "
                f"{kept.shape[1] if kept.ndim > 1 else 1} positions, counted from 0)"
            )
        return rows.cpu()


def _keep(found: dict[str, Tensor], key: str, activation: Tensor) -> None:
    found.setdefault(key, activation)


def _on(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def usual_norms(rows: Tensor, medians: float | None) -> Tensor:
    """(n,) bool: rows whose norm is at most so many times the median of their norms."""
    if medians is None:
        return torch.ones(len(rows), dtype=torch.bool)
    norms: Tensor = torch.linalg.vector_norm(rows.float(), dim=1)
    return norms <= medians * norms.median()
