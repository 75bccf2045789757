"""Evaluates arithmetic in a question, by Python's own parser and without `eval`."""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: dict[type, Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
LONGEST = 100  # characters of an expression
LARGEST_POWER = 64
EXPRESSION = re.compile(r"[-+(]*\d[\d\s.+\-*/%()^×÷]*[\d)]")
PERCENT = re.compile(r"(\d+(?:\.\d+)?) ?(?:%|per ?cent) of (\d+(?:\.\d+)?)")


def find(text: str) -> str | None:
    """Find a percentage of a number, or the first expression with an operator. None if absent."""
    if share := PERCENT.search(text[:2000]):
        return f"{share[1]} / 100 * {share[2]}"
    for match in EXPRESSION.finditer(text[:2000]):
        expression = match[0].strip()
        if re.search(r"[-+*/%^×÷]", expression[1:]) and len(expression) <= LONGEST:
            return expression.replace("×", "*").replace("÷", "/").replace("^", "**")
    return None


def evaluate(expression: str) -> int | float:
    """The value of the expression. Raises `ValueError` if it is not small, plain arithmetic."""
    try:
        value = _value(ast.parse(expression[:LONGEST], mode="eval").body)
    except (SyntaxError, ArithmeticError, MemoryError, RecursionError) as error:
        raise ValueError("this cannot be calculated") from error
    if not isinstance(value, int | float):
        raise ValueError("this has no real value")
    return value


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in UNARY:
            return UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in BINARY:
            values = _value(left), _value(right)
            if isinstance(sign, ast.Pow) and max(map(abs, values)) > LARGEST_POWER:
                raise ValueError("these numbers are too large")
            return BINARY[type(sign)](*values)
    raise ValueError("this is no arithmetic")
