"""The penalties and the meter of a callback, for the duration of one training."""

from collections.abc import Callable, Iterable

from torch import nn

from sparsact._common.errors import InputError
from sparsact.integrations.tensorboard import meter_scalars, penalty_scalars
from sparsact.meters import LayerStats, SparsityMeter
from sparsact.penalties import ActivationPenalty


class Instruments:
    """Penalties and a meter that are attached to a model during each training.

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
        self._evaluated = False
        for penalty in self.penalties:
            if penalty.mode != "inject":
                raise InputError(
                    "a trainer computes the loss itself: build the penalty with mode='inject', "
                    f"got mode={penalty.mode!r}"
                )

    def start(self, model: nn.Module, step: int, scale: Callable[[], float]) -> None:
        """Attach the hooks, and begin at `step`.

        Args:
            model: the model to be trained.
            step: the step of the schedules.
            scale: returns the factor by which the trainer multiplies a loss.

        Raises:
            ValueError: a penalty or the meter was built for another model.
        """
        for instrument in self._all:
            if not instrument.watches(model):
                raise InputError(
                    f"the {type(instrument).__name__} of this callback was built for another "
                    "model than the one to be trained: build it, and the callback, for each model"
                )
            instrument.attach()
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
        self._evaluated = False
        if self.meter is not None:
            self.meter.reset()

    def end_evaluation(self) -> None:
        """Exclude the forwards of an evaluation."""
        self.begin_window()
        self._evaluated = True

    def report(self) -> tuple[dict[str, float], dict[str, LayerStats]]:
        """Return the scalars to log and the statistics of the layers; begin a new window."""
        stats = self._stats()
        self.begin_window()
        return {**penalty_scalars(self.penalties), **meter_scalars(stats)}, stats

    def remove(self) -> None:
        """Remove all hooks."""
        for instrument in self._all:
            instrument.remove()

    def _stats(self) -> dict[str, LayerStats]:
        """The statistics of the window; none if nothing has run since an evaluation."""
        if self.meter is None:
            return {}
        try:
            return self.meter.compute()
        except RuntimeError:
            if self._evaluated:
                return {}
            raise

    @property
    def _all(self) -> list[ActivationPenalty | SparsityMeter]:
        return [*self.penalties, *([] if self.meter is None else [self.meter])]
