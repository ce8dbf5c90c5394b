"""What a model whose layers are sparse needs besides them."""

from torch import nn

from sparsact.calibration.first_positions import FirstPositions
from sparsact.calibration.plan import ThresholdPlan
from sparsact.calibration.token_positions import sequence_readers
from sparsact.hooks import around_forward
from sparsact.inference.module_places import module_places, put
from sparsact.inference.rms_norm import as_rms_norm
from sparsact.inference.sparse_linear import SparseLinear


def find_first_positions(model: nn.Module, keep_first: int) -> FirstPositions | None:
    """Hooks that find the first tokens of each sequence, which stay dense; None if there are none.

    Raises:
        AttributeError: the model has no sequences; see `sequence_readers`.
    """
    if keep_first == 0:
        return None
    first_positions = FirstPositions(keep_first)
    # bound methods as hooks: a copy of the model gets a copy of `first_positions`
    for reader in sequence_readers(model):
        around_forward(reader, first_positions.start, first_positions.end)
    return first_positions


def connect(
    model: nn.Module, plan: ThresholdPlan, first_positions: FirstPositions | None
) -> nn.Module:
    """Let the layers of a site compute together, and norms take one call; for inference only.

    Args:
        model: the plan's layers in it are sparse.
        plan: of these layers.
        first_positions: see `find_first_positions`.
    """
    for site in plan.sites:
        layers = [model.get_submodule(reader) for reader in site.readers]
        SparseLinear.share(layers, first_positions)  # type: ignore[arg-type]
    places = module_places(model)
    for module in list(model.modules()):
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # it reads weights without calling the layers
        norm = as_rms_norm(module) if id(module) in places else None
        if norm is not None:
            put(norm, places[id(module)])
    return model.eval().requires_grad_(False)
