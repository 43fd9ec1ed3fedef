"""Comments out of programs: what goes, what must stay, and the proof that nothing else changed."""

from __future__ import annotations

import ast
import builtins
import io
import tokenize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.curation.comments import python, rewrite_code, trees
from etude.curation.comments.cutting import Cut, cut
from etude.curation.comments.edits import Wish
from etude.curation.comments.languages import ALL, LANGUAGES, parser
from etude.failures import RecipeError

BOTH = Wish("both")


def gone(text: str, language: str, wish: Wish = BOTH) -> str:
    """The text without its comments; every edit is idempotent."""
    done = rewrite_code(text, LANGUAGES[language], wish)
    assert done.fate in ("changed", "unchanged"), (done.fate, done.reason)
    assert rewrite_code(done.text, LANGUAGES[language], wish).fate == "unchanged" or done.text == text
    return done.text


# ---- Python ----------------------------------------------------------------------------------------

PYTHON = {
    "a trailing comment takes the space before it": ("x = 1  # one\ny = 2\n", "x = 1\ny = 2\n"),
    "a full line goes with its line": ("x = 1\n# one\ny = 2\n", "x = 1\ny = 2\n"),
    "blank lines are not doubled": ("x = 1\n\n# one\n\ny = 2\n", "x = 1\n\ny = 2\n"),
    "nothing is left at the start": ("# one\n\nx = 1\n", "x = 1\n"),
    "nothing is left at the end": ("x = 1\n\n# one\n", "x = 1\n"),
    "no line end is made up": ("x = 1\n# one", "x = 1"),
    "strings hold marks": ('x = "# no"  # yes\n', 'x = "# no"\n'),
    "long strings hold marks": ('x = """\n# no\n"""  # yes\n', 'x = """\n# no\n"""\n'),
    "floor division is no comment": ("x = 7 // 2\n", "x = 7 // 2\n"),
    "a string that is a value is no docstring": ('x = """no"""\n', 'x = """no"""\n'),
    "a module's docstring": ('"""One."""\n\nimport os\n', "import os\n"),
    "a function's": ('def f():\n    """One.\n\n    Two.\n    """\n\n    return 1\n', "def f():\n    return 1\n"),
    "a body that would be empty": ('def f():\n    """One."""\n\n\nx = 1\n', "def f():\n    pass\n\n\nx = 1\n"),
    "on the line of its def": ('def f(): "one"\n', "def f(): pass\n"),
    "before a semicolon": ('def f(): "one"; return 2\n', "def f(): return 2\n"),
    "a class and its method": ('class A:\n    """a"""\n    def f(self):\n        "b"\n        return 1\n',
    "class A:\n    def f(self):\n        return 1\n"),
    "what would become a docstring goes too": ('def f():\n    "one"\n    "two"\n    return 1\n', "def f():\n    return 1\n"),
    "letters of several bytes": ('def f(): "é"; return "ü"  # ö\n', 'def f(): return "ü"\n'),
    "CRLF stays": ('x = 1  # one\r\n# two\r\ny = 2\r\n', "x = 1\r\ny = 2\r\n"),
    "tabs stay": ("if x:\n\t# one\n\ty = 1\t# two\n", "if x:\n\ty = 1\n"),
    "an indented piece of a body": ("    x = 1  # one\n    return x\n", "    x = 1\n    return x\n"),
    "a piece that begins with a comment": ("    # one\n    return x\n", "    return x\n"),
    "inside brackets": ("x = [  # one\n    1,  # two\n    # three\n    2,\n]\n", "x = [\n    1,\n    2,\n]\n"),
    "an f-string's braces": ('x = f"{y!r:#x} # no"  # yes\n', 'x = f"{y!r:#x} # no"\n'),
    "a hash inside a continued line": ('x = "a" \\\n    "# no"\n', 'x = "a" \\\n    "# no"\n'),
    "a decorated async function": ('@d  # one\nasync def f():\n    """two"""\n    await g()\n', "@d\nasync def f():\n    await g()\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTHON)
def test_python(name):
    before, after = PYTHON[name]
    assert gone(before, "python") == after


KEPT = [
    "#!/usr/bin/env python\nx = 1\n",
    "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\nx = 1\n",
    "import os  # noqa: F401\n",
    "x = []  # type: list[int]\n",
    "if x:  # pragma: no cover\n    y = 1\n",
    "# fmt: off\nx = 1\n",
    "import a  # isort: skip\n",
    "# /// script\n# dependencies = [\"rich\"]\n# ///\nimport rich\n",
]  # fmt: skip


@pytest.mark.parametrize("text", KEPT)
def test_what_is_more_than_a_comment_stays(text):
    assert gone(text, "python") == text


def test_keep_is_a_setting():
    wish = Wish("both", keep=())
    assert gone("import os  # noqa\nx = []  # type: list\n", "python", wish) == "import os\nx = []\n"
    assert gone("#!/usr/bin/python\n# coding: utf-8\nx = 1\n", "python", wish) == "#!/usr/bin/python\n# coding: utf-8\nx = 1\n"
    licence = "# Copyright 2020 Someone\nx = 1  # y\n"
    assert gone(licence, "python", Wish("both", keep=("licences",))) == "# Copyright 2020 Someone\nx = 1\n"


def test_comments_and_docstrings_apart():
    text = 'def f():\n    """one"""\n    return 1  # two\n'
    assert gone(text, "python", Wish("comments")) == 'def f():\n    """one"""\n    return 1\n'
    assert gone(text, "python", Wish("docstrings")) == "def f():\n    return 1  # two\n"


def test_what_is_kept_has_a_reason():
    done = python.edit("print 'old'  # python 2\n", BOTH)
    assert done.fate == "does_not_parse"
    assert "Missing parentheses" in done.reason
    assert done.text == "print 'old'  # python 2\n"
    assert python.edit(">>> f()  # a session\n1\n", BOTH).fate == "does_not_parse"
    assert python.edit("# nothing else\n", BOTH).fate == "only_comments"
    assert python.edit("# nothing else\n", Wish("both", may_be_empty=True)).text == ""
    assert python.edit("x = 1 # \x00\n", BOTH).fate == "does_not_parse"
    assert python.edit("(" * 5000 + "  # deep\n" + ")" * 5000, BOTH).fate == "does_not_parse"


def test_a_wrong_cut_is_refused(monkeypatch):
    """The proof does not trust the cutting: a remover that takes the next token too is found out."""

    def greedy(text, cuts, joiner=" ", keep_breaks=True):
        return cut(text, [Cut(one.start, min(len(text), one.end + 8)) for one in cuts], joiner, keep_breaks)

    monkeypatch.setattr(python, "cut", greedy)
    monkeypatch.setattr(trees, "cut", greedy)
    assert python.edit("a = 1  # one\nbcdefg = 2\nc = 3\n", BOTH).fate == "unproved"
    assert trees.edit("a = 1; // one\nbcdefg = 2;\nc = 3;\n", LANGUAGES["javascript"], BOTH).fate == "unproved"


def test_trees_are_compared_to_the_last_bit():
    assert python.same(ast.parse("x = 0.0"), ast.parse("x  =  0.0"))
    assert not python.same(ast.parse("x = 0.0"), ast.parse("x = 0"))
    assert not python.same(ast.parse("x = [1, 2]"), ast.parse("x = [1]"))
    assert not python.same(ast.parse("f(a)"), ast.parse("f(b)"))


def test_trailing_space_alone():
    wish = Wish("trailing_space")
    text = 'x = """a  \nb"""  \n   \ny = 1\t# one  \n'
    assert gone(text, "python", wish) == 'x = """a  \nb"""\n\ny = 1\t# one\n'
    assert gone("a();  \n`x  \ny`;  \n", "javascript", wish) == "a();\n`x  \ny`;\n"
    assert gone("a <<E  \nx  \nE\nb  \n", "shell", wish).endswith("b\n")
    assert gone("<pre>a  \nb</pre>  \n<p>c</p>  \n", "html", wish).startswith("<pre>a  \nb</pre>\n")
    assert gone("x = 1  \r\ny = 2\r\n", "python", wish) == "x = 1\r\ny = 2\r\n"


names = st.sampled_from(["a", "b", "été", "_x1"])
values = st.one_of(
    st.integers(0, 9).map(str), names, st.text("#'\"\\\n ä{}/", max_size=6).map(repr), st.just("[1,\n 2]"), st.just('"""x\n # y\n"""')
)
odd = st.sampled_from(["", "  # c", "\t#", " #é '''", '  # """'])
between = st.sampled_from(["", "# full\n", "\n", "\n# a\n# b\n\n", "        # deep\n", "\n   \n", "#\n"])


@st.composite
def programs(draw, depth: int = 2, indent: str = "") -> str:
    """A program with comments, blank lines and docstrings in odd places."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        lines.append(draw(between))
        kind = draw(st.integers(0, 4))
        if kind < 3 or not depth:
            lines.append(f"{indent}{draw(names)} = {draw(values)}{draw(odd)}\n")
            continue
        head = f"{indent}def f({draw(names)}):" if kind == 3 else f"{indent}class A:"
        doc = draw(st.sampled_from(["", '"""d"""', "'é' 'e'", '"""a\n\n  b"""', "'x'; 'y'"]))
        inner = indent + "    "
        lines.append(f"{head}{draw(odd)}\n")
        lines.append(f"{draw(between)}{inner}{doc}{draw(odd)}\n" if doc else "")
        lines.append(draw(programs(depth=depth - 1, indent=inner)) if not doc or draw(st.booleans()) else "")
    return "".join(lines) + draw(between)


@given(programs(), st.sampled_from(["comments", "docstrings", "both"]), st.booleans(), st.booleans())
def test_any_python_keeps_its_tree(text, what, crlf, strip):
    text = text.replace("\n", "\r\n") if crlf else text
    done = rewrite_code(text, LANGUAGES["python"], Wish(what, strip, may_be_empty=True))
    assert done.fate in ("changed", "unchanged"), done
    before, after = ast.parse(text), ast.parse(done.text)
    assert ast.dump(python.undocumented(before) if what != "comments" else before) == ast.dump(after)
    left = [token for token in tokenize.generate_tokens(io.StringIO(done.text, newline="").readline) if token.type == tokenize.COMMENT]
    assert not left or what == "docstrings"
    assert rewrite_code(done.text, LANGUAGES["python"], Wish(what, strip, may_be_empty=True)).text == done.text
    assert crlf or "\r" not in done.text or "\r" in text
    assert not crlf or done.text.count("\n") == done.text.count("\r\n")


# ---- the other languages ---------------------------------------------------------------------------

TREES = [
    ("javascript", "#!/usr/bin/env node\n/** doc */\nf(1); // c\n", "#!/usr/bin/env node\nf(1);\n"),
    ("javascript", 'const u = "http://a.b/c"; // c\n', 'const u = "http://a.b/c";\n'),
    ("javascript", "const r = /\\/\\*no/g; const t = `// ${a /* yes */} no`;\n", "const r = /\\/\\*no/g; const t = `// ${a} no`;\n"),
    ("javascript", "const X = <p>// no /* no */</p>; // yes\n", "const X = <p>// no /* no */</p>;\n"),
    ("javascript", "const X = (\n  <p>\n    {/* yes */}\n    <b/>\n  </p>\n);\n", "const X = (\n  <p>\n    <b/>\n  </p>\n);\n"),
    ("javascript", "function f() {\n  return /* a\n  b */ 1\n}\n", "function f() {\n  return\n1\n}\n"),
    ("javascript", "a = b + /* c */ d\n", "a = b + d\n"),
    ("javascript", "// eslint-disable-next-line\nx = 1 // c\n", "// eslint-disable-next-line\nx = 1\n"),
    ("typescript", "// @ts-ignore\nlet s: string = `a`; // c\n", "// @ts-ignore\nlet s: string = `a`;\n"),
    ("typescript", '/// <reference types="x"/>\nlet a = 1; // c\n', '/// <reference types="x"/>\nlet a = 1;\n'),
    ("typescript", "const X = <p>// no</p>; // yes\n", "const X = <p>// no</p>;\n"),
    ("java", '/** doc */\nclass A { // c\n  String s = "// no"; /* b */ int x; }\n', 'class A {\n  String s = "// no"; int x; }\n'),
    ("java", 'class A { String s = """\n  // no\n  """; } // c\n', 'class A { String s = """\n  // no\n  """; }\n'),
    ("c", '#include <a.h> // c\nint main(){ char*s="/* no */"; /* b */ return 0; }\n',
     '#include <a.h>\nint main(){ char*s="/* no */"; return 0; }\n'),
    ("c", "int a/**/b;\n".replace("a/**/b", "a/**/=/**/1"), "int a = 1;\n"),
    ("c", "int x; // one \\\n  more\nint y;\n", "int x;\nint y;\n"),
    ("cpp", '/// doc\nauto s = R"(// no)"; int a; // x\n', 'auto s = R"(// no)"; int a;\n'),
    ("csharp", '#region foo // x\n/// <summary>d</summary>\nclass A { string s = @"// no"; } // c\n#endregion\n',
     '#region foo // x\nclass A { string s = @"// no"; }\n#endregion\n'),
    ("go", "//go:build linux\n\npackage main\n\n// c\nvar s = `// no` /* b */\n", "//go:build linux\n\npackage main\n\nvar s = `// no`\n"),
    ("go", 'package main\n\n// #include <stdio.h>\nimport "C"\n\n// c\nvar a = 1\n',
     'package main\n\n// #include <stdio.h>\nimport "C"\n\nvar a = 1\n'),
    ("rust", "//! inner\n/// outer\nfn f<'a>() { let s = r#\"// no\"#; /* a /* n */ b */ let c = '/'; } // c\n",
     "fn f<'a>() { let s = r#\"// no\"#; let c = '/'; }\n"),
    ("ruby", '# frozen_string_literal: true\n=begin\nblock\n=end\ns = "# no #{1}" # yes\n',
     '# frozen_string_literal: true\ns = "# no #{1}"\n'),
    ("ruby", "y = <<~E\n  # no\nE\nx = %q(# no) # c\n__END__\n# data\n", "y = <<~E\n  # no\nE\nx = %q(# no)\n__END__\n# data\n"),
    ("php", '<p># no // no</p>\n<?php\n#[Attr]\n/** d */\nfunction f() { $s = "// no"; # c\n}\n',
     '<p># no // no</p>\n<?php\n#[Attr]\nfunction f() { $s = "// no";\n}\n'),
    ("php", 'function f() { return "# no"; } // c\n', 'function f() { return "# no"; }\n'),
    ("shell", '#!/bin/bash\n# c\necho "# no" \'# no\' ${#a} a#b # yes\ncat <<E\n# no\nE\n',
     '#!/bin/bash\necho "# no" \'# no\' ${#a} a#b\ncat <<E\n# no\nE\n'),
    ("shell", "#!/bin/sh\n#SBATCH -n 1\n# c\nls\n", "#!/bin/sh\n#SBATCH -n 1\nls\n"),
    ("sql", "-- c\nSELECT '-- no', a /* b */ FROM t; -- d\n", "SELECT '-- no', a FROM t;\n"),
    ("html", '<!-- c -->\n<p>// text</p>\n<script>// js\nvar s = "<!-- no -->"; // yes\n</script>\n',
     '<p>// text</p>\n<script>var s = "<!-- no -->";\n</script>\n'),
    ("html", "<!--[if IE]> x <![endif]-->\n<p>a<!-- c -->b</p>\n", "<!--[if IE]> x <![endif]-->\n<p>ab</p>\n"),
    ("html", "<b>x</b><!--\n--><i>y</i>\n", "<b>x</b><i>y</i>\n"),
    ("css", '/* c */\na { color: red; /* d */ background: url(//x/y); content: "/* no */"; }\n',
     'a { color: red; background: url(//x/y); content: "/* no */"; }\n'),
]  # fmt: skip


@pytest.mark.parametrize(("language", "before", "after"), TREES, ids=[f"{row[0]}-{number}" for number, row in enumerate(TREES)])
def test_trees(language, before, after):
    assert gone(before, language) == after
    crlf = rewrite_code(before.replace("\n", "\r\n"), LANGUAGES[language], BOTH)
    assert crlf.fate == "changed"
    assert crlf.text.replace("\r\n", "\n") == after
    assert "\n" not in crlf.text.replace("\r\n", "")


def test_every_language_but_python_is_tried():
    assert {row[0] for row in TREES} == set(LANGUAGES) - {"python"}


DOCS = [("javascript", "/** d */\nf(); // c\n"), ("java", "/** d */\nclass A {} // c\n"), ("rust", "/// d\nfn f() {} // c\n"),
        ("cpp", "/// d\nint f(); // c\n"), ("csharp", "/// d\nclass A {} // c\n"), ("php",
         "<?php\n/** d */\nfunction f() {} // c\n")]  # fmt: skip


@pytest.mark.parametrize(("language", "text"), DOCS, ids=[row[0] for row in DOCS])
def test_documentation_counts_as_asked(language, text):
    without_doc = "\n".join(line for line in text.split("\n") if " d" not in line)
    assert gone(text, language, Wish("comments")) == text.replace(" // c", "")
    assert gone(text, language, Wish("docstrings")) == without_doc
    assert gone(text, language, Wish("comments", doc_comments="comments")) == without_doc.replace(" // c", "")


def test_licences_stay_where_asked():
    text = "/*! mine */\na { b: c } /* d */\n"
    assert gone(text, "css") == "a { b: c }\n"
    assert gone(text, "css", Wish("both", keep=("licences",))) == "/*! mine */\na { b: c }\n"


def test_a_query_hint_is_no_comment():
    assert gone("SELECT /*+ INDEX(a) */ b FROM t; -- c\n", "sql") == "SELECT /*+ INDEX(a) */ b FROM t;\n"


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"python", "html", "shell", "ruby"}))
def test_what_does_not_parse_is_kept(language):
    text = "((( // one # two /* three */ -- four\n"
    done = rewrite_code(text, LANGUAGES[language], BOTH)
    assert (done.text, done.fate) == (text, "does_not_parse")
    assert done.reason == "line 1"


def test_white_space_that_counts_in_a_page_is_kept():
    text = "<pre>a\n<!-- c -->\n\nb</pre><textarea><!-- d --></textarea>\n"
    assert gone(text, "html") == text


def test_huge_and_deep():
    huge = "".join(f"x{n} = {n}; // {n} é\n" for n in range(20_000))
    assert gone(huge, "javascript").count("//") == 0
    deep = "f(" * 3000 + "1 /* c */" + ")" * 3000 + ";\n"
    done = rewrite_code(deep, LANGUAGES["javascript"], BOTH)
    assert done.fate in ("changed", "does_not_parse")
    nested = "".join("    " * n + f"if x{n}:  # {n}\n" for n in range(60)) + "    " * 60 + "pass\n"
    assert "#" not in gone(nested, "python")
    assert "#" not in gone("".join(f"x{n} = {n}  # {n}\n" for n in range(20_000)), "python")


def test_half_a_character_survives():
    text = 's = "\ud83d"; // c\n'
    done = rewrite_code(text, LANGUAGES["javascript"], BOTH)
    assert done.text in (text, 's = "\ud83d";\n')


def test_a_missing_grammar_names_the_extra(monkeypatch):
    real = builtins.__import__

    def missing(name, *given, **named):
        if name.startswith("tree_sitter"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *given, **named)

    parser.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(RecipeError, match=r"javascript.*tree-sitter.*etude\[code\]"):
        rewrite_code("x // c\n", LANGUAGES["javascript"], BOTH)
    assert rewrite_code("x = 1  # c\n", LANGUAGES["python"], BOTH).fate == "changed"
    parser.cache_clear()


def test_no_tag_means_two_languages():
    tags = [tag for language in ALL for tag in (language.name, *language.tags)]
    assert len(tags) == len(set(tags))
    extensions = [extension for language in ALL for extension in language.extensions]
    assert len(extensions) == len(set(extensions))
