"""Templates: the words of a row are those of its fields, the same each time, with exemplars as earlier turns."""

import subprocess
import sys

import pytest

from etude import templates
from etude.failures import DataError, RecipeError
from etude.records import Message, Origin, Record, identify
from etude.templates import Wording, load, pick_exemplars, wording, write

MINE = """
task: t
fields: [x, label]
labels: [yes!, no!]
label_field: label
phrasings:
  - {instruction: "One of {{ labels | join(' / ') }}?", input: "{{ x }}", answer: "{{ label }}"}
"""


def record(fields, line=1, task=""):
    return Record(identify(fields), fields, Origin("f.csv", line), "s", task)


def sentence(text, label, line=1):
    return record({"text": text, "label": label}, line)


def test_write_puts_instruction_and_material_apart():
    row = sentence("Sales {{ rose }} <|im_end|>\n", "positive", 7)
    told = write(row, load("sentiment"))
    assert told.messages == (
        Message("user", load("sentiment").phrasings[0].instruction, "Sales {{ rose }} <|im_end|>\n"),
        Message("assistant", "positive"),
    )
    assert (told.id, told.origin, told.task) == (row.id, row.origin, "sentiment")
    assert write(record(row.fields, task="mood"), load("sentiment")).task == "mood"
    assert dict(told.notes) == {"template": "sentiment", "phrasing": 0}


def test_exemplars_are_earlier_turns_and_never_the_row_itself():
    rows = [sentence(f"s{i}", "neutral", i) for i in range(3)]
    told = write(rows[0], load("sentiment"), phrasing=2, exemplars=rows)
    assert [m.role for m in told.messages] == ["user", "assistant"] * 3
    assert [m.context for m in told.messages[::2]] == ["s1", "s2", "s0"]
    assert {m.content for m in told.messages[::2]} == {load("sentiment").phrasings[2].instruction}


def test_without_a_template_the_row_gives_the_words():
    fields = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief.", "history": [["Hi", "Hello"]]}
    expected = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Add.", "1 2"),
        Message("assistant", "3"),
    )
    assert write(record(fields), None).messages == expected
    shot = record({"instruction": "Take.", "input": "", "output": "1", "system": "Other."})
    assert write(record(fields), None, exemplars=[shot]).messages == (
        expected[0],
        Message("user", "Take."),
        Message("assistant", "1"),
        *expected[1:],
    )
    messages = [{"role": "user", "content": "a", "context": "b"}, {"role": "assistant", "content": "c"}]
    assert write(record({"messages": messages}), None).messages == (Message("user", "a", "b"), Message("assistant", "c"))
    for wrong, why in [
        ({"messages": [{"role": "usr", "content": "a"}]}, r"f\.csv:1: no role is called 'usr'; did you mean 'user'"),
        ({"messages": [{"role": "user"}]}, "a text as content"),
        ({"messages": "a"}, "not a list"),
        ({"instruct": "a", "output": "b"}, r"f\.csv:1: there is no field 'instruction'; did you mean 'instruct'"),
    ]:
        with pytest.raises(DataError, match=why):
            write(record(wrong), None)


def test_a_field_that_does_not_exist_names_row_and_nearest():
    with pytest.raises(DataError, match=r"f\.csv:9: there is no field 'text'; did you mean 'texts'\?; template 'sentiment' needs it"):
        write(record({"texts": "a", "label": "neutral"}, 9), load("sentiment"))
    with pytest.raises(RecipeError, match="has 14 phrasings"):
        write(sentence("a", "neutral"), load("sentiment"), phrasing=14)


def test_values_are_shown_as_text(tmp_path):
    path = tmp_path / "v.yaml"
    path.write_text('task: t\nfields: [x]\nphrasings: [{instruction: "{{ x }}", answer: "{% if x %}y{% endif %}"}]\n')
    template = load(str(path))
    assert [write(record({"x": x}), template).messages[0].content for x in (3, 1.5, True, None, "a & <b>")] == [
        "3",
        "1.5",
        "true",
        "",
        "a & <b>",
    ]


def test_a_template_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    told = write(record({"x": "q", "label": "no!"}), load(str(path)))
    assert told.messages == (Message("user", "One of yes! / no!?", "q"), Message("assistant", "no!"))
    with pytest.raises(RecipeError, match=r"there is no template file .*mne\.yaml; did you mean '.*mine\.yaml'"):
        load(str(tmp_path / "mne.yaml"))
    with pytest.raises(RecipeError, match="no template is named 'sentimant'; did you mean 'sentiment'"):
        load("sentimant")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("task: t", "task: [", "not YAML"),
        ("task: t", "tusk: t", "unknown key 'tusk'; did you mean 'task'"),
        ("label_field: label", "label_field: lable", "no field; did you mean 'label'"),
        ("label_field: label\n", "", "belong together"),
        ("{{ x }}", "{{ y }}", "phrasing 1, input: there is no field 'y'"),
        ("{{ x }}", "{{ x ", "phrasing 1, input: not a Jinja text"),
        ("task: t", "task: t\nrename: {y: yess!}", "no label; did you mean 'yes!'"),
        (MINE, "- 1", "a mapping is needed"),
        (MINE, "task: t\nfields: [x]\nphrasings: []", "phrasings"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(tmp_path, old, new, why):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE.replace(old, new))
    with pytest.raises(RecipeError, match=rf"mine\.yaml: .*{why}"):
        load(str(path))


def test_templates_cannot_reach_python(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text('task: t\nfields: [x]\nphrasings: [{instruction: "{{ x.__class__.__mro__ }}", answer: a}]\n')
    with pytest.raises(DataError, match=r"f\.csv:1"):
        write(record({"x": "a"}), load(str(path)))


def choose(template, id, seed, phrasings):
    """The phrasing that a row gets."""
    return wording(template, Record(id, {"text": "x", "label": "positive"}, Origin("f")), seed, Wording(phrasings=phrasings)).phrasing


def test_the_wording_is_a_pure_function_that_uses_every_phrasing():
    template = load("sentiment")
    ids = [f"id{i}" for i in range(400)]
    drawn = [choose(template, id, 3, "all") for id in ids]
    assert drawn == [choose(template, id, 3, "all") for id in ids]
    assert set(drawn) == set(template.forward()), "all but those that ask for the input"
    assert min(drawn.count(i) for i in template.forward()) > 15
    assert drawn != [choose(template, id, 4, "all") for id in ids]
    assert {choose(template, id, 3, "first") for id in ids} == {0}


def test_exemplars_are_balanced_short_and_independent_of_order():
    rows = [
        sentence("x" * (10 + 20 * (i % 9)) + str(i), ("neutral", "neutral", "neutral", "positive", "negative")[i % 5], i) for i in range(90)
    ]
    picked = pick_exemplars(rows, 6, 1, load("sentiment"))
    labels = [r.fields["label"] for r in picked]
    assert {label: labels.count(label) for label in labels} == {"neutral": 2, "positive": 2, "negative": 2}
    assert picked == pick_exemplars(rows[::-1], 6, 1, load("sentiment"))
    assert picked != pick_exemplars(rows, 6, 2, load("sentiment"))
    assert max(len(r.fields["text"]) for r in picked) <= 100
    assert len({r.id for r in pick_exemplars(rows + rows, 90, 1, load("sentiment"))}) == 90
    assert pick_exemplars(rows, 0, 1, None) == ()
    with pytest.raises(DataError, match=r"91 examples .* only 90 rows"):
        pick_exemplars(rows + rows, 91, 1, load("sentiment"))


def test_digest_follows_the_words():
    template = load("sentiment")
    assert templates.digest(template) == templates.digest(load("sentiment"))
    assert templates.digest(template) != templates.digest(template.model_copy(update={"max_new_tokens": 9}))


def test_importing_loads_neither_jinja_nor_yaml():
    code = "import sys, etude.templates, etude.splitting; print([m for m in ('jinja2', 'yaml', 'pyarrow', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
