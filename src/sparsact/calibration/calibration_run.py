"""A model, its sites and the batches it is calibrated on, as one object."""

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice

import torch
from torch import Tensor, nn

from sparsact._common.progress import ProgressCounter
from sparsact.calibration.batches import Batch, LossFunction, first_batch
from sparsact.calibration.model_forward import forward_to_head
from sparsact.calibration.simulate import Simulation, below
from sparsact.calibration.sites import InputSite
from sparsact.calibration.token_masks import counted_rows, counted_tokens
from sparsact.hooks import Taps

Thresholds = dict[str, Tensor]
"""λ of each site by its name, (inputs,) float32."""

SeeRows = Callable[[InputSite, Tensor, int], None]
"""Takes a site, the rows (tokens, inputs) that count, and the number of the batch."""


@dataclass
class CalibrationRun:
    """A model with the batches that it is run on, several times.

    Attributes:
        model: the model, left as it was.
        batches: an iterable that can be read several times.
        sites: the tensors that are looked at and thresholded.
        keep_first: number of first tokens of each sequence that stay dense and do not count.
        loss_fn: the loss that a score may differentiate.
        counter: advanced by one after each batch of each pass.
    """

    model: nn.Module
    batches: Iterable[Batch]
    sites: Sequence[InputSite] = ()
    keep_first: int = 0
    loss_fn: LossFunction | None = None
    counter: ProgressCounter = field(default_factory=partial(ProgressCounter, 0))

    @cached_property
    def first_batch(self) -> Batch:
        """The first batch, drawn once: a loader that shuffles would draw another."""
        return first_batch(self.batches, "calibrate")

    def at(self, sites: Sequence[InputSite]) -> "CalibrationRun":
        """The same run at other sites."""
        other = copy.copy(self)
        other.sites = sites
        return other

    def watch(
        self,
        see: SeeRows,
        thresholds: Thresholds | None = None,
        *,
        sites: Sequence[InputSite] | None = None,
        after_zeros: bool = False,
        stride: int = 1,
    ) -> None:
        """Run the model on the batches, up to its output head, and show the rows that count.

        Args:
            see: called with every site in every batch.
            thresholds: of all sites: the model is simulated sparse.
            sites: those that are shown, by default all.
            after_zeros: show the tensors after their own thresholds, instead of before.
            stride: use every batch, every second one, and so on.
        """
        by_name = {site.name: site for site in (self.sites if sites is None else sites)}
        modules = {name: self.model.get_submodule(name) for name in by_name}
        number, mask = 0, None

        def show(name: str, x: Tensor) -> None:
            see(by_name[name], counted_rows(x, mask), number)

        sparse = () if thresholds is None else self.sites
        hooks: list[Callable[[], Taps | Simulation]] = [
            partial(Taps, modules, show, "input"),
            partial(Simulation, self.model, sparse, below(thresholds or {}), self.keep_first),
        ]
        with ExitStack() as stack, torch.no_grad():
            for hook in reversed(hooks) if after_zeros else hooks:
                stack.enter_context(hook())
            for number, batch in enumerate(islice(self.batches, None, None, stride)):  # noqa: B007
                mask = counted_tokens(batch, self.keep_first)
                forward_to_head(self.model, batch)
                self.counter.advance()
