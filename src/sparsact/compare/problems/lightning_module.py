"""What a module in the manner of Lightning defines besides its network and ``training_step``."""

import warnings
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sparsact._common.errors import InputError
from sparsact.compare.problems.updates import Updates, updates_of

NOT_CALLED = (
    *("setup", "configure_model", "validation_step", "test_step", "predict_step"),
    *("optimizer_step", "optimizer_zero_grad", "lr_scheduler_step", "configure_gradient_clipping"),
    *("on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start"),
    *("on_train_batch_end", "on_train_epoch_end", "on_before_optimizer_step", "on_after_backward"),
    *("on_before_zero_grad", "on_before_backward", "backward", "transfer_batch_to_device"),
    *("on_before_batch_transfer", "on_after_batch_transfer", "configure_callbacks"),
    *("train_dataloader", "val_dataloader", "on_validation_epoch_end", "on_train_end"),
)
"""Methods that a Trainer calls and a comparison does not."""


def is_lightning(model: nn.Module) -> bool:
    """Whether a model says itself how it is trained."""
    return callable(getattr(model, "training_step", None))


def check_lightning(model: nn.Module) -> None:
    """Raise InputError if a module makes its updates itself, in ``training_step``."""
    if is_lightning(model) and getattr(model, "automatic_optimization", True) is False:
        raise InputError(
            "the model has automatic_optimization=False, so its training_step makes the updates "
            "itself: pass loss=, or return the loss from training_step"
        )


def methods_not_called(model: nn.Module) -> tuple[str, ...]:
    """The methods that the user wrote for a Trainer and that a comparison does not call."""
    if not is_lightning(model):
        return ()
    return tuple(name for name in NOT_CALLED if _is_own(model, name))


def own_updates(model: nn.Module) -> tuple[Updates | None, str]:
    """What ``configure_optimizers`` makes, and a remark for the user.

    Returns:
        the updates, None if there are none; and the remark, "" if nothing was written.
    """
    if not is_lightning(model) or not _is_own(model, "configure_optimizers"):
        return None, ""
    configure: Any = model.configure_optimizers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            updates = updates_of(configure())
    except InputError as error:
        return None, f"configure_optimizers is not used: it {error}"
    except Exception as error:  # such as that there is no Trainer
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
        return None, f"configure_optimizers is not used: it raised {text}"
    remark = "the optimizer is that of configure_optimizers; lr= and optimizer= do not apply"
    if any(isinstance(s.scheduler, ReduceLROnPlateau) for s in updates.schedules):
        remark += "; its ReduceLROnPlateau sees the validation score of each epoch"
    return updates, remark


def _is_own(model: nn.Module, name: str) -> bool:
    """Whether a method is the user's, and not the default of Lightning or torch."""
    method = getattr(type(model), name, None)
    package = str(getattr(method, "__module__", "")).partition(".")[0]
    return callable(method) and package not in ("lightning", "pytorch_lightning", "torch")
