"""`where:` a condition on a row's fields, such as `input == '' and len(output) > 20`.

The expression is Python's syntax, read with `ast` and interpreted here, never by `eval`: field names,
constants, comparisons, `and`/`or`/`not`, `in`, arithmetic without powers, and the functions and text
methods listed below. Nothing else can be called, no attribute can be read, and no result can grow
beyond the size of the row and the expression.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from etude.failures import RecipeError, nearest

Values = Mapping[str, Any]
Part = Callable[[Values], Any]

LONGEST = 2000
"""Most characters of an expression."""
MOST_BITS = 4096
"""Most bits of a whole number that a product may have."""

METHODS = (
    "casefold",
    "count",
    "endswith",
    "find",
    "isalpha",
    "isdigit",
    "lower",
    "lstrip",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "upper",
)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "float": float, "int": int, "len": len, "max": max, "min": min, "round": round, "str": str,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Unfit(Exception):
    """The expression cannot be computed for one row; the text says why."""


@dataclass(frozen=True)
class Where:
    """A condition ready to use: its text, the field names it reads, and the test itself."""

    text: str
    names: frozenset[str]
    test: Part

    def passes(self, values: Values) -> bool:
        """Whether a row passes; a field the row lacks is None. Raises Unfit where types do not fit."""
        try:
            return bool(self.test(values))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise Unfit(f"where `{self.text}` cannot be computed: {error}") from error

    def check(self, known: Iterable[str]) -> None:
        """Raise RecipeError when the condition reads a field that does not exist."""
        fields = set(known)
        for name in sorted(self.names - fields):
            hint = nearest(name, fields | {"True", "False", "None"})
            raise RecipeError(f"where `{self.text}`: there is no field {name!r}{hint}")


def parse(text: str) -> Where:
    """The condition that `text` spells; raises RecipeError saying what is wrong and where."""
    if len(text) > LONGEST:
        raise RecipeError(f"where: the expression has {len(text)} characters; at most {LONGEST} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return Where(text, names(tree), build(tree))
    except SyntaxError as error:
        raise RecipeError(f"where `{text}`: not an expression at character {error.offset or 0} ({error.msg})") from error
    except Refused as error:
        raise RecipeError(f"where `{text}`: {error}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise RecipeError(f"where: the expression is too deep or not text ({type(error).__name__})") from error


def checked(text: str) -> str:
    """The same text, or a placed pydantic error."""
    try:
        parse(text)
    except RecipeError as error:
        raise PydanticCustomError("where", "{why}", {"why": str(error)}) from error
    return text


Expression = Annotated[str, AfterValidator(checked)]
"""The annotation of a settings field that holds such an expression."""


class Refused(Exception):
    """A part of Python that an expression may not use."""


def names(tree: ast.expr) -> frozenset[str]:
    """The field names an expression reads (a called name is a function, not a field)."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called)


def build(node: ast.expr) -> Part:
    """A function of the row's values for one node of the expression; raises Refused."""
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, str | int | float):
            return lambda values: value
        case ast.Name(id=name):
            return lambda values: values.get(name)
        case ast.List() | ast.Tuple() | ast.Set():
            items = [build(item) for item in node.elts]
            return lambda values: tuple(item(values) for item in items)
        case ast.BoolOp():
            return build_bool(node)
        case ast.UnaryOp(operand=operand):
            return build_unary(node.op, build(operand))
        case ast.BinOp():
            return build_arithmetic(node)
        case ast.Compare():
            return build_comparison(node)
        case ast.Call():
            return build_call(node)
    kind = {"Attribute": "reading an attribute", "Subscript": "an index", "Lambda": "a function"}
    name = type(node).__name__
    raise Refused(f"{kind.get(name, name)} is not allowed at character {node.col_offset + 1}")


def build_bool(node: ast.BoolOp) -> Part:
    """`and` and `or`, evaluated from the left and no further than needed."""
    parts = [build(part) for part in node.values]
    together: Callable[[Iterable[Any]], bool] = all if isinstance(node.op, ast.And) else any
    return lambda values: together(part(values) for part in parts)


def build_unary(op: ast.unaryop, part: Part) -> Part:
    """`not`, `-` and `+`."""
    if isinstance(op, ast.Not):
        return lambda values: not part(values)
    if isinstance(op, ast.USub):
        return lambda values: -part(values)
    if isinstance(op, ast.UAdd):
        return lambda values: +part(values)
    raise Refused("'~' is not allowed")


def build_arithmetic(node: ast.BinOp) -> Part:
    """Sums of numbers or of texts; every other operation on numbers only, so that nothing explodes."""
    kind = type(node.op)
    if kind not in ARITHMETIC:
        raise Refused(f"{kind.__name__} is not allowed at character {node.col_offset + 1}; there is + - * / // %")
    left, right, compute = build(node.left), build(node.right), ARITHMETIC[kind]

    def value(values: Values) -> Any:
        a, b = left(values), right(values)
        texts = isinstance(a, str) and isinstance(b, str) and kind is ast.Add
        if not texts and not (isinstance(a, int | float) and isinstance(b, int | float)):
            raise TypeError(f"arithmetic needs numbers, found {kind_of(a)} and {kind_of(b)}")
        if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > MOST_BITS:
            raise OverflowError("the numbers are too large")
        return compute(a, b)

    return value


def build_comparison(node: ast.Compare) -> Part:
    """A chain of comparisons, as in `1 < len(text) <= 9`."""
    parts = [build(node.left), *(build(part) for part in node.comparators)]
    tests = [COMPARISONS[type(op)] for op in node.ops]

    def value(values: Values) -> bool:
        left = parts[0](values)
        for test, part in zip(tests, parts[1:], strict=True):
            right = part(values)
            try:
                if not test(left, right):
                    return False
            except TypeError as error:
                raise TypeError(f"{kind_of(left)} and {kind_of(right)} cannot be compared so") from error
            left = right
        return True

    return value


def build_call(node: ast.Call) -> Part:
    """`len(text)`, `lower(text)` or `text.lower()`; nothing else can be called."""
    if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
        raise Refused("a function takes plain arguments only")
    arguments = [build(argument) for argument in node.args]
    match node.func:
        case ast.Name(id=name) if name in FUNCTIONS:
            function = FUNCTIONS[name]
            return lambda values: function(*(argument(values) for argument in arguments))
        case ast.Name(id=name) if name in METHODS and arguments:
            return method(name, arguments[0], arguments[1:])
        case ast.Attribute(value=owner, attr=name) if name in METHODS:
            return method(name, build(owner), arguments)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            raise Refused(f"{name}() cannot be called{nearest(name, {*FUNCTIONS, *METHODS})}")
    raise Refused("only a named function can be called")


def method(name: str, owner: Part, arguments: list[Part]) -> Part:
    """A text method of the value of `owner`."""

    def value(values: Values) -> Any:
        text = owner(values)
        if not isinstance(text, str):
            raise TypeError(f"{name}() needs text, found {kind_of(text)}")
        return getattr(text, name)(*(argument(values) for argument in arguments))

    return value


def kind_of(value: Any) -> str:
    """What a value is, in words a user knows."""
    if value is None:
        return "nothing (null)"
    kinds = {str: "text", bool: "true/false", int: "a number", float: "a number", list: "a list", tuple: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
