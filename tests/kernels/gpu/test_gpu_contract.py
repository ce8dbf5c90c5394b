"""The contract tests of the CPU's kernels, on Triton's kernels in its interpreter."""

import importlib

import pytest

pytestmark = pytest.mark.usefixtures("triton_on_the_cpu")

CONTRACT = {
    "csr_linear": [
        "equals_embedding_bag",
        "gradients_equal_those_of_the_dense_product",
        "nan_and_inf_propagate",
        "opcheck",
        "operations_reject_wrong_shapes",
        "reaches_the_dense_input_through_threshold_compress",
        "strided_operands_are_copied",
    ],
    "gather_linear": [
        "each_row_is_thresholded_separately",
        "leading_dims",
        "nothing_is_changed_in_place",
        "opcheck",
        "strided_inputs_are_copied",
        "threshold_is_not_rounded_to_bfloat16",
        "weights_of_inactive_inputs_have_no_effect",
        "wrong_arguments",
        "wrong_lists",
    ],
    "linear_topk": [
        "gradients_equal_those_of_the_dense_product",
        "opcheck",
        "other_selection_dtypes_are_rejected",
        "strided_inputs_are_copied",
        "wrong_arguments",
    ],
}

for kernel, names in CONTRACT.items():
    module = importlib.import_module(f"test_{kernel}")
    for name in names:
        globals()[f"test_{kernel}_{name}"] = getattr(module, f"test_{name}")
