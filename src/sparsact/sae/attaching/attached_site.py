"""One autoencoder in a running model: its latents, and edits of them."""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.hooks import in_backward
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.thresholds.arguments import as_integer

Mode = Literal["replace", "error", "read"]
Edit = Callable[[Tensor], Tensor]


class AttachedSite:
    """An autoencoder at one module. :func:`sparsact.sae.attach` makes it.

    Edits change the latents of later forwards, in the order in which they were added. Each method
    returns the site, so that edits can be chained.

    Attributes:
        name: of the module.
        sae: the autoencoder.
        mode: what happens to the activation.
        calls: number of times that the module ran.
    """

    def __init__(
        self, name: str, sae: SparseAutoencoder, mode: Mode, skip: int, record: str
    ) -> None:
        self.name, self.sae, self.mode, self.skip = name, sae, mode, skip
        self.calls = 0
        self._record = record
        self._recorded: list[Tensor] = []
        self._edits: list[Edit] = []

    @property
    def latents(self) -> Tensor:
        """The latents (batch, length, d_sae) of the last forward, before edits.

        They are zero at positions that do not count. With ``record="all"`` those of all forwards,
        joined along the length. Where gradients are computed, ``latents.grad`` holds the gradient
        after ``backward``; ``torch.autograd.grad`` works as well.

        Raises:
            InputError: a ValueError: the module has not run.
        """
        if not self._recorded:
            raise InputError(f"the forward has not called {self.name!r} yet: run the model first")
        return self._recorded[0] if len(self._recorded) == 1 else torch.cat(self._recorded, -2)

    def edit(self, function: Edit) -> "AttachedSite":
        """Apply a function to the latents.

        Args:
            function: maps (batch, length, d_sae) to the same shape.

        Raises:
            InputError: a ValueError: in the mode ``"read"`` latents do not affect the model.
        """
        if self.mode == "read":
            raise InputError(
                f"edits of {self.name!r} have no effect with mode='read': attach it with "
                "mode='error' or mode='replace'"
            )
        self._edits.append(function)
        return self

    def ablate(self, latents: Collection[int]) -> "AttachedSite":
        """Set some latents to zero, given their indices."""
        return self.clamp(dict.fromkeys(latents, 0.0))

    def keep_only(self, latents: Collection[int]) -> "AttachedSite":
        """Set all latents to zero but some, given their indices."""
        kept = torch.zeros(self.sae.config.d_sae, dtype=torch.bool)
        kept[latent_indices(latents, self.sae)] = True
        return self.edit(lambda z: z * kept.to(z.device))

    def clamp(self, values: Mapping[int, float]) -> "AttachedSite":
        """Set latents to fixed values: index → value."""
        indices = latent_indices(values, self.sae)
        fixed = torch.tensor([float(value) for value in values.values()], dtype=torch.float64)
        return self.edit(lambda z: z.index_copy(-1, indices.to(z.device), _rows(fixed, z)))

    def steer(self, strengths: Mapping[int, float]) -> "AttachedSite":
        """Add to latents: index → what is added."""
        indices = latent_indices(strengths, self.sae)
        added = torch.tensor([float(value) for value in strengths.values()], dtype=torch.float64)
        return self.edit(lambda z: z.index_add(-1, indices.to(z.device), _rows(added, z)))

    def reset(self) -> "AttachedSite":
        """Remove all edits and what was recorded."""
        self._edits.clear()
        self._recorded.clear()
        return self

    def pass_through(self, x: Tensor, target: Tensor, counts: Tensor | None) -> Tensor | None:
        """What replaces `target` in the forward; None if it stays.

        Args:
            x: (…, d_in), what the autoencoder encodes.
            target: (…, d_out), what it reconstructs: `x` itself unless it is a transcoder.
            counts: (batch, length) bool, or None if all positions count.
        """
        self._check(x, target)
        self.calls += not in_backward()
        encoded = self.sae.encode(x)
        if counts is not None:
            encoded = encoded * counts[..., None]
        latents = self._remember(encoded.clone())
        if self.mode == "read":
            return None
        rebuilt = self.sae.rebuild(self._edited(latents), x)
        if self.mode == "error":  # unedited, the difference is exactly 0, and so is its gradient
            rebuilt = target + (rebuilt - self.sae.rebuild(encoded, x)).to(target.dtype)
        rebuilt = rebuilt.to(target.dtype)
        return rebuilt if counts is None else torch.where(counts[..., None], rebuilt, target)

    def _remember(self, latents: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            if latents.requires_grad:
                latents.retain_grad()
            else:
                latents.requires_grad_()
        if in_backward() and self._recorded:  # a checkpoint runs the module again
            if self._recorded[-1].requires_grad:
                return latents  # the graph is that of the first time
            self._recorded.pop()
        if self._record == "last":
            self._recorded.clear()
        self._recorded.append(latents)
        return latents

    def _edited(self, latents: Tensor) -> Tensor:
        edited = latents
        for edit in self._edits:
            edited = edit(edited.clone() if edited is latents else edited)
            if not isinstance(edited, Tensor) or edited.shape != latents.shape:
                got = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
                raise InputError(
                    f"an edit of {self.name!r} must return latents of shape "
                    f"{tuple(latents.shape)}, got {got}"
                )
        return edited

    def _check(self, x: Tensor, target: Tensor) -> None:
        config = self.sae.config
        for what, tensor, width in (("reads", x, config.d_in), ("gives", target, config.width_out)):
            if tensor.shape[-1] != width:
                raise InputError(
                    f"{self.name!r} {what} activations of width {tensor.shape[-1]}; the "
                    f"autoencoder needs {width}"
                )
        if x.device != self.sae.W_dec.device:
            raise InputError(
                f"the autoencoder is on {self.sae.W_dec.device}, but activations of {self.name!r} "
                f"are on {x.device}: move it with .to({str(x.device)!r})"
            )


def latent_indices(latents: Collection[int], sae: SparseAutoencoder) -> Tensor:
    """Indices of latents, checked."""
    indices = []
    for latent in latents:
        try:
            index = as_integer(latent, "latent")
        except TypeError:
            index = -1
        if not 0 <= index < sae.config.d_sae:
            last = sae.config.d_sae - 1
            raise InputError(f"there is no latent {latent!r}: they are 0 to {last}")
        indices.append(index)
    return torch.tensor(indices, dtype=torch.long)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """Values (count,) for every position of `like` (…, d_sae)."""
    return values.to(like).expand(*like.shape[:-1], len(values))
