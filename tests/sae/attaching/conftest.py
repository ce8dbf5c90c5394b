import pytest

from tiny_language import llama


@pytest.fixture(scope="module")
def model():
    return llama()
