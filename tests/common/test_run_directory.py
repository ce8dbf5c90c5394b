import json

import pytest

from sparsact._common.errors import InputError, MissingInputError, OutputError, SparsactError
from sparsact._common.run_directory import STATE_FILE, RunDirectory, output_directory


def test_a_run_is_created_and_opened_again(tmp_path):
    run = RunDirectory.create(tmp_path / "a" / "b", {"config": {"steps": 3}})
    run.state["status"] = "complete"
    run.save()
    again = RunDirectory.open(tmp_path / "a" / "b")
    assert again.state == run.state
    assert again.state["config"] == {"steps": 3}
    assert set(again.state["versions"]) == {"sparsact", "torch"}


def test_a_directory_in_use_is_refused(tmp_path):
    RunDirectory.create(tmp_path / "run", {})
    with pytest.raises(InputError, match=r"exists already: choose another out=.*resume="):
        RunDirectory.create(tmp_path / "run", {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no run"):
        RunDirectory.create(tmp_path / "full", {})
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="is a file"):
        RunDirectory.create(tmp_path / "full" / "notes.txt", {})


def test_leftovers_and_empty_directories_are_accepted(tmp_path):
    (tmp_path / "run" / "activations").mkdir(parents=True)
    RunDirectory.create(tmp_path / "run", {}, leftovers=("activations",))
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", {})
    assert (tmp_path / "empty" / STATE_FILE).is_file()


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_state_is_named(tmp_path, content):
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        RunDirectory.open(tmp_path)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(MissingInputError, match="holds no run"):
        RunDirectory.open(tmp_path / "nowhere")


def test_a_directory_that_stays_empty_is_removed(tmp_path):
    with pytest.raises(RuntimeError), output_directory(tmp_path / "out"):
        raise RuntimeError
    assert not (tmp_path / "out").exists()
    with output_directory(tmp_path / "out"):
        (tmp_path / "out" / "plan.json").write_text(json.dumps({}))
    assert (tmp_path / "out").is_dir()


def test_errors_are_those_that_python_users_expect():
    assert issubclass(InputError, ValueError)
    assert issubclass(MissingInputError, ValueError)
    assert issubclass(MissingInputError, FileNotFoundError)
    assert issubclass(OutputError, OSError)
    assert all(issubclass(error, SparsactError) for error in (InputError, OutputError))
    assert str(MissingInputError("there is no file x")) == "there is no file x"
