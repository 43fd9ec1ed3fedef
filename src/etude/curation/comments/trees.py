"""Every language but Python: comments are nodes of a tree-sitter tree, and the rest of the tree is the proof.

The trees of both texts, comments and white space left out, must have the same shape and the same words in the
same order, or the text stays as it was. Work is on bytes, for so the trees count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from etude.curation.comments.cutting import Cut, cut, trailing
from etude.curation.comments.edits import Edit, Wish, judged
from etude.curation.comments.languages import LANGUAGES, Language, parser
from etude.curation.comments.marks import stays

if TYPE_CHECKING:
    from tree_sitter import Node, Tree

Span = tuple[int, int]
CLOSE = -1
"""Stands in a shape where a node ends."""
SPACE = (" ",)
"""Stands in the shape of a page for white space before a word: a browser shows it."""
SPACED = frozenset({"pre", "textarea", "title", "xmp", "listing", "plaintext"})
"""Elements of HTML in which white space counts, or `<!--` is text."""
TEXTUAL = re.compile(r"string|heredoc|template|text|raw|char|regex|literal|nowdoc|attribute_value|uninterpreted")
"""Node types in which white space is part of what is said."""
SCRIPTS = re.compile(rb"(?i)type\s*=\s*[\"']?([^\"'\s>]*)")
JAVASCRIPT = frozenset({b"", b"text/javascript", b"application/javascript", b"module", b"text/ecmascript", b"text/babel", b"text/jsx"})


def edit(text: str, language: Language, wish: Wish) -> Edit:
    """The text without what the wish takes out, proved to be the same program, or as it was with the reason.

    Raises RecipeError when the grammar is not installed."""
    read = parsed(text, language)
    if isinstance(read, str):
        return Edit(text, "does_not_parse", read)
    grammar, data, tree = read
    done = text
    if language.name == "html":
        done = embedded(done, tree, wish)
        if done != text:
            data, tree = again(done, language, grammar)
    if wish.what != "trailing_space":
        found = [node for node in nodes(tree, language) if goes(node, data, language, wish)]
        if found:
            proved = removed(done, data, tree, found, language, grammar)
            if proved is None:
                return Edit(text, "unproved", "the tree would change")
            done = proved
    if wish.strips:
        proved = stripped(done, language, grammar)
        if proved is None:
            return Edit(text, "unproved", "the tree would change without the white space")
        done = proved
    return judged(text, done, wish)


def parsed(text: str, language: Language) -> tuple[tuple[str, str], bytes, Tree] | str:
    """(grammar, bytes, tree) by the first grammar that reads the text without an error, or where it fails."""
    data = text.encode("utf-8", "surrogatepass")
    grammars = language.grammars
    if language.name == "php" and b"<?" not in data:
        grammars = grammars[::-1][:1]
    elif language.name == "php":
        grammars = grammars[:1]
    elif language.name == "typescript" and (b"</" in data or b"/>" in data):
        grammars = grammars[::-1]  # without JSX, the text of an element would be code
    first = ""
    for grammar in grammars:
        tree = parser(language.name, grammar).parse(data)
        if not tree.root_node.has_error:
            return grammar, data, tree
        first = first or fault(tree)
    return first


def fault(tree: Tree) -> str:
    """Where a tree has its first error."""
    cursor = tree.walk()
    while True:
        node: Any = cursor.node
        if node.is_error or node.is_missing:
            break
        if not node.has_error or not cursor.goto_first_child():
            break
        while cursor.node is not None and not (cursor.node.has_error or cursor.node.is_missing) and cursor.goto_next_sibling():
            pass
    return f"line {node.start_point[0] + 1}"


def again(text: str, language: Language, grammar: tuple[str, str]) -> tuple[bytes, Tree]:
    """The bytes and the tree of another text."""
    data = text.encode("utf-8", "surrogatepass")
    return data, parser(language.name, grammar).parse(data)


def nodes(tree: Tree, language: Language) -> list[Node]:
    """Every comment, in order."""
    found: list[Node] = []
    for node in walk(tree):
        if node.type in language.comments:
            found.append(node)
    return found


def walk(tree: Tree) -> Iterator[Node]:
    """Every node in order, without recursion; nothing inside an HTML element whose text is as it stands."""
    cursor = tree.walk()
    while True:
        node = cursor.node
        assert node is not None
        yield node
        if not spaced(node) and cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def spaced(node: Node) -> bool:
    """Whether this is an HTML element in which `<!--` may be text."""
    if node.type != "element":
        return False
    tag = node.child(0)
    name = tag.named_child(0) if tag else None
    return bool(name and name.text and name.text.decode("utf-8", "replace").lower() in SPACED)


def span(node: Node, data: bytes) -> Span:
    """The bytes of a comment, without the line break that some grammars count in."""
    start, end = node.start_byte, node.end_byte
    while end > start and data[end - 1] in b"\r\n":
        end -= 1
    return start, end


def goes(node: Node, data: bytes, language: Language, wish: Wish) -> bool:
    """Whether a comment is one of those to take out."""
    start, end = span(node, data)
    text = data[start:end].decode("utf-8", "replace")
    is_doc = bool(language.doc and language.doc.match(text))
    if not wish.takes(is_doc) or text in ("<!--", "-->"):
        return False
    if language.name == "go" and above_cgo(node):
        return False
    return not stays(text, language.name, wish.keep, first=start == 0, line=node.start_point[0])


def above_cgo(node: Node) -> bool:
    """Whether a Go comment stands right above `import "C"`: then it is C code."""
    row, after = node.end_point[0], node.next_sibling
    while after is not None and after.start_point[0] <= row + 1 and after.type == "comment":
        row, after = after.end_point[0], after.next_sibling
    if after is not None and not (after.text or b"").strip():
        after = after.next_sibling
    return bool(after is not None and after.start_point[0] <= row + 1 and re.match(rb'import\s*\(?\s*"C"', after.text or b""))


def removed(
    text: str, data: bytes, tree: Tree, found: Sequence[Node], language: Language, grammar: tuple[str, str]
) -> str | None:  # fmt: skip
    """The text without these comments, by the first way of cutting that is proved, or None."""
    plain = sorted(span(node, data) for node in found)
    braced = sorted(outermost(node, data) for node in found)
    ways = [(braced, True)] if braced != plain else []
    ways += [(plain, True), (plain, False)]
    tried = set()
    for spans, keep_breaks in ways:
        places = characters(data, sorted({place for one in spans for place in one}))
        done = cut(text, [Cut(places[start], places[end]) for start, end in dict.fromkeys(spans)], language.joiner, keep_breaks)
        if done in tried:
            continue
        tried.add(done)
        later, new = again(done, language, grammar)
        if not new.root_node.has_error and shape(tree, data, language, frozenset(spans)) == shape(new, later, language):
            return done
    return None


def outermost(node: Node, data: bytes) -> Span:
    """What to cut for a comment: in JSX, the braces too, where they hold nothing else."""
    parent = node.parent
    if parent is None or parent.type != "jsx_expression" or parent.named_child_count != 1:
        return span(node, data)
    around = parent.parent
    return (parent.start_byte, parent.end_byte) if around and around.type in ("jsx_element", "jsx_fragment") else span(node, data)


def characters(data: bytes, places: Sequence[int]) -> dict[int, int]:
    """Byte positions (sorted) as character positions."""
    if data.isascii():
        return {place: place for place in places}
    found, count = {}, 0
    for before, place in pairwise((0, *places)):
        count += len(data[before:place].decode("utf-8", "surrogatepass"))
        found[place] = count
    return found


def shape(tree: Tree, data: bytes, language: Language, gone: frozenset[Span] = frozenset()) -> list[Any]:
    """The tree as a list: node kinds in order, CLOSE where one ends, and the words; comments, `gone` and the
    white space between words left out. What no leaf holds (the text of some strings) is in it too."""
    out: list[Any] = []
    cursor = tree.walk()
    markup = language.name == "html"
    last, spaced_out, said = 0, False, False  # white space before the first word and after the last is none
    while True:
        node = cursor.node
        assert node is not None
        start, end = node.start_byte, node.end_byte
        skipped = node.type in language.comments or (start, end) in gone
        if not skipped and cursor.goto_first_child():
            out.append(node.kind_id)
            continue
        if start > last:
            spaced_out |= not word(out, data[last:start])
        if not skipped and end > start:
            if markup and spaced_out and said:
                out.append(SPACE)
            said = True
            leaf(out, node, data[start:end], markup)
            spaced_out = False
        last = max(last, end)
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                word(out, data[last:])
                return out
            above = cursor.node
            assert above is not None
            if out and out[-1] == above.kind_id:
                out.pop()  # a body that held nothing but comments
            else:
                out.append(CLOSE)


def word(out: list[Any], text: bytes) -> bool:
    """What stands between two leaves: nothing but white space, or (then true) the text of a string."""
    inside = text.strip()
    if inside:
        out.append(("gap", inside))
    return bool(inside)


def leaf(out: list[Any], node: Node, text: bytes, markup: bool) -> None:
    """One word; line ends that are words of a grammar, and white space that JSX leaves out, are none."""
    if not text.strip():
        if text and node.is_named and not (node.type == "jsx_text" and b"\n" in text):
            out.append((node.kind_id, text))
        return
    if markup and node.type == "text":
        joined = b" ".join(text.split())
        if out and isinstance(out[-1], tuple) and out[-1][0] == "text":
            joined = out.pop()[1] + joined
        elif len(out) > 1 and out[-1] == SPACE and isinstance(out[-2], tuple) and out[-2][0] == "text":
            out.pop()
            joined = out.pop()[1] + b" " + joined
        out.append(("text", joined))
        return
    out.append((node.kind_id, text.rstrip() if node.type == "preproc_arg" else text))


def stripped(text: str, language: Language, grammar: tuple[str, str]) -> str | None:
    """The text without white space at the ends of lines, but for those inside strings and text; None: not proved."""
    spaces = trailing(text)
    if not spaces:
        return text
    data, tree = again(text, language, grammar)
    held = []
    for node in walk(tree):
        if spaced(node) or (TEXTUAL.search(node.type) and node.type not in language.comments and node.start_point[0] != node.end_point[0]):
            held.append((node.start_byte, node.end_byte))
    places = characters(data, sorted({place for one in held for place in one}))
    guarded = sorted((places[start], places[end]) for start, end in held)
    out, at, index, reach = [], 0, 0, 0
    for start, end in spaces:
        while index < len(guarded) and guarded[index][0] <= start:
            reach = max(reach, guarded[index][1])
            index += 1
        if start >= reach:
            out.append(text[at:start])
            at = end
    done = "".join((*out, text[at:]))
    later, new = again(done, language, grammar)
    return done if not new.root_node.has_error and shape(tree, data, language) == shape(new, later, language) else None


def embedded(text: str, tree: Tree, wish: Wish) -> str:
    """An HTML page with its scripts and styles rewritten, each proved by its own language; others stay."""
    data = text.encode("utf-8", "surrogatepass")
    out, last = [], 0
    for node in walk(tree):
        if node.type != "raw_text" or node.parent is None or node.parent.child(0) is None:
            continue
        opening = node.parent.child(0)
        kind = SCRIPTS.search((opening.text if opening else b"") or b"")
        if node.parent.type == "style_element":
            language = LANGUAGES["css"]
        elif node.parent.type == "script_element" and (kind.group(1).lower() if kind else b"") in JAVASCRIPT:
            language = LANGUAGES["javascript"]
        else:
            continue
        inner = data[node.start_byte : node.end_byte].decode("utf-8", "surrogatepass")
        done = edit(inner, language, Wish(wish.what, wish.trailing_space, wish.keep, wish.doc_comments, may_be_empty=True))
        out += [data[last : node.start_byte], done.text.encode("utf-8", "surrogatepass")]
        last = node.end_byte
    return b"".join((*out, data[last:])).decode("utf-8", "surrogatepass")
