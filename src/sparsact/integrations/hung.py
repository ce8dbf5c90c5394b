"""What every trainer's callback does with the penalties and the meter it was given."""

from collections.abc import Callable, Iterable

from sparsact.integrations.tensorboard import meter_scalars, penalty_scalars
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.penalties import ActivationPenalty


class Hung:
    """Penalties and a meter that hang on a model for the time of one training.

    Args:
        penalties: one or several, in mode ``"inject"``.
        meter: the meter, if any.

    Raises:
        ValueError: a penalty is in mode ``"loss"``, which needs a line in the training loop.
    """

    def __init__(
        self,
        penalties: ActivationPenalty | Iterable[ActivationPenalty],
        meter: SparsityMeter | None,
    ) -> None:
        one = isinstance(penalties, ActivationPenalty)
        self.penalties: list[ActivationPenalty] = [penalties] if one else list(penalties)  # type: ignore[list-item, arg-type]
        self.meter = meter
        for penalty in self.penalties:
            if penalty.mode != "inject":
                raise ValueError(
                    "a trainer computes the loss itself: build the penalty with mode='inject', "
                    f"got mode={penalty.mode!r}"
                )

    def start(self, step: int, scale: Callable[[], float]) -> None:
        """Begin at `step`; `scale` tells what the trainer multiplies a loss by."""
        for penalty in self.penalties:
            penalty.scale = scale
            penalty.load_state_dict({**penalty.state_dict(), "step": step})
        self.forget()

    def step(self) -> None:
        """Count an optimizer step."""
        for penalty in self.penalties:
            penalty.step()

    def forget(self) -> None:
        """Begin a new window of the meter."""
        if self.meter is not None:
            self.meter.reset()

    def report(self) -> tuple[dict[str, float], dict[str, LayerStats]]:
        """The scalars to log and the layers' statistics; begins a new window."""
        stats = {} if self.meter is None else self.meter.compute()
        self.forget()
        return {**penalty_scalars(self.penalties), **meter_scalars(stats)}, stats

    def remove(self) -> None:
        """Take every hook away."""
        for penalty in self.penalties:
            penalty.remove()
        if self.meter is not None:
            self.meter.remove()
