"""What a training leaves: its record and its weights."""

from torch import Tensor

from sparsact.compare.training.trial_record import TrialRecord

Trained = tuple[TrialRecord, dict[str, Tensor]]
Key = tuple[str, int]
"""The label of the setting, and the seed."""


def key_of(record: TrialRecord) -> Key:
    """The key of a training."""
    return record.setting, record.seed
