import pytest

from sparsact._common.errors import MissingExtraError, SparsactError
from sparsact._common.extras import require


def test_a_missing_extra_is_an_import_error_that_names_it():
    with pytest.raises(ImportError, match=r"pip install 'sparsact\[denoise\]'") as caught:
        require("no_such_module", "denoise")
    assert isinstance(caught.value, SparsactError | MissingExtraError)
    assert require("json", "denoise").dumps([]) == "[]"
