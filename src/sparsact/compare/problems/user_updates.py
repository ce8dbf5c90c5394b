"""Which optimizer trains a user's model: the user's, that of its module, or one by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from sparsact._common.errors import InputError
from sparsact.compare.problems.lightning_module import (
    is_lightning,
    methods_not_called,
    own_updates,
)
from sparsact.compare.problems.problem import UpdatesMaker
from sparsact.compare.problems.table_problem import make_updates
from sparsact.compare.problems.updates import Updates, updates_of
from sparsact.compare.problems.user_code import user_code
from sparsact.compare.settings.training_plan import Plan


def updates_maker(
    plan: Plan, optimizer: str | Callable[..., Any] | None, model: nn.Module
) -> tuple[UpdatesMaker, str, tuple[str, ...]]:
    """Choose the optimizer.

    Args:
        plan: has the name of the optimizer, and the learning rate.
        optimizer: the argument of the user; None: that of ``configure_optimizers``, or by name.
        model: one that is not trained.

    Returns:
        what makes it, how the report calls it, and remarks for the user.
    """
    config = plan.config
    if callable(optimizer):
        if config.lr == "auto":
            raise InputError("lr=auto needs the built-in optimizers: leave out optimizer=")
        return _of_user(optimizer), "your optimizer", _not_used(model, "optimizer= was given")
    name = optimizer or config.optimizer
    rate = f"learning rate {'of each setting' if config.lr == 'auto' else format(plan.lr, 'g')}"
    by_name: UpdatesMaker = lambda model, lr: make_updates(model, name, lr)  # noqa: E731
    described = f"{name}, {rate}"
    if optimizer is not None:
        return by_name, described, _not_used(model, f"optimizer={name} was given")
    if config.lr == "auto":
        return by_name, described, _not_used(model, "lr=auto searches the rate of a named one")
    updates, remark = own_updates(model)
    remarks = (remark,) if remark else ()
    if updates is None:
        return by_name, described, remarks
    return _of_module, "the optimizer of configure_optimizers", remarks


def remarks_on_methods(model: nn.Module, loss: object) -> tuple[str, ...]:
    """One line for all that a module in the manner of Lightning defines and that is not called."""
    names = methods_not_called(model)
    if loss is not None and is_lightning(model):
        names = ("training_step", *names)
    if not names:
        return ()
    return (f"a comparison does not call these methods of the model: {', '.join(names)}",)


def _not_used(model: nn.Module, why: str) -> tuple[str, ...]:
    updates, remark = own_updates(model)
    if updates is None:
        return (remark,) if remark else ()
    return (f"configure_optimizers is not used: {why}",)


def _of_module(model: nn.Module, lr: float) -> Updates:
    updates, remark = own_updates(model)
    if updates is None:
        raise InputError(remark or "configure_optimizers returned nothing")
    return updates


def _of_user(optimizer: Callable[..., Any]) -> UpdatesMaker:
    def make(model: nn.Module, lr: float) -> Updates:
        with user_code("optimizer="):
            made = optimizer(model.parameters())
        try:
            updates = updates_of(made)
        except InputError as error:
            raise InputError(f"optimizer= {error}") from error
        own = set(map(id, model.parameters()))
        groups = updates.optimizer.param_groups
        if not all(id(p) in own for group in groups for p in group["params"]):
            raise InputError("optimizer= must take the parameters that it is given, no others")
        return updates

    return make
