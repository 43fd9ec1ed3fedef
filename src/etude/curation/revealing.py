"""Where secrets stand in a text: patterns with a check behind each, so that a number is a card only when its check digit says so."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

Kind = Literal["private_key", "api_key", "password", "email", "phone", "card", "iban", "ssn"]

KINDS: dict[str, str] = {
    "private_key": "private key",
    "api_key": "API key",
    "password": "password",
    "email": "e-mail address",
    "phone": "telephone number",
    "card": "card number",
    "iban": "bank account (IBAN)",
    "ssn": "US social security number",
}
"""Kind -> its words; in the order in which an overlap is decided."""

PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[^-]{40,}(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?"
)

API_KEY = re.compile(
    r"\b(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"  # AWS access key ids
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20,}"  # GitHub, GitLab
    r"|sk-(?:proj-|ant-|or-|svcacct-)?[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic, OpenRouter
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{30,}"  # Google
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|dop_v1_[a-f0-9]{64}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"  # Slack, SendGrid
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|sq0(?:atp|csp)-[A-Za-z0-9_-]{22,}"  # Stripe, Square
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON Web Tokens
    r")"
)
"""Prefixes that their issuers document for secret scanners."""

PASSWORD = re.compile(
    r"\b(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token|secret[_-]?key|client[_-]?secret)[\"']?\s*(?:[:=]|:=|=>)\s*"
    r"[\"']?(?P<value>[A-Za-z0-9+/_=.!@#$%^&*~-]{12,})",
    re.IGNORECASE,
)
EMAIL = re.compile(
    r"(?<![\w.+/-])[A-Za-z0-9](?:[\w.+-]{0,62}[\w+])?@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b(?!\()"
)
RESERVED = re.compile(
    r"(?:^|[@.])(?:example|test|invalid|localhost|local|email|domain|company|yourdomain|mydomain|yourcompany|abc|xyz|mail|website|sample|acme|xyzcompany|abccompany)"
    r"(?:\.(?:com|org|net|edu|io|co))?$",
    re.IGNORECASE,
)
"""Domains that RFC 2606 reserves, and those that people write as made-up ones."""

ANYONE = re.compile(
    r"(?:(?:j(?:ohn|ane|oe|on)|mary|bob|alice)(?:[._-]?(?:doe|smith|q|public))?|j?(?:doe|smith)|you|me|user(?:name)?|name|first[._-]?last(?:name)?|someone|"
    r"anyone|sender|recipient|receiver|to|from|test|foo|bar|abc|xyz|123)\d{0,4}@",
    re.IGNORECASE,
)
"""Local parts of addresses that people write as made-up ones."""

PHONE = re.compile(
    r"(?<![\w.,:/+=(-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]\d{2,6}){1,4}|\+\d{10,14}"
    r"|(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}|(?:1[.-])?\d{3}([.-])\d{3}\1\d{4})(?![\w-]|[.,]\d|/)"
)
CARD = re.compile(r"(?<![\d.,+-])(?:\d[ -]?){12,18}\d(?![\d-]|[.,]\d)")
IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
SSN = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
MADE_UP = re.compile(r"example|sample|xxx|your|placeholder|dummy|changeme|test_?key|12345|abcde|password|\.{3}|\*{3}", re.IGNORECASE)

REGISTRY = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 EE:20 "
    "EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 "
    "KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 MC:27 MD:24 ME:22 MK:19 MR:27 MT:31 MU:30 NL:18 NO:15 PK:24 PL:28 "
    "PS:29 PT:25 QA:29 RO:24 RS:22 SA:24 SC:31 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 "
    "XK:20"
)
IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in REGISTRY.split()}
"""Country -> characters of its IBAN (ISO 13616 registry)."""


def spans(text: str, kinds: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind) of each secret, in the order of the text, without overlaps."""
    found = [(start, end, kind) for kind in kinds if MAY_HOLD[kind](text) for start, end in FIND[kind](text)]
    if len(found) > 1:
        rank = list(KINDS)
        found.sort(key=lambda span: (span[0], rank.index(span[2])))
    last = 0
    for start, end, kind in found:
        if start >= last:
            yield start, end, kind
            last = end


def entropy(text: str) -> float:
    """Shannon entropy of a text's characters, bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def private_keys(text: str) -> Iterator[tuple[int, int]]:
    """PEM and PGP private keys with something like a key in them."""
    for found in PRIVATE_KEY.finditer(text):
        if "..." not in found.group():
            yield found.span()


def api_keys(text: str) -> Iterator[tuple[int, int]]:
    """Keys with a known prefix that look drawn at random: 3 bits a character, with digits and letters, and not made up."""
    for found in API_KEY.finditer(text):
        key = found.group()
        if entropy(key) >= 3 and any(map(str.isdigit, key)) and not MADE_UP.search(key):
            yield found.span()


def passwords(text: str) -> Iterator[tuple[int, int]]:
    """Values given to a password, secret or token that look drawn at random: 3.4 bits a character, letters and digits, no word or code."""
    for found in PASSWORD.finditer(text):
        value = found["value"]
        mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
        if mixed and entropy(value) >= 3.4 and not MADE_UP.search(value) and "." not in value[:-1]:
            yield found.span("value")


def emails(text: str) -> Iterator[tuple[int, int]]:
    """E-mail addresses outside reserved domains."""
    for found in EMAIL.finditer(text):
        domain = found.group().rpartition("@")[2]
        if not RESERVED.search(domain) and not MADE_UP.search(found.group()) and not ANYONE.match(found.group()):
            yield found.span()


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Telephone numbers in international or North American writing, without the fictional ones."""
    for found in PHONE.finditer(text):
        digits = re.sub(r"\D", "", found.group())
        local = digits[-10:]
        fictional = local[3:6] == "555" or "12345" in digits or "98765" in digits or len(set(digits)) < 4 or digits.startswith("1800")
        if 10 <= len(digits) <= 15 and not fictional:
            yield found.span()


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Payment cards: an issuer's prefix and length, groups as printed or none, and a valid Luhn check digit (ISO/IEC 7812)."""
    for found in CARD.finditer(text):
        digits = re.sub(r"\D", "", found.group())
        issued = (
            (digits[0] == "4" and len(digits) in (13, 16, 19))
            or (digits[:2] in ("51", "52", "53", "54", "55") and len(digits) == 16)
            or (2221 <= int(digits[:4]) <= 2720 and len(digits) == 16)
            or (digits[:2] in ("34", "37") and len(digits) == 15)
            or ((digits[:4] == "6011" or digits[:2] == "65") and len(digits) == 16)
            or (digits[:2] in ("36", "38") and len(digits) == 14)
        )
        groups = [len(group) for group in re.split(r"[ -]", found.group())]
        printed = len(groups) == 1 or (max(groups) <= 6 and min(groups[:-1]) >= 4)
        if issued and printed and len(set(digits)) > 2 and luhn(digits):
            yield found.span()


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit: from the right, every second digit doubled (less 9 above 9), the sum a multiple of 10."""
    total = sum(int(d) if place % 2 == 0 else sum(divmod(2 * int(d), 10)) for place, d in enumerate(reversed(digits)))
    return total % 10 == 0


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """IBANs of a country's length whose number, first four characters moved to the end and letters read as 10 to 35, is 1 modulo 97."""
    for found in IBAN.finditer(text):
        size = IBAN_LENGTHS.get(found.group()[:2], 0)
        # the last group may have taken a following word in capitals: cut to the country's length
        taken = end = 0
        for character in found.group():
            end += 1
            taken += character != " "
            if taken == size:
                break
        number = found.group()[:end].replace(" ", "")
        if size and len(number) == size and int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1:
            yield found.start(), found.start() + end


def ssns(text: str) -> Iterator[tuple[int, int]]:
    """US social security numbers in their printed form, without those never issued and the well-known made-up ones."""
    for found in SSN.finditer(text):
        if found.group() not in ("123-45-6789", "987-65-4321", "078-05-1120", "111-11-1111", "219-09-9999"):
            yield found.span()


DIGITS = re.compile(r"\d(?:[ ().+-]{0,3}\d){6}")


def numeric(text: str) -> bool:
    """Whether a text may hold a long number: seven digits close together."""
    return DIGITS.search(text) is not None


PREFIXES = (
    "AKIA ASIA ABIA ACCA ghp_ gho_ ghu_ ghs_ ghr_ github_pat glpat- sk- AIza ya29 hf_ npm_ pypi- dop_v1 xox SG. k_live k_test sq0 eyJ"
)
CREDENTIALS = tuple(PREFIXES.split())
ASSIGNED = ("password", "passwd", "pwd", "secret", "key", "token")


FIND: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "private_key": private_keys,
    "api_key": api_keys,
    "password": passwords,
    "email": emails,
    "phone": phones,
    "card": cards,
    "iban": ibans,
    "ssn": ssns,
}
MAY_HOLD: dict[str, Callable[[str], bool]] = {
    "private_key": lambda text: "PRIVATE KEY" in text,
    "api_key": lambda text: any(start in text for start in CREDENTIALS),
    "password": lambda text: any(word in text.lower() for word in ASSIGNED),
    "email": lambda text: "@" in text,
    "phone": numeric,
    "card": numeric,
    "iban": numeric,
    "ssn": numeric,
}
"""Kind -> a quick look that spares most texts the pattern."""
