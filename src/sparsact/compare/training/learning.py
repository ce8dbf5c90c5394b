"""How a model learns from a batch: its prediction, and the loss."""

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sparsact.compare.problems.batches import Batch
from sparsact.compare.problems.exchange import call_model
from sparsact.hooks import first_tensor

Loss = Callable[[Any, Any], Tensor]
"""Takes the output of a model and the target; returns a scalar."""


class Learning(ABC):
    """Where the loss and the prediction of a model come from."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss, a scalar to minimise."""

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """The prediction alone."""

    @abstractmethod
    def both(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss and the prediction, by one forward where that is possible."""


class LossOfOutput(Learning):
    """A loss of the model's output and the target.

    Args:
        function: the loss.
        of_prediction: whether it takes the prediction, a tensor, instead of the output as it is.
    """

    def __init__(self, function: Loss, *, of_prediction: bool = True) -> None:
        self.function = function
        self.of_prediction = of_prediction

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss, a scalar to minimise."""
        return self.both(model, batch)[0]

    def predict(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """The prediction alone."""
        return prediction_in(call_model(model, batch.inputs))

    def both(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss and the prediction."""
        output = call_model(model, batch.inputs)
        prediction = prediction_in(output)
        loss = self.function(prediction if self.of_prediction else output, batch.target)
        return loss, prediction


class LossInOutput(Learning):
    """The loss that a model of transformers returns beside its logits."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss, a scalar to minimise."""
        return self.both(model, batch)[0]

    def predict(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """The prediction alone."""
        return self.both(model, batch)[1]

    def both(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss and the prediction."""
        output = call_model(model, batch.inputs)
        return output.loss, prediction_in(output)


class LossOfStep(Learning):
    """The loss that ``training_step`` of a module in the manner of Lightning returns."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss, a scalar to minimise."""
        step: Any = model.training_step
        takes_index = len(inspect.signature(step).parameters) > 1
        with warnings.catch_warnings():  # of Lightning, that there is no trainer to log to
            warnings.filterwarnings("ignore", message=r".*self\.log\(\)")
            result = step(batch.raw, 0) if takes_index else step(batch.raw)
        loss: Tensor = result["loss"] if isinstance(result, dict) else result
        return loss

    def predict(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """The prediction alone."""
        return prediction_in(call_model(model, batch.inputs))

    def both(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss and the prediction; the prediction first, so that gradients are the loss's."""
        prediction = self.predict(model, batch)
        return self.loss(model, batch), prediction


def prediction_in(output: Any) -> Tensor | None:
    """The tensor of an output that predicts: its ``logits``, or else its first tensor."""
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else first_tensor(output)
