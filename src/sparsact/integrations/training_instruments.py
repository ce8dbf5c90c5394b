"""The penalties and the meter of a callback, for the duration of one training."""

from collections.abc import Callable, Iterable

from sparsact._common.errors import InputError
from sparsact.integrations.tensorboard import meter_scalars, penalty_scalars
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.penalties import ActivationPenalty


class Instruments:
    """Penalties and a meter that are attached to a model for one training.

    Args:
        penalties: one or several penalties, in mode ``"inject"``.
        meter: the meter, or None.

    Raises:
        ValueError: a penalty is in mode ``"loss"``, which needs a change in the training loop.
    """

    def __init__(
        self,
        penalties: ActivationPenalty | Iterable[ActivationPenalty],
        meter: SparsityMeter | None,
    ) -> None:
        self.penalties = (
            [penalties] if isinstance(penalties, ActivationPenalty) else list(penalties)
        )
        self.meter = meter
        for penalty in self.penalties:
            if penalty.mode != "inject":
                raise InputError(
                    "a trainer computes the loss itself: build the penalty with mode='inject', "
                    f"got mode={penalty.mode!r}"
                )

    def start(self, step: int, scale: Callable[[], float]) -> None:
        """Begin at `step`; `scale` returns the factor by which the trainer multiplies a loss."""
        for penalty in self.penalties:
            penalty.scale = scale
            penalty.load_state_dict({**penalty.state_dict(), "step": step})
        self.begin_window()

    def step(self) -> None:
        """Count an optimizer step."""
        for penalty in self.penalties:
            penalty.step()

    def begin_window(self) -> None:
        """Begin a new window of the meter."""
        if self.meter is not None:
            self.meter.reset()

    def report(self) -> tuple[dict[str, float], dict[str, LayerStats]]:
        """Return the scalars to log and the statistics of the layers; begin a new window."""
        stats = {} if self.meter is None else self.meter.compute()
        self.begin_window()
        return {**penalty_scalars(self.penalties), **meter_scalars(stats)}, stats

    def remove(self) -> None:
        """Remove all hooks."""
        for penalty in self.penalties:
            penalty.remove()
        if self.meter is not None:
            self.meter.remove()
