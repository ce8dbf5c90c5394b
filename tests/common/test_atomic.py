import errno

import pytest

from sparsact._common.atomic import write_files, write_text
from sparsact._common.errors import OutputError


def test_a_failure_leaves_every_previous_file_and_nothing_unfinished(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    write_text(first, "old")

    def refuse(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"b\.txt could not be written \(No space.*free some"):
        write_files({first: lambda path: path.write_text("new"), second: refuse})
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert first.read_text() == "old"


def test_all_files_are_replaced_together(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    write_text(paths[0], "old")
    write_files({path: lambda new: new.write_text("new") for path in paths})
    assert [path.read_text() for path in paths] == ["new", "new"]
    assert sorted(tmp_path.iterdir()) == paths
