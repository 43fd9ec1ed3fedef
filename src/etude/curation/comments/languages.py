"""The languages whose comments can be told from code, each with its grammar, its fence tags and its file names.

Python is read by the standard library; every other language by a tree-sitter grammar, each in a wheel of its own
on the package index (the extra `code`). A grammar that is missing is an error that names the extra.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from etude.failures import RecipeError, nearest

if TYPE_CHECKING:
    from tree_sitter import Parser

EXTRA = "code"
"""The extra that brings tree-sitter and its grammars."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language. `grammars`: (module, function) in the order tried; none: the standard library reads it.
    `comments`: node types. `doc`: what a documentation comment starts with. `marks`: texts without one of
    which there is no comment at all. `tags`: what a fence, or a row's field, may call it."""

    name: str
    tags: tuple[str, ...]
    extensions: tuple[str, ...]
    marks: tuple[str, ...]
    grammars: tuple[tuple[str, str], ...] = ()
    comments: frozenset[str] = frozenset({"comment"})
    doc: re.Pattern[str] | None = None
    joiner: str = " "
    """What stands for a comment between two tokens that touch it."""


SLASHES = ("//", "/*")
JAVADOC = re.compile(r"/\*\*(?![*/])")
DOXYGEN = re.compile(r"/\*\*(?![*/])|/\*!|///(?!/)|//!")
TRIPLE = re.compile(r"/\*\*(?![*/])|///(?!/)")

ALL = (
    Language("python", ("py", "python3", "py3", "python2"), (".py", ".pyi", ".pyw"), ("#",)),
    Language(
        "javascript", ("js", "jsx", "mjs", "cjs", "node", "nodejs", "node.js", "ecmascript"), (".js", ".jsx", ".mjs", ".cjs"),
        (*SLASHES, "<!--", "-->"), (("tree_sitter_javascript", "language"),), frozenset({"comment", "html_comment"}), JAVADOC,
    ),
    Language(
        "typescript", ("ts", "tsx", "mts", "cts"), (".ts", ".tsx", ".mts", ".cts"), (*SLASHES, "<!--", "-->"),
        (("tree_sitter_typescript", "language_typescript"), ("tree_sitter_typescript", "language_tsx")),
        frozenset({"comment", "html_comment"}), JAVADOC,
    ),
    Language(
        "java", (), (".java",), SLASHES, (("tree_sitter_java", "language"),), frozenset({"line_comment", "block_comment"}), TRIPLE,
    ),
    Language("c", ("h",), (".c", ".h"), SLASHES, (("tree_sitter_c", "language"), ("tree_sitter_cpp", "language")), doc=DOXYGEN),
    Language(
        "cpp", ("c++", "cc", "cxx", "hpp", "c_cpp"), (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx"), SLASHES,
        (("tree_sitter_cpp", "language"),), doc=DOXYGEN,
    ),
    Language("csharp", ("c#", "cs", "c-sharp", "dotnet"), (".cs",), SLASHES, (("tree_sitter_c_sharp", "language"),), doc=TRIPLE),
    Language("go", ("golang",), (".go",), SLASHES, (("tree_sitter_go", "language"),)),
    Language(
        "rust", ("rs",), (".rs",), SLASHES, (("tree_sitter_rust", "language"),), frozenset({"line_comment", "block_comment"}), DOXYGEN,
    ),
    Language("ruby", ("rb",), (".rb",), ("#", "=begin"), (("tree_sitter_ruby", "language"),)),
    Language(
        "php", (), (".php", ".phtml"), (*SLASHES, "#"),
        (("tree_sitter_php", "language_php"), ("tree_sitter_php", "language_php_only")), doc=JAVADOC,
    ),
    Language(
        "shell", ("sh", "bash", "zsh", "ksh", "shellscript", "shell-script"), (".sh", ".bash"), ("#",), (("tree_sitter_bash", "language"),),
    ),
    Language(
        "sql", ("mysql", "postgresql", "postgres", "psql", "sqlite", "sqlite3", "tsql", "t-sql", "plsql"), (".sql",), ("--", "/*"),
        (("tree_sitter_sql", "language"),), frozenset({"comment", "marginalia"}),
    ),
    Language("html", ("htm", "html5", "xhtml"), (".html", ".htm"), ("<!--", *SLASHES), (("tree_sitter_html", "language"),), joiner=""),
    Language("css", ("css3",), (".css",), ("/*",), (("tree_sitter_css", "language"),), joiner=""),
)  # fmt: skip

LANGUAGES: dict[str, Language] = {language.name: language for language in ALL}
TAGS: dict[str, Language] = {tag: language for language in ALL for tag in (language.name, *language.tags)}
EXTENSIONS: dict[str, Language] = {extension: language for language in ALL for extension in language.extensions}


def by_tag(tag: str) -> Language | None:
    """The language that a fence or a field calls so, in any case, or None."""
    return TAGS.get(tag.strip().lower())


def by_path(path: PurePath) -> Language | None:
    """The language of a file's extension, or None."""
    return EXTENSIONS.get(path.suffix.lower())


def named(name: str, where: str) -> Language:
    """The language a user named; raises RecipeError with the nearest known one."""
    found = by_tag(name)
    if found is None:
        raise RecipeError(f"{where}: no language is called {name!r}{nearest(name.lower(), LANGUAGES)}")
    return found


@functools.cache
def parser(language: str, grammar: tuple[str, str]) -> Parser:
    """The parser of a grammar, made once. Raises RecipeError, naming the extra, when it is not installed."""
    try:
        from tree_sitter import Language as Grammar
        from tree_sitter import Parser

        module = importlib.import_module(grammar[0])
    except ImportError as error:
        package = (error.name or grammar[0]).replace("_", "-")
        raise RecipeError(
            f"there is code in {language} here, and its grammar is not installed ({package}); pip install 'etude[{EXTRA}]' brings it"
        ) from error
    return Parser(Grammar(getattr(module, grammar[1])()))
