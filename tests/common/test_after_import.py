"""An addition is imported with the module that it waits for."""

import sys

import pytest

from sparsact._common.after_import import after_import


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Two modules that write down that they ran, and where."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ran.py").write_text("order = []\n")
    for name in ("awaited", "added"):
        (tmp_path / f"{name}_module.py").write_text(f"import ran\nran.order.append({name!r})\n")
    before = list(sys.meta_path)
    yield
    assert sys.meta_path == before
    for name in ("ran", "awaited_module", "added_module"):
        sys.modules.pop(name, None)


def order():
    import ran

    return ran.order


def test_it_follows_a_later_import(modules):
    after_import("awaited_module", "added_module")
    assert "added_module" not in sys.modules
    import awaited_module  # noqa: F401

    assert order() == ["awaited", "added"]


def test_it_is_imported_now_if_the_module_is_there(modules):
    import awaited_module  # noqa: F401

    after_import("awaited_module", "added_module")
    assert order() == ["awaited", "added"]
