"""Deprecated names warn once, at the caller's line, and still work."""

import warnings

import pytest

from sparsact._common.deprecation import deprecated, warn_deprecated


def test_a_deprecated_function_warns_and_still_works():
    @deprecated("sparsact.add", removed_in="0.4", use="sparsact.plus")
    def add(first, second=1):
        """Add."""
        return first + second

    with pytest.warns(
        DeprecationWarning, match=r"sparsact.add .* in 0.4; use sparsact.plus"
    ) as seen:
        assert add(2, second=3) == 5
    assert seen[0].filename == __file__
    assert add.__name__ == "add"
    assert add.__doc__ == "Add."


def test_the_warning_comes_once():
    @deprecated("sparsact.often_called", removed_in="0.4", use="sparsact.plus")
    def often_called():
        return 1

    with pytest.warns(DeprecationWarning, match="often_called"):
        often_called()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert often_called() == 1


def test_a_deprecated_argument_warns_at_the_caller():
    def shrink(x, threshold=None):
        if threshold is not None:
            warn_deprecated("shrink(threshold=)", removed_in="0.4", use="shrink(lambd=)")
        return x

    with pytest.warns(DeprecationWarning, match=r"use shrink\(lambd=\)") as seen:
        shrink(1, threshold=2)
    assert seen[0].filename == __file__
