"""What all threshold modules share: a λ that is fixed or learned, and its start from data."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from sparsact._thresholds.arguments import Sides, acting_region, check_input, check_threshold, widen
from sparsact._thresholds.level import check_sparsity, level_for_sparsity

M = TypeVar("M", bound="BandModule")


class ThresholdModule(nn.Module):
    """Abstract base: holds λ under the name ``lambd``, whatever a subclass calls it.

    A learned λ is a parameter of shape (n,), stored as itself and used as |λ|: it can reach 0,
    and weight decay pulls it there. A fixed λ is a float or a buffer, and is not part of the
    ``state_dict``.

    Args:
        lambd: the (initial) λ ≥ 0: a float, or a tensor of shape (num_parameters,).
        learnable: make λ a parameter.
        num_parameters: 1, or the number of channels for a λ per channel.
        channel_dim: the dim of the input that holds the channels, as in ``nn.PReLU``; only
            read when there is more than one λ. Use -1 for (…, features).
    """

    lambd: float | Tensor

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
    ) -> None:
        super().__init__()
        if num_parameters < 1:
            raise ValueError(f"num_parameters must be at least 1, got {num_parameters}")
        self.learnable = learnable
        self.num_parameters = num_parameters
        self.channel_dim = channel_dim
        check_threshold(lambd)
        self._hold("lambd", lambd)

    def threshold(self, x: Tensor) -> float | Tensor:
        """|λ|, in a shape that broadcasts against `x`; its slope at λ = 0 is 1, not 0."""
        return self._against(self.lambd, self._level_shape(x))

    def _hold(self, name: str, level: float | Tensor) -> None:
        """Hold a level as λ is held: a parameter, a buffer or, if fixed and single, a float."""
        n = self.num_parameters
        if isinstance(level, Tensor) and tuple(level.shape) not in {(), (n,)}:
            raise ValueError(
                f"{name} of shape {tuple(level.shape)} does not match num_parameters={n}"
            )
        if self.learnable:
            self.register_parameter(name, nn.Parameter(_vector(level, n)))
        elif isinstance(level, Tensor) or n > 1:
            self.register_buffer(name, _vector(level, n), persistent=False)
        else:
            setattr(self, name, float(level))

    def _level_shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape to which λ broadcasts for an input `x`."""
        return tuple(x.shape)

    def _against(self, level: float | Tensor, shape: tuple[int, ...]) -> float | Tensor:
        """The magnitude of a held level, in a shape that broadcasts to `shape`."""
        if not isinstance(level, Tensor):
            return level
        magnitude = torch.where(level < 0, -level, level)
        if self.num_parameters == 1:
            return magnitude.reshape(())
        return magnitude.reshape(self._channel_shape(shape))

    def _channel_shape(self, shape: tuple[int, ...]) -> list[int]:
        n, dim = self.num_parameters, self.channel_dim
        if not -len(shape) <= dim < len(shape):
            raise ValueError(f"channel_dim={dim} does not exist in an input of shape {shape}")
        if shape[dim] != n:
            raise ValueError(
                f"num_parameters={n}, but dim {dim} of the input of shape {shape} "
                f"has size {shape[dim]}"
            )
        channels = [1] * len(shape)
        channels[dim] = n
        return channels

    def extra_repr(self) -> str:
        """λ (its mean when there are several) and how it is held."""
        parts = [f"lambd={level_text(self.lambd)}"]
        if self.learnable:
            parts.append("learnable=True")
        if self.num_parameters > 1:
            parts.append(f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}")
        return ", ".join(parts)


class BandModule(ThresholdModule):
    """Abstract base: a threshold whose small inputs die, so that λ can be started from data.

    Args:
        lambd: the (initial) λ ≥ 0.
        learnable: make λ a parameter.
        num_parameters: number of λ, 1 or the number of channels.
        channel_dim: dim of the channels, when there are several λ.
        sides: ``"positive"`` or ``"negative"`` acts on entries of that sign only.
        zero_other: entries outside `sides` and the mask become 0.
    """

    def __init__(
        self,
        lambd: float | Tensor = 0.5,
        learnable: bool = False,
        num_parameters: int = 1,
        channel_dim: int = 1,
        *,
        sides: Sides = "both",
        zero_other: bool = False,
    ) -> None:
        super().__init__(lambd, learnable, num_parameters, channel_dim)
        acting_region(torch.empty(0), sides, None)  # refuses an unknown side at construction
        self.sides: Sides = sides
        self.zero_other = zero_other

    @torch.no_grad()
    def init_from(self: M, sample: Tensor, sparsity: float = 0.8) -> M:
        """Set λ so that the share `sparsity` of a sample of inputs lies in the dead band.

        λ becomes a quantile of |x|, or of x where the function is one-sided, per channel if
        there are several λ; for group kinds of the norms of groups. The share is taken of the
        entries on which the module acts; with ``zero_other`` the others are zeros too and
        count. λ cannot be negative: where more than `sparsity` of a one-sided sample is at
        most 0, λ is 0.

        Args:
            sample: inputs of this module, as `forward` takes them; finite, not empty.
            sparsity: the share of zeros, in [0, 1).

        Returns:
            the module itself, changed in place. A fixed λ stays fixed, and outside the
            ``state_dict``.

        Raises:
            TypeError: `sample` is not a floating-point tensor, `sparsity` not a number.
            ValueError: `sparsity` is outside [0, 1), `sample` is empty or not finite, or does
                not have the channels of λ.

        Example:
            >>> import sparsact as sa
            >>> sa.nn.Softshrink().init_from(torch.arange(-50.0, 50.0), sparsity=0.4)
            Softshrink(lambd=20)
        """
        check_sparsity(sparsity)
        check_input(sample, "init_from")
        if sample.numel() == 0 or not bool(sample.isfinite().all()):
            raise ValueError("init_from needs a sample that is finite and not empty")
        self._start(sample, sparsity)
        return self

    def _start(self, sample: Tensor, sparsity: float) -> None:
        """Set the levels for a checked sample."""
        score, counts = self._score(sample)
        columns = self._columns(score)
        counted = None if counts is None else self._columns(counts)
        self._set("lambd", level_for_sparsity(columns, counted, sparsity))

    def _score(self, sample: Tensor) -> tuple[Tensor, Tensor | None]:
        """The λ from which on each entry is dead, and the entries that count."""
        wide = widen(sample)
        if self.sides == "both":
            return wide.abs(), None
        score = wide if self.sides == "positive" else -wide
        return score, None if self.zero_other else score >= 0

    def _columns(self, score: Tensor) -> Tensor:
        """(entries, number of λ)."""
        if self.num_parameters == 1:
            return score.reshape(-1, 1)
        self._channel_shape(tuple(score.shape))
        return score.movedim(self.channel_dim, -1).reshape(-1, self.num_parameters)

    def _set(self, name: str, level: Tensor) -> None:
        """Change a held level in place."""
        held = getattr(self, name)
        if isinstance(held, Tensor):
            held.copy_(level.expand_as(held))
        else:
            setattr(self, name, float(level))

    def extra_repr(self) -> str:
        """λ, how it is held and where the function acts."""
        sides = "" if self.sides == "both" else f", sides={self.sides!r}"
        return super().extra_repr() + sides + (", zero_other=True" if self.zero_other else "")


def level_text(level: float | Tensor) -> str:
    """A level for printing: the mean magnitude when there are several."""
    number = level.detach().abs().mean().item() if isinstance(level, Tensor) else level
    return f"{number:.4g}"


def _vector(level: float | Tensor, n: int) -> Tensor:
    if isinstance(level, Tensor):
        return level.detach().clone().expand(n).contiguous()
    return torch.full((n,), float(level))
