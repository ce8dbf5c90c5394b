"""Which settings of a training fit which autoencoder."""

from sparsact._common.errors import InputError
from sparsact.sae.kinds import SparsityTerm
from sparsact.sae.sae_config import SAETrainConfig
from sparsact.sae.sae_model import SparseAutoencoder


def check_options(
    config: SAETrainConfig, sae: SparseAutoencoder, term: SparsityTerm | None
) -> None:
    """Raise if an option of the training does not fit the autoencoder.

    Raises:
        InputError: a ValueError: an autoencoder that normalises each input; prefixes or a k_start
            above the number of latents; a k_start or p_end for a kind that has no k, or no L1
            penalty.
    """
    shape = sae.config
    if shape.normalize != "none":
        raise InputError("an autoencoder with normalize= can be used, but not trained")
    if config.prefixes and config.prefixes[-1] >= shape.d_sae:
        raise InputError(
            f"prefixes={config.prefixes} must be below d_sae={shape.d_sae}, which always counts"
        )
    if config.k_start is not None and not shape.selects:
        raise InputError(f"k_start= needs a kind that selects, not {shape.activation!r}")
    if config.k_start is not None and config.k_start > shape.d_sae:
        raise InputError(f"k_start={config.k_start} exceeds d_sae={shape.d_sae}")
    if config.p_end != 1 and (term is None or not term.can_anneal):
        raise InputError(f"p_end= needs an L1 penalty, which {shape.activation!r} does not have")
