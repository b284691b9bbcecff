"""The plan runs anywhere: checked against the interpreter's own list of its modules."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import peakclip_operator.plan as plan

_IMPURE = {"asyncio", "time", "datetime", "random", "os", "logging", "threading", "socket", "subprocess"}


def test_the_plan_imports_the_standard_library_only_and_nothing_impure() -> None:
    files = list(Path(plan.__file__).parent.glob("*.py"))
    assert len(files) >= 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if (file.name, name) == (
                    "periods.py",
                    "datetime",
                ):  # a calendar; its clock is looked for below
                    continue
                assert top in sys.stdlib_module_names - _IMPURE or name.startswith(
                    "peakclip_operator.plan"
                ), file


def test_the_calendar_of_the_plan_asks_no_clock() -> None:
    tree = ast.parse((Path(plan.__file__).parent / "periods.py").read_text())
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not asked & {"now", "utcnow", "today"}
