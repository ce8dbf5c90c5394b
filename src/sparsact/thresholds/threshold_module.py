"""The base classes of the threshold modules: a fixed or learned λ, and its start from data."""

from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from sparsact._common.errors import InputError
from sparsact.thresholds.arguments import (
    Sides,
    acting_region,
    check_input,
    check_threshold,
    magnitude,
    widen,
)
from sparsact.thresholds.complex_modulus import check_sides, is_complex
from sparsact.thresholds.held_levels import LevelModule
from sparsact.thresholds.lambd_for_sparsity import check_sparsity, lambd_for_sparsity

M = TypeVar("M", bound="BandModule")


class ThresholdModule(LevelModule):
    """Abstract base: holds λ in the attribute ``lambd``, also where the argument is `threshold`.

    A learned λ is a parameter of shape (num_parameters,). The parameter may become negative; its
    magnitude is used. So λ can reach 0, and weight decay pulls it towards 0. A fixed λ is a float,
    or a buffer if it is a tensor or has several channels. A float is part of the ``state_dict``
    only if it came from data, by ``init_from``: what a constructor repeats need not be saved.
    Files without fixed λ load too. Loaders that fill existing tensors only, such as
    ``from_pretrained``, restore a λ that is a tensor: construct the module with a tensor.

    Args:
        lambd: the (initial) λ ≥ 0: a float, or a tensor of shape (num_parameters,).
        learnable: make λ a parameter.
        num_parameters: 1, or the number of channels for one λ per channel. None takes the number
            from the first forward, ``init_from`` or ``load_state_dict``. Until then λ is
            uninitialized, as in ``nn.LazyLinear``.
        channel_dim: the dim of the input that holds the channels, as in ``nn.PReLU``. It is only
            used if there is more than one λ. Use -1 for inputs (…, features).

    Raises:
        TypeError: λ is neither a number nor a floating-point tensor.
        ValueError: λ is negative or not finite, or does not fit `num_parameters`. At a forward:
            the input does not have `num_parameters` channels at `channel_dim`.
    """

    lambd: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
    ) -> None:
        super().__init__(learnable, num_parameters, channel_dim)
        check_threshold(lambd)
        self._hold("lambd", lambd)

    def threshold(self, x: Tensor) -> float | Tensor:
        """|λ|, in a shape that broadcasts against `x`; its slope at λ = 0 is 1, not 0."""
        if self.num_parameters is None and (self.learnable or not torch.compiler.is_compiling()):
            self._infer_parameters(self, (x,))
        return self._broadcast_to(self._level_shape(x), self.lambd)

    def _broadcast_to(self, shape: tuple[int, ...], value: float | Tensor) -> float | Tensor:
        """The magnitude of a held value, in a shape that broadcasts to `shape`."""
        if not isinstance(value, Tensor):
            return value
        size = magnitude(value)
        if self.num_parameters == 1:
            return size.reshape(())
        return size.reshape(self._channel_shape(shape))

    def _channel_shape(self, shape: tuple[int, ...]) -> list[int]:
        n, dim = self.num_parameters, self.channel_dim
        self._check_channel_dim(shape)
        if shape[dim] != n:
            raise InputError(
                f"num_parameters={n}, but dim {dim} of the input of shape {shape} "
                f"has size {shape[dim]}"
            )
        channels = [1] * len(shape)
        channels[dim] = n
        return channels

    def extra_repr(self) -> str:
        """λ (its mean if there are several), and how it is held."""
        lazy = self.num_parameters is None
        parts = [f"lambd={mean_text(self._start['lambd'] if lazy else self.lambd)}"]
        if self.learnable:
            parts.append("learnable=True")
        if lazy or self.num_parameters > 1:
            parts.append(f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}")
        return ", ".join(parts)


class BandModule(ThresholdModule):
    """Abstract base: a threshold that sets small inputs to zero, so that data can set λ.

    Args:
        lambd: the (initial) λ ≥ 0: a float, or a tensor of shape (num_parameters,).
        learnable: make λ a parameter.
        num_parameters: 1, or the number of channels for one λ per channel.
        channel_dim: the dim of the channels, as in :class:`ThresholdModule`.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0 instead of passing unchanged.

    Raises:
        TypeError: as for :class:`ThresholdModule`.
        ValueError: `sides` is unknown; otherwise as for :class:`ThresholdModule`.
    """

    _shrinks_modulus: ClassVar[bool] = True
    """Whether the function acts on the modulus of a complex input."""

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int | None = 1,
        channel_dim: int = 1,
        *,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim)
        acting_region(torch.empty(0), sides, None)  # raises if `sides` is unknown
        self.sides: Sides = sides
        self.zero_other = zero_other

    @torch.no_grad()
    def init_from(self: M, sample: Tensor, sparsity: float = 0.8) -> M:
        """Set λ so that the module turns the share `sparsity` of a sample of inputs into zeros.

        λ becomes a quantile of |x|, or of x if the function is one-sided. If there are several
        λ, each is computed from its channel. Group thresholds use the norms of the groups. The
        share refers to the entries on which the module acts; with ``zero_other``, the other
        entries also become zeros and count too. λ cannot be negative: if more than `sparsity` of
        a one-sided sample is at most 0, λ is 0.

        Args:
            sample: inputs of this module, as `forward` takes them; finite, not empty. Of complex
                inputs the modulus counts.
            sparsity: the share of zeros, in [0, 1).

        Returns:
            the module itself, changed in place. A fixed λ stays fixed, and joins the
            ``state_dict``.

        Raises:
            TypeError: the function does not take the dtype of `sample`, or `sparsity` is not a
                number.
            ValueError: `sparsity` is outside [0, 1), or `sample` is empty, not finite or without
                the channels of λ.

        Example:
            >>> import sparsact as sa
            >>> sa.nn.Softshrink().init_from(torch.arange(-50.0, 50.0), sparsity=0.4)
            Softshrink(lambd=20)
        """
        check_sparsity(sparsity)
        if self._shrinks_modulus and is_complex(sample):
            check_sides(self.sides)
            sample = sample.abs()
        check_input(sample, "init_from")
        if sample.numel() == 0 or not bool(sample.isfinite().all()):
            raise InputError("init_from needs a sample= that is finite and not empty")
        if self.num_parameters is None:
            self._infer_parameters(self, (sample,))
        self._set_from(sample, sparsity)
        return self

    def _set_from(self, sample: Tensor, sparsity: float) -> None:
        """Set λ from a checked sample."""
        score, counts = self._score(sample)
        columns = self._columns(score)
        counted = None if counts is None else self._columns(counts)
        self._set("lambd", lambd_for_sparsity(columns, counted, sparsity))

    def _score(self, sample: Tensor) -> tuple[Tensor, Tensor | None]:
        """The smallest λ at which each entry becomes zero, and the entries that count."""
        wide = widen(sample)
        if self.sides == "both":
            return wide.abs(), None
        score = wide if self.sides == "positive" else -wide
        return score, None if self.zero_other else score >= 0

    def _columns(self, score: Tensor) -> Tensor:
        """`score` as (entries, number of λ)."""
        if self.num_parameters == 1:
            return score.reshape(-1, 1)
        self._channel_shape(tuple(score.shape))
        return score.movedim(self.channel_dim, -1).reshape(-1, self.num_parameters)

    def extra_repr(self) -> str:
        """λ, how it is held, and where the function acts."""
        sides = "" if self.sides == "both" else f", sides={self.sides!r}"
        return super().extra_repr() + sides + (", zero_other=True" if self.zero_other else "")


def mean_text(value: float | Tensor) -> str:
    """A held value for a module's repr: the mean magnitude if there are several."""
    if isinstance(value, Tensor) and value.is_meta:
        return "?"
    mean = value.detach().abs().mean().item() if isinstance(value, Tensor) else value
    return f"{mean:.4g}"
