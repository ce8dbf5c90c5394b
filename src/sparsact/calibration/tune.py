"""Learning what a plan leaves to be learned, by distillation from the dense model."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from sparsact._common.progress import Progress
from sparsact.calibration.batches import (
    Batch,
    Target,
    counted,
    rows_of,
    run,
    that_count,
    unchanged,
)
from sparsact.calibration.correct import LARGEST, SMALLEST, corrected
from sparsact.calibration.measure import byte_sparsity
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.simulate import Simulation, check_dense
from sparsact.calibration.sites import weight_t
from sparsact.calibration.updates import Updates
from sparsact.hooks import first_tensor, shared_parameters
from sparsact.thresholds.hardshrink import hardshrink

LEARNED = ("norms", "low_rank", "thresholds")

_WARMUP = 5  # steps
_FIRST_LR, _FURTHER_LR = 2e-3, 2e-4  # the first has all the way to go
_BANDWIDTH = 0.2  # of a threshold, within which it receives a gradient
_THRESHOLD_LR = 0.005  # in a threshold's logarithm
_HOLD = 0.3  # how much of the sparsity it lacks a step makes up for, in the logarithm likewise


def tune(
    plan: ThresholdPlan,
    model: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    *,
    learn: Sequence[str],
    lr: float | None,
    rank: int,
    target: Target | None,
    seed: int,
    progress: Progress | None,
) -> ThresholdPlan:
    """See :meth:`sparsact.calibration.ThresholdPlan.tune`."""
    _check(steps, learn, rank)
    batches = that_count(batches, plan.keep_first, "tune")
    plan.check(model)
    check_dense(model)
    if lr is None:
        lr = _FURTHER_LR if plan.updates else _FIRST_LR
    with unchanged(model):
        student = _Student(model, plan, learn, rank, target, seed)
        for step, batch in enumerate(_in_turn(batches, steps, seed)):
            with torch.no_grad():
                wanted = student.predicted(run(model, batch), batch)
            slowed = min(1, (step + 1) / _WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
            student.step(batch, wanted, lr * slowed, _THRESHOLD_LR * slowed)
            if progress is not None:
                progress(step + 1, steps, "tuning")
        return corrected(student.plan(), model, batches)


class _Student:
    """The sparse model, and what of it is learned; between steps the model is the dense one."""

    def __init__(
        self,
        model: nn.Module,
        plan: ThresholdPlan,
        learn: Sequence[str],
        rank: int,
        target: Target | None,
        seed: int,
    ) -> None:
        self.model, self.before, self.learn, self.target = model, plan, learn, target
        device = next(model.parameters()).device
        self.thresholds = {
            name: level.to(device).clamp(SMALLEST, LARGEST)
            for name, level in plan.thresholds.items()
        }
        self.factors = {  # of a site's thresholds, in logarithms
            site.name: torch.zeros((), device=device, requires_grad="thresholds" in learn)
            for site in plan.sites
        }
        begun = _beginning(plan, model, learn, rank, seed)
        self.values, self.low_rank = begun.values, begun.low_rank
        self.zeros: dict[str, float] = {}  # share of each site in the last forward
        self.near: dict[str, float] = {}  # share that is within the bandwidth of a threshold
        self._kept: Tensor | None = None
        self.optimizer = torch.optim.Adam(self._groups(), betas=(0.9, 0.98))

    def step(self, batch: Batch, wanted: Tensor, lr: float, threshold_lr: float) -> None:
        """One step towards what the dense model predicted; a loss that is not finite raises."""
        for group in self.optimizer.param_groups:
            group["lr"] = threshold_lr if group["thresholds"] else lr
        with torch.enable_grad():
            loss = self._loss(batch, wanted)
        if not bool(loss.isfinite()):
            raise ValueError("the loss of tuning became NaN or infinite: take a smaller lr")
        self.optimizer.zero_grad()
        loss.backward()
        self._along_the_sparsity()
        self.optimizer.step()
        self._hold_the_sparsity()

    def predicted(self, output: Any, batch: Batch) -> Tensor:
        """What of the output is to stay as the dense model has it."""
        if self.target is not None:
            return self.target(output, batch).float()
        return _predicted(output, batch, self.before.keep_first)

    def plan(self) -> ThresholdPlan:
        """The plan with everything that was learned."""
        thresholds = {
            name: level * self.factors[name].detach().exp().to(level.device)
            for name, level in self.before.thresholds.items()
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
            self.before,
            thresholds={name: level.clamp(max=largest) for name, level in thresholds.items()},
            updates=updates,
            achieved={},
        )

    def _groups(self) -> list[dict[str, Any]]:
        learned = []
        if "norms" in self.learn:
            learned += list(self.values.values())
        if "low_rank" in self.learn:
            learned += [factor for pair in self.low_rank.values() for factor in pair]
        for tensor in learned:
            tensor.requires_grad_()
        groups: list[dict[str, Any]] = [{"params": learned, "thresholds": False}]
        if "thresholds" in self.learn:
            groups.append({"params": list(self.factors.values()), "thresholds": True})
        return [group for group in groups if group["params"]]

    def _loss(self, batch: Batch, wanted: Tensor) -> Tensor:
        """The KL divergence from the dense model, or where not logits count, the squared error."""
        self._kept = counted(batch, self.before.keep_first)
        handles = [
            self.model.get_submodule(reader).register_forward_hook(_adding(*factors))
            for reader, factors in self.low_rank.items()
        ]
        simulation = Simulation(self.model, self.before.sites, self._shrink, self.before.keep_first)
        try:
            output = run(self.model, batch, self._values())
        finally:
            simulation.remove()
            for handle in handles:
                handle.remove()
        found = self.predicted(output, batch)
        if self.target is None and _has_classes(output):
            return kl_div(found, wanted, reduction="batchmean", log_target=True)
        return (found - wanted).square().sum() / wanted.square().sum()

    def _values(self) -> dict[str, Tensor]:
        """In the dtypes of the parameters that they take the places of."""
        return {
            name: value.to(self.model.get_parameter(name).dtype)
            for name, value in self.values.items()
        }

    def _shrink(self, name: str, x: Tensor) -> Tensor:
        level, factor = self.thresholds[name], self.factors[name].exp()
        if factor.requires_grad:
            unit = x.float() / level
            shrunk = hardshrink(unit, factor, bandwidth=_BANDWIDTH) * level
            near = (unit.detach().abs() - factor.detach()).abs() < _BANDWIDTH / 2
            self.near[name] = float(near.float().sum()) / max(near.numel(), 1)
        else:
            shrunk = x.masked_fill(x.abs().float() <= level * factor, 0)
        rows = rows_of(shrunk.detach(), self._kept)
        if rows.numel():  # an expert may be given none
            self.zeros[name] = 1 - int(torch.count_nonzero(rows)) / rows.numel()
        return shrunk.to(x.dtype)

    def _along_the_sparsity(self) -> None:
        """Take from the factors' gradient what only lowers or raises the sparsity as a whole."""
        pairs = [(site, self.factors[site.name].grad) for site in self.before.sites]
        found = [(site, grad) for site, grad in pairs if grad is not None]
        if not found:
            return
        slope = torch.tensor([self.near[site.name] * site.weights for site, _ in found])
        gradient = torch.stack([grad.cpu() for _, grad in found])
        gradient -= (gradient @ slope) / (slope @ slope).clamp(min=1e-30) * slope
        for (_, grad), value in zip(found, gradient, strict=True):
            grad.copy_(value)

    def _hold_the_sparsity(self) -> None:
        missing = self.before.sparsity - byte_sparsity(self.before.sites, self.zeros)
        with torch.no_grad():
            for factor in self.factors.values():
                factor += _HOLD * missing


def _check(steps: int, learn: Sequence[str], rank: int) -> None:
    if steps < 1 or rank < 1:
        raise ValueError(f"steps and rank must be at least 1, got {steps} and {rank}")
    if not learn or not set(learn) <= set(LEARNED):
        raise ValueError(f"learn takes some of {', '.join(LEARNED)}; got {tuple(learn)}")


def _in_turn(batches: Sequence[Batch], steps: int, seed: int) -> Iterator[Batch]:
    """`steps` batches, each pass over all of them in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        order = order or torch.randperm(len(batches), generator=generator).tolist()
        yield batches[order.pop()]


def _predicted(output: Any, batch: Batch, keep_first: int) -> Tensor:
    """Log-probabilities (n, classes) where there are logits, else the first tensor (n, width)."""
    kept = counted(batch, keep_first)
    if _has_classes(output):
        return rows_of(output.logits, kept).float().log_softmax(-1)
    found = first_tensor(output)
    if found is None:
        raise ValueError(f"the model gives no tensor but {type(output).__name__}")
    return rows_of(found, kept).float()


def _has_classes(output: Any) -> bool:
    """Whether there are logits, of more than the one class whose probability is always 1."""
    logits = getattr(output, "logits", None)
    return isinstance(logits, Tensor) and logits.shape[-1] > 1


def _beginning(
    plan: ThresholdPlan, model: nn.Module, learn: Sequence[str], rank: int, seed: int
) -> Updates:
    """What is learned as it is before the first step, in tensors of its own.

    In float32, whatever the model has: of a narrower number a step of Adam would round away.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    own = partial(Tensor.to, device=device, dtype=torch.float32, copy=True)
    values = {name: own(value) for name, value in plan.updates.values.items()}
    low_rank = {name: (own(up), own(down)) for name, (up, down) in plan.updates.low_rank.items()}
    if "norms" in learn:
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                values.setdefault(name, own(parameter.detach()))
    if "low_rank" in learn:
        shared = shared_parameters(model)
        for reader in (reader for site in plan.sites for reader in site.readers):
            linear = model.get_submodule(reader)
            if id(linear.weight) not in shared:
                up, down = _low_rank(linear, rank, generator)
                low_rank.setdefault(reader, (own(up), own(down)))
    return Updates(values, low_rank)


def _low_rank(linear: nn.Module, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Factors whose product is 0: the first of them is."""
    inputs, outputs = weight_t(linear).shape
    return torch.zeros(outputs, rank), torch.randn(rank, inputs, generator=generator) / inputs**0.5


def _adding(up: Tensor, down: Tensor) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x = args[0]
        added: Tensor = (x @ down.to(x.dtype).t()) @ up.to(x.dtype).t()
        return output + added

    return hook
