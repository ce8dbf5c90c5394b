"""What `import sparsact` loads."""

from subprocess_python import python


def test_the_compiler_is_not_loaded():
    shown = python("import sys, sparsact.cli; print('torch._dynamo' in sys.modules)")
    assert shown == ["False"]
