"""What mypyc leaves out of the garbage collector must not be able to stand in a cycle: it would never be freed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARMLESS = {"int", "float", "bool", "str", "bytes", "None", "tuple", "list", "EventRow"}
HOLDS_NO_EXCHANGE = {"Trace"}
"""Others that such classes refer to, and that refer to none of them."""


def _acyclic() -> dict[str, tuple[Path, ast.ClassDef]]:
    found = {}
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("acyclic=True" in ast.unparse(d) for d in node.decorator_list):
                found[node.name] = (path, node)
    return found


ACYCLIC = _acyclic()


def test_there_are_some() -> None:
    assert {"Entry", "Exchange", "Message"} <= set(ACYCLIC)


@pytest.mark.parametrize("name", sorted(ACYCLIC))
def test_it_holds_nothing_that_could_lead_back(name: str) -> None:
    _, node = ACYCLIC[name]
    assert not node.bases
    annotations = [each.annotation for each in ast.walk(node) if isinstance(each, ast.AnnAssign)]
    (made,) = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    annotations += [each.annotation for each in made.args.args[1:] if each.annotation is not None]
    words = {each.id for one in annotations for each in ast.walk(one) if isinstance(each, ast.Name)}
    assert words <= HARMLESS | HOLDS_NO_EXCHANGE | (set(ACYCLIC) - {name})


def test_none_of_them_leads_to_another_that_leads_back() -> None:
    """A row of references, each to what is made before it."""
    refers = {
        name: {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and each.id in ACYCLIC} - {name}
        for name, (_, node) in ACYCLIC.items()
    }
    done: set[str] = set()
    while ready := {name for name, others in refers.items() if name not in done and others <= done}:
        done |= ready
    assert done == set(refers)
