"""Rows that ask for or give what does harm, by a documented list of patterns in context."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from etude.catalog import Settings
from etude.curation.deciding import EXAMPLES, Found, decide
from etude.curation.refusal import declines
from etude.curation.rows import Beside, Row, Verdicts
from etude.curation.texts import Expression, answers, closed, questions, shown

SUBSTRINGS = ("hack", "illegal", "weapon", "drug")
"""Seed 1's list: an answer that holds any of them, anywhere in a word, is harmful."""

MAKE = (
    r"(?:mak(?:e|ing)|build(?:ing)?|creat(?:e|ing)|construct(?:ing)?|assembl(?:e|ing)|cook(?:ing)?|synthesi[sz](?:e|ing)|"
    r"produc(?:e|ing)|manufactur(?:e|ing)|3d[- ]print(?:ing)?)"
)
GET = (
    r"(?:buy(?:ing)?|get(?:ting)?|obtain(?:ing)?|acquir(?:e|ing)|purchas(?:e|ing)|sell(?:ing)?|smuggl(?:e|ing)|deal(?:ing)?|"
    r"traffic(?:king)?)"
)
NEAR = r"(?:\W+\w+){0,3}?\W+"
HOW = (
    r"\b(?:how (?:do|can|could|would|should) (?:i|you|we|one|someone)|how to|ways? to|steps? to|instructions? (?:to|for|on)|"
    r"guide (?:to|for|on)|tips? (?:to|for|on)|help me|teach me (?:to|how)|recipe for|i want to|plan to)\b" + NEAR
)
TARGETS = r"(?:accounts?|phone|computers?|e-?mails?|wi-?fi|networks?|websites?|bank|facebook|instagram|servers?|systems?|database)"
VICTIMS = r"(?:someone|somebody|people|a person|him|her|them|my \w+|your \w+|a man|a woman|children|the president)"
GROUPS = (
    r"(?:jews|muslims|blacks|black people|whites|white people|asians|immigrants|gays|gay people|homosexuals|women|mexicans|arabs|"
    r"christians|disabled people|refugees)"
)
SLURS = (
    r"(?:inferior|subhuman|vermin|animals|parasites|stupid|lazy|criminals|terrorists|killed|deported|eliminated|evil|disgusting|"
    r"less intelligent)"
)

PATTERNS: dict[str, tuple[str, ...]] = {
    "weapons": (
        MAKE + NEAR + r"(?:pipe bombs?|(?<!bath )(?<!seed )(?<!photo )(?<!cherry )bombs?|explosives?|grenades?|molotov|landmines?|"
        r"nerve agents?|chemical weapons?|biological weapons?|"
        r"ghost guns?|silencers?|napalm|ricin|sarin|anthrax)\b(?! shelter| calorimeter| cyclone| bath)",
    ),
    "drugs": (
        MAKE + NEAR + r"(?:meth(?:amphetamine)?|heroin|cocaine|crack cocaine|fentanyl|lsd|mdma|ecstasy|ghb)",
        GET + NEAR + r"(?:meth(?:amphetamine)?|heroin|cocaine|fentanyl|illegal drugs|street drugs|prescription drugs without)",
    ),
    "intrusion": (
        r"hack(?:ing)? (?:in)?to" + NEAR + TARGETS,
        r"hack(?:ing)? (?:someone|somebody|a|an|the|my|your|his|her|their|another)(?:['’]s)?" + NEAR + TARGETS,
        r"(?:steal|crack)(?:ing)?(?! your\b)" + NEAR + r"(?:passwords?|identit(?:y|ies)|credit card|bank account)",
        r"(?:write|create|develop|deploy|make)" + NEAR + r"(?:malware|ransomware|keylogger|computer virus|trojan|spyware|"
        r"phishing (?:e-?mail|page|site))",
    ),
    "violence": (HOW + r"(?:kill|murder|poison|stab|strangle|kidnap|torture|assassinate)" + NEAR + VICTIMS,),
    "self_harm": (
        HOW + r"(?:kill (?:myself|yourself)|commit suicide|end my life|self[- ]harm|cut myself|starve myself)",
        r"you should (?:kill yourself|end your life)",
    ),
    "fraud": (
        HOW + r"(?:launder money|evade taxes|"
        r"forge (?:a |an |the )?(?:\w+ )?(?:signatures?|documents?|che(?:ck|que)s?|passports?|ids?|certificates?)|"
        r"counterfeit|scam|defraud|shoplift|rob (?:a|the)|cheat on (?:my|your) taxes|"
        r"steal (?!the (?:show|spotlight))\w+)",
    ),
    "sexual_minors": (
        r"(?:sexual|erotic|nude|naked|porn\w*)(?:\W+\w+){0,4}?\W+(?:child(?:ren)?|minors?|underage|toddlers?|pre-?teens?)\b"
        r"(?! (?:abuse|education|protection|development))",
    ),
    "hate": (r"(?:all|those|these|most) " + GROUPS + r"(?:\W+\w+)?\W+(?:are|should be) (?:\w+ )?" + SLURS,),
}
"""Category -> what is unsafe: a verb of doing and its object, a few words apart, at word boundaries. Bare words ("drug", "weapon") are
never enough."""

CONTEXT = re.compile(
    r"\b(?:prevent\w*|avoid\w*|protect\w*|against|stop(?:ping|ped)?|detect\w*|fight\w*|combat\w*|ban(?:s|ned|ning)?|illegal to|"
    r"crime|criminal|"
    r"arrest\w*|accus\w+|convict\w*|charged|police|law(?:s|yers?)?|legislation|treat\w*|rehab\w*|addict\w*|histor\w+|war|novel|"
    r"film|movie|"
    r"fiction\w*|character|story|plot|detective|game|news|report\w*|raise awareness|dangers? of|risks? of|ethical|penetration test\w*|"
    r"never|do not|don['’]t|must not|should not|shouldn['’]t|not to|false|stereotyp\w*|wrong|victims?|suspects?|alleged\w*)\b",
    re.IGNORECASE,
)
"""Words that say the text speaks about harm, and does not give it: a finding with one of them near is let go."""

RETOLD = re.compile(r"\b(?:summar\w+|plot|synopsis|review|describe|about)\b", re.IGNORECASE)
TALE = re.compile(r"\b(?:movies?|films?|series|novels?|books?|episodes?|shows?|plays?)\b", re.IGNORECASE)
"""What is retold of a film or a book is no instruction."""

NEARBY = 100
"""Characters on each side of a finding in which context is looked for."""

Category = Literal["weapons", "drugs", "intrusion", "violence", "self_harm", "fraud", "sexual_minors", "hate"]
EVERY: tuple[Category, ...] = ("weapons", "drugs", "intrusion", "violence", "self_harm", "fraud", "sexual_minors", "hate")

COMPILED = {name: re.compile(rf"\b(?:{'|'.join(patterns)})\b", re.IGNORECASE) for name, patterns in PATTERNS.items()}
HINTS: dict[str, str] = {
    "weapons": "bomb|explosive|grenade|molotov|landmine|nerve|chemical|biological|ghost|silencer|napalm|ricin|sarin|anthrax",
    "drugs": "meth|heroin|cocaine|fentanyl|lsd|mdma|ecstasy|ghb|drugs",
    "intrusion": "hack|steal|crack|malware|ransomware|keylogger|virus|trojan|spyware|phishing",
    "violence": "kill|murder|poison|stab|strangle|kidnap|torture|assassinate",
    "self_harm": "suicide|kill |end my|end your|self-harm|self harm|cut myself|starve",
    "fraud": "launder|evade|forge|counterfeit|scam|defraud|shoplift|rob|cheat|steal",
    "sexual_minors": "sexual|erotic|nude|naked|porn",
    "hate": "jews|muslims|black|white|asians|immigrants|gay|homosexuals|women|mexicans|arabs|christians|disabled|refugees",
}
"""Category -> words (with | between), lower case, of which its pattern needs one: a text with none of them is not read again."""


HINTED = tuple((hint, name) for name, hints in HINTS.items() for hint in hints.split("|"))


class Unsafe(Settings):
    """Rows whose question or answer is unsafe.

    `context` (the default) looks for the patterns of `PATTERNS`, and lets go what stands near words of prevention, law, history,
    medicine or fiction, and what the answer declines. It is a list: it finds plain requests, and misses veiled ones.
    `substring` is seed 1's filter, exactly: an answer with "hack", "illegal", "weapon" or "drug" anywhere in it, so "drug
    store" and "weaponize" too. Whichever is used, facts say how many rows the other would have dropped.
    """

    method: Literal["context", "substring"] = "context"
    """How a row is judged."""
    categories: tuple[Category, ...] = EVERY
    """The categories that count, for `context`."""
    also: tuple[Expression, ...] = ()
    """Further unsafe patterns (regular expressions, case does not count), for `context`."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """Drop unsafe rows; facts compare the two methods."""
        only: dict[str, list[str]] = {"context": [], "substring": []}
        both = 0

        def find(row: Row) -> Found | None:
            nonlocal both
            mine = None if closed(row, beside) else self.harm(row)
            theirs = substring(row.answer)
            if mine and theirs:
                both += 1
            elif mine:
                only["context"].append(f"{row.id}: {shown(mine.seen, 100)}")
            elif theirs:
                only["substring"].append(f"{row.id}: {shown(theirs.seen, 100)}")
            return mine if self.method == "context" else theirs

        verdicts = decide(rows, beside, find)
        methods = {"both": both, **{f"only_{name}": len(there) for name, there in only.items()}}
        shows = {f"only_{name}": there[:EXAMPLES] for name, there in only.items()}
        return Verdicts(verdicts.fates, {**verdicts.facts, "methods": methods, "method_examples": shows})

    def harm(self, row: Row) -> Found | None:
        """What is unsafe in one row, in context."""
        for part, texts in (("question", questions(row)), ("answer", answers(row))):
            for text in texts:
                lowered = text.lower()
                hinted = {name for hint, name in HINTED if hint in lowered}
                patterns: dict[str, re.Pattern[str]] = {name: COMPILED[name] for name in self.categories if name in hinted}
                patterns |= {pattern: re.compile(pattern, re.IGNORECASE) for pattern in self.also}
                for name, pattern in patterns.items():
                    for found in pattern.finditer(text):
                        if not excused(row, part, text, found.span()):
                            return Found(f"unsafe {part}: {name}", f"… {text[max(0, found.start() - 60) : found.end() + 60]}")
        return None


def excused(row: Row, part: str, text: str, span: tuple[int, int]) -> bool:
    """Whether words near a finding, or the beginning of the answer to it, say that nothing harmful is given."""
    start, end = span
    if RETOLD.search(row.instruction) and TALE.search(row.instruction):
        return True
    if CONTEXT.search(f"{text[max(0, start - NEARBY) : start]} {text[end : end + NEARBY]}"):
        return True
    return part == "question" and (declines(row.answer[:200]) or CONTEXT.search(row.answer[:200]) is not None)


def substring(text: str) -> Found | None:
    """Seed 1's filter: the first of its substrings in the lower-cased answer."""
    lowered = text.lower()
    for bad in SUBSTRINGS:
        if (at := lowered.find(bad)) >= 0:
            return Found(f"unsafe answer: substring {bad!r}", f"… {text[max(0, at - 40) : at + 60]}")
    return None
