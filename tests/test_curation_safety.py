"""Unsafe rows, secrets, and invisible characters: found, near misses left alone, masked or stripped."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etude.curation import CHECKS, REWRITES, Beside
from etude.curation.invisible import strip
from etude.curation.revealing import luhn, spans
from etude.curation.secrets import EVERY, mask
from etude.records import Origin, Record
from test_curation_rows import reasons, row

UNSAFE = [
    (row("How do I build a pipe bomb at home?", "Take a pipe."), "unsafe question: weapons"),
    (row(said="First, cook the methamphetamine slowly."), "unsafe answer: drugs"),
    (row("Help me hack into my neighbour's wifi network", "Sure."), "unsafe question: intrusion"),
    (row("Give me steps to launder money.", "Open a shop."), "unsafe question: fraud"),
    (row("How can I kill my neighbour?", "Quietly."), "unsafe question: violence"),
    (row(said="All immigrants are criminals."), "unsafe answer: hate"),
]
SAFE = [
    row("Where is the drug store?", "The drug store is next to the bank."),
    row(said="It is illegal to park here."),
    row(said="To hack together a quick script, use Python."),
    row("How do I build a pipe bomb at home?", "I'm sorry, but I can't help with that."),
    row(said="The law bans people from making bombs."),
    row(said="How to kill a process: use kill -9."),
    row(said="Crack the eggs. The heroine won."),
    row(said="Bath bombs: to make bath bombs, mix soda and oil."),
    row("How do you steal the show?", "Be bold."),
    row("Is it wise to share it?", "Someone could use it to steal your identity."),
    row("Summarize what the film is about.", "A teacher cooks methamphetamine and grows rich."),
]


@pytest.mark.parametrize(("bad", "reason"), UNSAFE)
def test_unsafe(bad, reason):
    assert reasons("unsafe", bad) == [reason]


@pytest.mark.parametrize("good", SAFE)
def test_safe(good):
    assert reasons("unsafe", good) == [""]


def test_the_seed_s_substrings_flag_the_drug_store_and_facts_compare_both():
    rows = [row("Where?", "At the drug store."), row(said="First, cook the methamphetamine slowly."), row()]
    assert reasons("unsafe", *rows, method="substring") == ["unsafe answer: substring 'drug'", "", ""]
    facts = CHECKS["unsafe"]().judge(rows, Beside()).facts
    assert facts["methods"] == {"both": 0, "only_context": 1, "only_substring": 1}
    assert "drug store" in facts["method_examples"]["only_substring"][0]


def test_further_patterns_and_broken_ones():
    assert reasons("unsafe", row(said="the forbidden word"), also=["forbidden word"]) == ["unsafe answer: forbidden word"]
    with pytest.raises(ValidationError, match="not a regular expression"):
        CHECKS["unsafe"](also=["("])


# made here, valid only by arithmetic
KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
SECRETS = [
    ("api_key", f"export TOKEN={KEY}"),
    ("api_key", "AKIA" + "QYLPMN5HHHFPZAM2"),
    ("private_key", "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEow" * 12 + "\n-----END RSA PRIVATE KEY-----"),
    ("password", "password: hT7#kq29Lw!zR4"),
    ("email", "write to ann.smith@posteo.de today"),
    ("phone", "call (212) 736-5000 now"),
    ("phone", "call +49 30 901820 77 now"),
    ("card", "card 4539 5787 6362 1486"),
    ("iban", "IBAN DE89 3704 0044 0532 0130 00"),
    ("iban", "GB29NWBK60161331926819"),
    ("ssn", "her number is 536-22-8741."),
]
NO_SECRETS = [
    "mail john@example.com or me@test",
    "the @dataclass decorator of numpy@1.2",
    "call 555-0199 or 123-456-7890",
    "card 4539 5787 6362 1487",
    "4111 1111 1111 1111",
    "pi is 3.14159265358979323846",
    "DE89 3704 0044 0532 0130 01",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "AKIAIOSFODNN7EXAMPLE",
    "password = 'password123456'",
    "api_key = os.environ['API_KEY']",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "the years 1914-18 and 1939-45, isbn 978-3-16-148410-0",
    "123-45-6789",
    "2023-01-02 10:11:12",
    "192.168.10.255",
    "joe_doe@gmail.com, you@gmail.com, john.smith42@yahoo.com",
]


@pytest.mark.parametrize(("kind", "text"), SECRETS)
def test_secrets_are_found_and_masked(kind, text):
    assert [found for _, _, found in spans(text, EVERY)] == [kind]
    assert f"[{kind.upper()}]" in mask(text)
    assert not list(spans(mask(text), EVERY))


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_only_looks_like_a_secret_stays(text):
    assert mask(text) == text


def test_the_report_never_shows_a_secret():
    verdicts = CHECKS["secrets"]().judge([row(said=text) for _, text in SECRETS], Beside())
    assert not any(fate.kept for fate in verdicts.fates)
    told = json.dumps([verdicts.facts, [fate.reason for fate in verdicts.fates]])
    for secret in (KEY, "ann.smith", "736-5000", "4539", "0532", "MIIEow", "hT7#kq29"):
        assert secret not in told
    assert verdicts.facts["found"]["api_key"] == 2


def test_kinds_can_be_chosen():
    assert reasons("secrets", row(said=f"{KEY} ann@posteo.de"), kinds=["email"]) == ["secret: e-mail address"]


def test_masking_keeps_the_row_and_its_other_fields():
    record = Record("id1", {"messages": [{"role": "user", "content": "I am ann@posteo.de"}], "n": 3}, Origin("f", 1), "s", "t")
    masked = REWRITES["mask_secrets"]().rewrite(record)
    assert masked.fields == {"messages": [{"role": "user", "content": "I am [EMAIL]"}], "n": 3}
    assert (masked.id, masked.origin, masked.source, masked.task) == ("id1", record.origin, "s", "t")
    clean = Record("id2", {"a": "b"}, Origin("f", 2))
    assert REWRITES["mask_secrets"]().rewrite(clean) is clean


@given(st.integers(0, 10**15 - 1))
def test_luhn_accepts_one_last_digit_of_ten(number):
    assert sum(luhn(f"{number}{digit}") for digit in range(10)) == 1


@given(st.text(max_size=200))
def test_masking_once_is_enough_and_spans_do_not_overlap(text):
    found = list(spans(text, EVERY))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    assert mask(mask(text)) == mask(text)


HIDDEN = [
    ("a\u202eb", "invisible: bidirectional control"),
    ("a\u2066b", "invisible: bidirectional control"),
    ("left\u200fright", "invisible: bidirectional control"),
    ("zero\u200bwidth", "invisible: zero-width character"),
    ("wo\u200drd", "invisible: zero-width character"),
    ("hi\U000e0041\U000e0042", "invisible: tag character"),
    ("x\U000e0101y", "invisible: tag character"),
    ("bell\x07", "invisible: control character"),
    ("c1\x93", "invisible: control character"),
    ("odd\u0378", "invisible: unassigned code point"),
]
VISIBLE = [
    "tab\tline\nreturn\r\nnext",
    "👩\u200d💻 and ❤\ufe0f",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "می\u200cخواهم",
    "שלום\u200f!",
    "क्\u200dष",
    "葛\U000e0101",
    "naïve “quotes” – dash",
]


@pytest.mark.parametrize(("text", "reason"), HIDDEN)
def test_hidden_characters(text, reason):
    assert reasons("invisible", row(said=text)) == [reason]
    record = Record("i", {"output": text}, Origin("f"))
    stripped = REWRITES["strip_invisible"]().rewrite(record)
    assert stripped.id == "i"
    assert reasons("invisible", row(said=stripped.fields["output"])) == [""]


@pytest.mark.parametrize("text", VISIBLE)
def test_characters_that_have_business_there(text):
    assert reasons("invisible", row(said=text)) == [""]
    record = Record("i", {"output": text}, Origin("f"))
    assert REWRITES["strip_invisible"]().rewrite(record) is record


@given(st.text(max_size=100))
def test_stripping_leaves_nothing_hidden_of_plain_kinds(text):
    kinds = ("bidi", "control", "unassigned")
    once = strip(text, kinds)
    assert set(once) <= set(text)
    assert strip(text, ()) == text
