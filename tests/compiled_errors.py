"""What a user reads of an error that is raised while torch.compile traces."""

import re

import torch


def in_compiled_code(text: str, error: str = "InputError") -> str:
    """The pattern that shows: the text, or for torch before 2.9 only the class of the error."""
    minor = int(torch.__version__.split(".")[1])
    return re.escape(text) if minor >= 9 else rf"UserDefinedExceptionObjectVariable\({error}\)"
