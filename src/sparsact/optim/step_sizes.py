"""The step sizes of torch's optimizers: the factor between a steady gradient and the step."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = Mapping[str, Any]
State = Mapping[str, Any]
StepSize = Callable[[Group, State], float | Tensor]
Rule = Callable[[Group, State, Tensor], float | Tensor]


def step_size_rule(optimizer: Optimizer) -> Rule:
    """From the group and state of a parameter, and the parameter, to its step size.

    Raises:
        TypeError: the step size of this optimizer is not known.
    """
    for cls in type(optimizer).__mro__:
        if cls.__module__.startswith("torch.optim") and cls.__name__ in _RULES:
            return _RULES[cls.__name__]
    name = type(optimizer).__name__
    reason = f" ({_REFUSALS[name]})" if name in _REFUSALS else ""
    raise TypeError(
        f"no step size is known for {name}: pass step_size=, a callable from the group and state "
        f"of a parameter to the factor between its steady gradient and its step{reason}"
    )


def steady_step(rule: Rule, group: Group, state: State, parameter: Tensor) -> float | Tensor:
    """The step size by `rule`; torch keeps a state for each real and imaginary part."""
    if not parameter.is_complex():
        return rule(group, state, parameter)
    size = rule(group, {name: _as_parts(value) for name, value in state.items()}, parameter)
    return torch.view_as_complex(size) if isinstance(size, Tensor) and size.ndim else size


def example_step(rule: Rule | None, parameter: Tensor) -> float | Tensor:
    """A step size of the kind that `rule` returns, to try a prox with."""
    if rule in (None, _sgd) or not parameter.is_complex():
        return 1.0
    return torch.full_like(parameter, 1 + 1j)


def _as_parts(value: Any) -> Any:
    complex_tensor = isinstance(value, Tensor) and value.is_complex()
    return torch.view_as_real(value) if complex_tensor else value


def _sgd(group: Group, state: State, parameter: Tensor) -> float:
    share: float = (1 - group["dampening"]) if group["momentum"] else 1.0
    return float(group["lr"]) * share / (1 - float(group["momentum"]))


def _adam(group: Group, state: State, parameter: Tensor) -> Tensor:
    mean_square: Tensor = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    correction = 1 - float(group["betas"][1]) ** float(state["step"])
    size: Tensor = float(group["lr"]) / (mean_square.sqrt() / math.sqrt(correction) + group["eps"])
    return size


def _nadam(group: Group, state: State, parameter: Tensor) -> Tensor:
    step, (beta1, beta2) = float(state["step"]), map(float, group["betas"])
    now, then = (
        beta1 * (1 - 0.5 * 0.96 ** (number * group["momentum_decay"]))
        for number in (step, step + 1)
    )
    product = float(state["mu_product"])
    factor = (1 - now) / (1 - product) + then * (1 - beta1**step) / (1 - product * then)
    root = state["exp_avg_sq"].sqrt() / math.sqrt(1 - beta2**step)
    size: Tensor = float(group["lr"]) * factor / (root + group["eps"])
    return size


def _radam(group: Group, state: State, parameter: Tensor) -> float | Tensor:
    step, beta2, lr = float(state["step"]), float(group["betas"][1]), float(group["lr"])
    correction, longest = 1 - beta2**step, 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / correction
    if length <= 5:  # the first steps do not divide by the second moment
        return lr
    share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    size: Tensor = lr * math.sqrt(share * correction) / (state["exp_avg_sq"].sqrt() + group["eps"])
    return size


def _adamax(group: Group, state: State, parameter: Tensor) -> Tensor:
    size: Tensor = float(group["lr"]) / state["exp_inf"]
    return size


def _rmsprop(group: Group, state: State, parameter: Tensor) -> Tensor:
    mean_square: Tensor = state["square_avg"]
    if group["centered"]:
        mean_square = mean_square - state["grad_avg"].square()
    lr = float(group["lr"]) / (1 - float(group["momentum"]))
    size: Tensor = lr / (mean_square.sqrt() + group["eps"])
    return size


def _adagrad(group: Group, state: State, parameter: Tensor) -> Tensor:
    total: Tensor = state["sum"]
    decay = 1 + (float(state["step"]) - 1) * float(group["lr_decay"])
    size: Tensor = float(group["lr"]) / decay / (total.sqrt() + group["eps"])
    return size


def _adadelta(group: Group, state: State, parameter: Tensor) -> Tensor:
    eps = group["eps"]
    size: Tensor = float(group["lr"]) * (
        (state["acc_delta"] + eps).sqrt() / (state["square_avg"] + eps).sqrt()
    )
    return size


def _adafactor(group: Group, state: State, parameter: Tensor) -> Tensor:
    step, (eps1, eps2) = float(state["step"]), group["eps"]
    eps1 = torch.finfo(parameter.dtype).eps if eps1 is None else eps1
    if "variance" in state:
        variance: Tensor = state["variance"]
    else:
        rows = state["row_var"]
        variance = rows @ state["col_var"] / rows.mean(dim=-2, keepdim=True).clamp(min=eps1)
    root = variance.clamp(min=eps1 * eps1).rsqrt()
    update = 1.0
    if parameter.grad is not None:  # an update of large mean square is scaled down
        update = max(update, _root_mean_square(root * parameter.grad) / group["d"])
    lr = min(float(group["lr"]), step**-0.5) * max(eps2, _root_mean_square(parameter))
    size: Tensor = root * (lr / update)
    return size


def _root_mean_square(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x.detach())) / math.sqrt(x.numel())


_RULES: dict[str, Rule] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _nadam,
    "RAdam": _radam,
    "Adamax": _adamax,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
    "Adafactor": _adafactor,
}

_REFUSALS = {
    "Rprop": "it follows the sign of a gradient, not its size",
    "ASGD": "it averages weights before the prox, so the average is not sparse; use SGD",
    "LBFGS": "its metric is not diagonal",
    "Muon": "it orthogonalises the gradient, so its step is no multiple of it in each entry",
    "SparseAdam": "it moves only rows that have a gradient; use Adam without sparse=True",
}
