import pytest

from sparsact.cli import main


@pytest.fixture
def sparsact(monkeypatch, capsys):
    """Runs a command in this process; its status, what it showed, what it said, on one line."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sparsact", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code, out, " ".join(err.split())

    return run
