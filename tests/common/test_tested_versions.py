import importlib.metadata
import subprocess
import sys
import warnings

import pytest

from sparsact._common.tested_versions import (
    TESTED,
    UntestedVersionWarning,
    _minor,
    warn_if_untested,
)


@pytest.fixture(autouse=True)
def _anew():
    warn_if_untested.cache_clear()
    yield
    warn_if_untested.cache_clear()


@pytest.mark.parametrize("version", ["3.0.0", "2.99.1", "2.99.0+cpu"])
def test_a_newer_minor_version_warns_once_and_names_both(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: version)
    with pytest.warns(UntestedVersionWarning) as caught:
        warn_if_untested("torch")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_untested("torch")
    assert f"torch {version} is newer than {TESTED['torch']}" in str(caught[0].message)


@pytest.mark.parametrize("version", ["2.8.0", TESTED["torch"], f"{TESTED['torch']}.7+cu130"])
def test_a_tested_version_does_not_warn(monkeypatch, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_untested("torch")


def test_a_package_that_is_missing_or_not_declared_does_not_warn(monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    warn_if_untested("transformers")
    warn_if_untested("rich")


def test_minor_versions_are_compared_as_numbers():
    assert _minor("2.10.1") > _minor("2.9")


def test_import_warns_of_a_newer_torch():
    code = (
        "import importlib.metadata as m; real = m.version\n"
        "m.version = lambda name: '99.0' if name == 'torch' else real(name)\n"
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always'); import sparsact\n"
        "print([str(w.message) for w in caught if 'newer than' in str(w.message)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.count("torch 99.0 is newer than") == 1
