"""Language models and text: loading models, reading text, rows of tokens."""

from sparsact.text.language_models import load_language_model
from sparsact.text.python_reference import reference_text
from sparsact.text.tokens import DATASET, DatasetPart, Tokens, pack_tokens, read_tokens

__all__ = [
    "DATASET",
    "DatasetPart",
    "Tokens",
    "load_language_model",
    "pack_tokens",
    "read_tokens",
    "reference_text",
]
