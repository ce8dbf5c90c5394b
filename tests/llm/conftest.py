import pytest
import torch

from tiny_language import TEXT, save_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A directory of a tiny random Llama with its tokenizer."""
    return save_model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A file of 4096 tokens of it."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(len(TEXT), (4096,), generator=generator)
    file.write_text(" ".join(TEXT[i] for i in words), encoding="utf-8")
    return file
