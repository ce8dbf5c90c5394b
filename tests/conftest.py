import sys
from pathlib import Path

import hypothesis
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore = ["sae/peers"]  # run by hand, in an environment that has the other libraries


# a first call compiles, and machines are shared: time decides nothing
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
_ALL_THREADS = torch.get_num_threads()
torch.set_num_threads(1)  # small tensors; parallel test workers would starve each other


# random tensors are the same in every run: those of a module's own lines, of fixtures, of tests
def pytest_collectstart() -> None:
    torch.manual_seed(0)


def pytest_runtest_setup() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _threads(request):
    """Real models, which are tested one by one, have the whole machine."""
    if request.node.get_closest_marker("models") is None:
        yield
        return
    torch.set_num_threads(_ALL_THREADS)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A directory of a tiny random Llama with its tokenizer."""
    from tiny_language import save_model

    return save_model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A file of 4096 tokens of it."""
    from tiny_language import TEXT

    file = tmp_path_factory.mktemp("text") / "text.txt"
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(len(TEXT), (4096,), generator=generator)
    file.write_text(" ".join(TEXT[i] for i in words), encoding="utf-8")
    return file


@pytest.fixture
def sparsact(sparsact_lines):
    """Runs a command in this process; its status, what it showed, what it said, on one line."""

    def run(*arguments):
        status, out, err = sparsact_lines(*arguments)
        return status, out, " ".join(err.split())

    return run


@pytest.fixture
def sparsact_lines(monkeypatch, capsys):
    """The same, with the lines of what it said."""
    from sparsact.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sparsact", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run
