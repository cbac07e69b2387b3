"""The README's Python runs as it stands there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=["notebook", "own-policy"])
def test_the_python_of_the_readme_runs_and_prints(code, capsys):
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    assert "nan" not in capsys.readouterr().out
