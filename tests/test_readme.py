"""The code in the README runs."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_python_block():
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(block, names)
    assert names["loss"].isfinite()
