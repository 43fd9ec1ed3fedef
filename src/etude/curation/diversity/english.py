"""English words by rule: verbs that instructions begin with, their base forms, and nouns in the singular.

The lists are our own and small on purpose: about 400 verbs, chosen because people ask with them; an unlisted word at
the start of a sentence still counts as a verb where a determiner follows it ("Anonymise the ...").
"""

from __future__ import annotations

from functools import lru_cache


def listed(words: str) -> frozenset[str]:
    """Words set apart by spaces."""
    return frozenset(words.split())


def paired(pairs: str) -> dict[str, str]:
    """`ate:eat beaten:beat` as a mapping."""
    return {pair.partition(":")[0]: pair.partition(":")[2] for pair in pairs.split()}


VERBS = listed(
    "abbreviate accept access accomplish achieve acknowledge act adapt add address adjust advertise advise affect agree aid alert allow "
    "allocate alphabetize alter analyse analyze animate annotate announce answer anticipate apologize appear append apply appoint "
    "appraise approach approximate argue arrange ask assemble assert assess assign assist associate assume attach attack attempt "
    "attend attract authenticate automate avoid award balance ban base beat become begin behave believe belong benchmark benefit bind "
    "blend block boil book boost borrow brainstorm break bring broadcast browse build bundle burn buy calculate call cancel "
    "capitalize capture care carry cast catch categorise categorize cause celebrate change characterise characterize chart check "
    "choose circle cite claim clarify classify clean clear climb close cluster code collaborate collect combine come comment "
    "communicate compare compile complain complete compose compress compute concatenate conclude condense conduct configure "
    "confirm connect consider consist construct consume contact contain contemplate continue contrast contribute control convert "
    "convince cook copy correct correlate cost count cover craft create criticize critique crop cross cultivate customize cut date deal "
    "debate debug decide declare decline decode decorate decrease deduce deduct deduplicate define delete deliver demonstrate depend "
    "deploy derive describe design detect determine develop devise diagnose differ differentiate digest discover discuss display "
    "distinguish distribute divide document dominate donate double download draft draw dream drink drive drop earn eat edit educate "
    "elaborate eliminate embed emphasize employ enable encode encourage encrypt end engage enhance enjoy ensure enter enumerate "
    "equip escape establish estimate evaluate examine exchange execute exercise exist expand expect experience explain explore "
    "export express extend extract fact-check fall feed feel fetch fight figure file fill filter finalize find finish fit fix flip fly "
    "focus follow forecast forget form format formulate foster frame function gain gather generate get give go grade grow guess "
    "guide handle happen harvest hear help hide highlight hire hold host hypothesize identify ignore illustrate imagine implement "
    "import improve include incorporate increase indicate infer influence inform initialize insert inspect inspire install instruct "
    "integrate interpret interview introduce invent investigate invite invoke iterate join judge justify keep know label launch lead "
    "learn leave lend let link list listen live load locate log look lose lower maintain make manage map mark market match maximize "
    "mean measure meet memorize mention merge migrate minimize mix model modify monitor motivate move multiply name narrate "
    "navigate need negotiate normalize note notice notify number observe obtain offer open operate optimize order organise organize "
    "outline overcome overlap own pack paint panic paraphrase parse participate partition pass paste pay perceive perform permit persuade "
    "phrase pick pitch place plan plant play plot point populate pose position post practice predict prefer prepare present "
    "preserve prevent print prioritize proceed process produce program prompt pronounce proofread propose protect prove provide publish "
    "pull punctuate purchase push put quantify query quote raise randomize rank rate reach read rearrange reason recall recite "
    "recognize recommend reconstruct record recover recreate rectify recycle redesign reduce refactor refer refine reflect "
    "reformulate register relate release remember remind remove rename reorder reorganize repair repeat rephrase replace reply report "
    "represent reproduce request require research resolve respond restate restructure result retell retrieve return reveal "
    "reverse review revise reword rewrite role-play roleplay rotate round run save say scan schedule score scramble search see "
    "select sell send separate serve set share shift shorten show shuffle sign simplify simulate sing sit sketch sleep smell solve "
    "sort speak specify spell spend split spot stand star start state stay stop store strengthen stretch structure study style "
    "subtract suggest suit sum summarise summarize supply support suppose survive swap switch synthesize tabulate tag take talk target "
    "taste teach tell test thank think throw tokenize touch track train transcribe transform translate transpose travel treat trim "
    "try turn type understand unscramble update upgrade upload use utilize validate value vary verify view visit visualize vote "
    "wait walk want warn wash watch wear weigh win wish wonder work wrap write"
)

IRREGULAR = paired(
    "ate:eat beaten:beat became:become began:begin begun:begin bought:buy broke:break brought:bring built:build came:come "
    "caught:catch chose:choose chosen:choose cut:cut drank:drink drawn:draw drew:draw drove:drive eaten:eat fell:fall felt:feel "
    "flew:fly forgot:forget fought:fight found:find gave:give given:give gone:go got:get grew:grow grown:grow heard:hear held:hold "
    "hid:hide kept:keep knew:know known:know led:lead left:leave lent:lend lost:lose made:make meant:mean met:meet paid:pay ran:run "
    "said:say sang:sing sat:sit saw:see seen:see sent:send slept:sleep sold:sell spent:spend spoke:speak spoken:speak stood:stand "
    "taken:take taught:teach thought:think threw:throw told:tell took:take understood:understand went:go won:win wore:wear "
    "written:write wrote:write"
)

PLURALS = paired(
    "children:child feet:foot geese:goose knives:knife leaves:leaf lives:life men:man mice:mouse people:person teeth:tooth "
    "wives:wife women:woman wolves:wolf analyses:analysis hypotheses:hypothesis theses:thesis crises:crisis criteria:criterion "
    "phenomena:phenomenon indices:index matrices:matrix vertices:vertex movies:movie cookies:cookie"
)
UNCHANGED = listed("news series species mathematics physics economics politics ethics basics gas bus plus lens canvas")

DETERMINERS = listed(
    "a an the this that these those my your his her its our their some any each every all both another no several many few "
    "more most following given two three four five six seven eight nine ten twenty"
)
PRONOUNS = listed("me us him her them it you i we he she they someone something anything everyone one yourself myself itself this")
AUXILIARIES = listed("is are was were am be been being do does did can could should would will may might must shall has have had")
BE = listed("is are was were am be 's")
QUESTIONS = listed("what which who whom whose when where why how")
PREPOSITIONS = listed(
    "of in on at for from with without by about as into onto between among against during through over under per via than like "
    "within across around after before upon toward towards regarding concerning to off near behind beyond since until such "
    "based along except despite versus vs out up"
)
CLAUSES = listed(
    "and or but so because if when while where that which who whom whose how why what whether then given using containing including "
    "consisting describing explaining involving named called titled entitled followed written is are was were be has have had can "
    "will would should could do does did must may might there it they he she you we i not"
)
"""Words at which a noun phrase is over."""
TRAILING = listed("below above again here now today together instead only too well aloud alphabetically also yet once better more most")
ADJECTIVES = listed(
    "clear short brief simple concise long new old good small large big main key detailed different similar unique positive negative "
    "formal polite sad happy funny fun catchy easy hard healthy interesting complex major"
)
SUFFIXES = ("ive", "ous", "ful", "able", "ible", "less", "ical", "ional", "ing", "ed")


@lru_cache(maxsize=1 << 14)
def base(word: str) -> str:
    """The base form of a lower-case verb in any of its forms, or "" for a word that is no listed verb."""
    if word in VERBS:
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    for ending, forms in (("ies", ("y",)), ("ied", ("y",)), ("es", ("", "e")), ("s", ("",)), ("ed", ("", "e")), ("ing", ("", "e"))):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            stem = word.removesuffix(ending)
            for form in forms:
                if stem + form in VERBS:
                    return stem + form
            if len(stem) > 2 and stem[-1] == stem[-2] and stem[:-1] in VERBS:
                return stem[:-1]
    return ""


@lru_cache(maxsize=1 << 14)
def singular(noun: str) -> str:
    """A lower-case noun in the singular, by its ending; words that only look plural ("news", "analysis") as they are."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun in UNCHANGED or not noun.endswith("s") or noun.endswith(("ss", "us", "is")) or len(noun) < 4:
        return noun
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("sses", "ches", "shes", "xes", "zzes")):
        return noun[:-2]
    return noun[:-1]
