"""Language models and text: loading models, reading text, rows of tokens."""

from sparsact.text.models import load_language_model, open_model
from sparsact.text.reference import reference_text
from sparsact.text.tokens import DATASET, DatasetPart, Tokens, pack_tokens, read_tokens

__all__ = [
    "DATASET",
    "DatasetPart",
    "Tokens",
    "load_language_model",
    "open_model",
    "pack_tokens",
    "read_tokens",
    "reference_text",
]
