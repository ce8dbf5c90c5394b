"""The sparse model as the student of the dense one: its parameters, loss and steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from sparsact._common.errors import InputError
from sparsact.calibration.batches import Batch, Target
from sparsact.calibration.linear_layers import weight_t
from sparsact.calibration.measured_sparsity import byte_sparsity
from sparsact.calibration.model_forward import forward
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.rescaling import LARGEST, SMALLEST
from sparsact.calibration.simulate import Simulation
from sparsact.calibration.token_masks import counted_rows, counted_tokens
from sparsact.calibration.weight_updates import Updates
from sparsact.hooks import Taps, first_tensor, shared_parameters
from sparsact.thresholds.hardshrink import hardshrink

_BANDWIDTH = 0.2  # of a threshold, within which it receives a gradient
_HOLD = 0.3  # how much of its missing sparsity a step restores, in the thresholds' logarithm


@dataclass(frozen=True)
class Learning:
    """What a student learns.

    Attributes:
        parts: some of ``"norms"``, ``"low_rank"`` and ``"thresholds"``.
        rank: of new low-rank corrections.
        target: selects the output that must stay; None: logits, or else the first tensor.
        seed: for the start of new corrections.
    """

    parts: Sequence[str]
    rank: int
    target: Target | None
    seed: int


class SparseStudent:
    """The sparse model and what it learns; between steps the model is the dense one.

    Args:
        model: the dense model.
        plan: the plan to start from.
        learning: what changes.
    """

    def __init__(self, model: nn.Module, plan: ThresholdPlan, learning: Learning) -> None:
        self.model, self.start, self.learning = model, plan, learning
        device = next(model.parameters()).device
        self.thresholds = {
            name: threshold.to(device).clamp(SMALLEST, LARGEST)
            for name, threshold in plan.thresholds.items()
        }
        learns_thresholds = "thresholds" in learning.parts
        self.factors = {  # of a site's thresholds, as logarithms
            site.name: torch.zeros((), device=device, requires_grad=learns_thresholds)
            for site in plan.sites
        }
        initial = _initial_updates(plan, model, learning)
        self.values, self.low_rank = initial.values, initial.low_rank
        self.zeros: dict[str, float] = {}  # share of each site in the last forward
        self.near: dict[str, float] = {}  # share of each site within the bandwidth of a threshold
        self._mask: Tensor | None = None
        self.optimizer = torch.optim.Adam(self._groups(), betas=(0.9, 0.98))

    def step(self, batch: Batch, dense: Tensor, lr: float, threshold_lr: float) -> None:
        """One step towards the dense model's predictions on a batch.

        Raises:
            InputError: the loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = threshold_lr if group["thresholds"] else lr
        with torch.enable_grad():
            loss = self._loss(batch, dense)
        if not bool(loss.isfinite()):
            raise InputError("the loss of tuning became NaN or infinite: choose a smaller lr=")
        self.optimizer.zero_grad()
        loss.backward()
        self._project_gradient()
        self.optimizer.step()
        self._hold_sparsity()

    def predictions(self, output: Any, batch: Batch) -> Tensor:
        """The part of an output that must stay close to the dense model's."""
        if self.learning.target is not None:
            return self.learning.target(output, batch).float()
        return _default_predictions(output, batch, self.start.keep_first)

    def plan(self) -> ThresholdPlan:
        """The plan with everything that was learned."""
        thresholds = {
            name: threshold * self.factors[name].detach().exp().to(threshold.device)
            for name, threshold in self.start.thresholds.items()
        }
        largest = torch.finfo(torch.float32).max
        updates = Updates(
            {name: value.detach().cpu() for name, value in self.values.items()},
            {
                name: (up.detach().cpu(), down.detach().cpu())
                for name, (up, down) in self.low_rank.items()
            },
        )
        return replace(
            self.start,
            thresholds={name: value.clamp(max=largest) for name, value in thresholds.items()},
            updates=updates,
            achieved={},
        )

    def _groups(self) -> list[dict[str, Any]]:
        weights = []
        if "norms" in self.learning.parts:
            weights += list(self.values.values())
        if "low_rank" in self.learning.parts:
            weights += [factor for pair in self.low_rank.values() for factor in pair]
        for tensor in weights:
            tensor.requires_grad_()
        groups: list[dict[str, Any]] = [{"params": weights, "thresholds": False}]
        if "thresholds" in self.learning.parts:
            groups.append({"params": list(self.factors.values()), "thresholds": True})
        return [group for group in groups if group["params"]]

    def _loss(self, batch: Batch, dense: Tensor) -> Tensor:
        """KL divergence from the dense model for logits, else the relative squared error."""
        self._mask = counted_tokens(batch, self.start.keep_first)
        readers = {name: self.model.get_submodule(name) for name in self.low_rank}
        with (
            Taps.on_calls(readers, self._correct),
            Simulation(self.model, self.start.sites, self._shrink, self.start.keep_first),
        ):
            output = forward(self.model, batch, self._values())
        sparse = self.predictions(output, batch)
        if self.learning.target is None and _has_classes(output):
            return kl_div(sparse, dense, reduction="batchmean", log_target=True)
        return (sparse - dense).square().sum() / dense.square().sum()

    def _values(self) -> dict[str, Tensor]:
        """The learned values in the dtypes of the parameters that they replace."""
        return {
            name: value.to(self.model.get_parameter(name).dtype)
            for name, value in self.values.items()
        }

    def _correct(self, reader: str, x: Tensor, output: Tensor) -> Tensor:
        """A layer's output with its low-rank correction."""
        up, down = self.low_rank[reader]
        correction: Tensor = (x @ down.to(x.dtype).t()) @ up.to(x.dtype).t()
        return output + correction

    def _shrink(self, name: str, x: Tensor) -> Tensor:
        threshold, factor = self.thresholds[name], self.factors[name].exp()
        if factor.requires_grad:
            unit = x.float() / threshold
            shrunk = hardshrink(unit, factor, bandwidth=_BANDWIDTH) * threshold
            near = (unit.detach().abs() - factor.detach()).abs() < _BANDWIDTH / 2
            self.near[name] = float(near.float().sum()) / max(near.numel(), 1)
        else:
            shrunk = x.masked_fill(x.abs().float() <= threshold * factor, 0)
        rows = counted_rows(shrunk.detach(), self._mask)
        if rows.numel():  # an expert may receive no token
            self.zeros[name] = 1 - int(torch.count_nonzero(rows)) / rows.numel()
        return shrunk.to(x.dtype)

    def _project_gradient(self) -> None:
        """Remove the component of the factors' gradient that changes the overall sparsity."""
        candidates = [(site, self.factors[site.name].grad) for site in self.start.sites]
        pairs = [(site, grad) for site, grad in candidates if grad is not None]
        if not pairs:
            return
        slope = torch.tensor([self.near[site.name] * site.weights for site, _ in pairs])
        gradient = torch.stack([grad.cpu() for _, grad in pairs])
        gradient -= (gradient @ slope) / (slope @ slope).clamp(min=1e-30) * slope
        for (_, grad), value in zip(pairs, gradient, strict=True):
            grad.copy_(value)

    def _hold_sparsity(self) -> None:
        """Move all thresholds by one factor towards the plan's sparsity."""
        missing = self.start.sparsity - byte_sparsity(self.start.sites, self.zeros)
        with torch.no_grad():
            for factor in self.factors.values():
                factor += _HOLD * missing


def _default_predictions(output: Any, batch: Batch, keep_first: int) -> Tensor:
    """Log-probabilities (n, classes) of logits, else the first tensor (n, width)."""
    mask = counted_tokens(batch, keep_first)
    if _has_classes(output):
        return counted_rows(output.logits, mask).float().log_softmax(-1)
    first = first_tensor(output)
    if first is None:
        raise InputError(f"the model returns a {type(output).__name__} without a tensor")
    return counted_rows(first, mask).float()


def _has_classes(output: Any) -> bool:
    """Whether there are logits of several classes; a single one's probability is always 1."""
    logits = getattr(output, "logits", None)
    return isinstance(logits, Tensor) and logits.shape[-1] > 1


def _initial_updates(plan: ThresholdPlan, model: nn.Module, learning: Learning) -> Updates:
    """The learned tensors before the first step, as copies.

    They are float32 whatever the model's dtype: in a narrower one, Adam's steps would round away.
    """
    generator = torch.Generator().manual_seed(learning.seed)
    device = next(model.parameters()).device
    own = partial(Tensor.to, device=device, dtype=torch.float32, copy=True)
    values = {name: own(value) for name, value in plan.updates.values.items()}
    low_rank = {name: (own(up), own(down)) for name, (up, down) in plan.updates.low_rank.items()}
    if "norms" in learning.parts:
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                values.setdefault(name, own(parameter.detach()))
    if "low_rank" in learning.parts:
        shared = shared_parameters(model)
        for reader in (reader for site in plan.sites for reader in site.readers):
            linear = model.get_submodule(reader)
            if id(linear.weight) not in shared:
                up, down = _zero_correction(linear, learning.rank, generator)
                low_rank.setdefault(reader, (own(up), own(down)))
    return Updates(values, low_rank)


def _zero_correction(
    linear: nn.Module, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Factors whose product is 0, because the first one is."""
    inputs, outputs = weight_t(linear).shape
    return torch.zeros(outputs, rank), torch.randn(rank, inputs, generator=generator) / inputs**0.5
