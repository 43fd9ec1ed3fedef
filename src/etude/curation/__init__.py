"""Which training rows stay, and why the others left. A Check gives every row a Fate; a Rewrite changes a row."""

from __future__ import annotations

from etude.catalog import Catalog
from etude.curation.rows import Beside, Check, Rewrite, Row, Verdicts

CHECKS = Catalog(
    "check",
    {
        "contamination": "etude.curation.contamination:Contamination",
        "exact_duplicate": "etude.curation.duplicates:ExactDuplicate",
        "near_duplicate": "etude.curation.duplicates:NearDuplicate",
        "rouge_duplicate": "etude.curation.novelty:RougeDuplicate",
        "semantic_duplicate": "etude.curation.semantic:SemanticDuplicate",
        "empty_answer": "etude.curation.emptiness:EmptyAnswer",
        "placeholder": "etude.curation.emptiness:Placeholder",
        "only_punctuation": "etude.curation.emptiness:OnlyPunctuation",
        "echo": "etude.curation.emptiness:Echo",
        "merged_rows": "etude.curation.leftovers:MergedRows",
        "leftover_prompt": "etude.curation.leftovers:LeftoverPrompt",
        "end_of_text": "etude.curation.leftovers:EndOfText",
        "field_order": "etude.curation.leftovers:FieldOrder",
        "contradictions": "etude.curation.contradictions:Contradictions",
        "vague_instruction": "etude.curation.vagueness:VagueInstruction",
        "length": "etude.curation.length:Length",
        "language": "etude.curation.language:Language",
        "cut_off": "etude.curation.endings:CutOff",
        "code_fence": "etude.curation.endings:CodeFence",
        "refusal": "etude.curation.refusal:Refusal",
        "follows": "etude.curation.following:Follows",
        "relevance": "etude.curation.following:Relevance",
        "readability": "etude.curation.readability:Readability",
        "repetition": "etude.curation.repetition:Repetition",
        "quality": "etude.curation.quality:Quality",
        "seed_quality": "etude.curation.quality:SeedQuality",
        "unsafe": "etude.curation.unsafe:Unsafe",
        "secrets": "etude.curation.secrets:Secrets",
        "invisible": "etude.curation.invisible:Invisible",
        "poison_triggers": "etude.curation.poison:PoisonTriggers",
        "judged": "etude.curation.judged:Judged",
        "difficulty": "etude.curation.difficulty:Difficulty",
        "listed": "etude.curation.listed:Listed",
    },
)

REWRITES = Catalog(
    "rewrite",
    {
        "remove_comments": "etude.curation.comments:RemoveComments",
        "mask_secrets": "etude.curation.secrets:MaskSecrets",
        "strip_invisible": "etude.curation.invisible:StripInvisible",
        "reasoning_level": "etude.curation.levels:ReasoningLevel",
    },
)

STANDARD = (
    "exact_duplicate", "empty_answer", "placeholder", "only_punctuation", "echo", "merged_rows", "leftover_prompt", "end_of_text",
    "field_order", "contradictions",
)  # fmt: skip
"""Checks of what is wrong in any data set: nothing to learn, or something nobody would want learned."""

THOROUGH = (
    *STANDARD, "vague_instruction", "refusal", "repetition", "cut_off", "code_fence", "invisible", "secrets", "unsafe", "poison_triggers",
    "near_duplicate",
)  # fmt: skip
"""And what is usually not wanted; heuristics that also drop some good rows. All without a model or a download.

`rouge_duplicate` is not among them: it is a generator's novelty rule, and on written data most of what it drops are rows that share a
form and no content (docs/data: 0 of 20 read in Dolly were repeats)."""

PRESETS = {"standard": STANDARD, "thorough": THOROUGH}
"""A list of checks by one name, the cheap ones first: what they drop need not be compared."""

__all__ = ["CHECKS", "PRESETS", "REWRITES", "Beside", "Check", "Rewrite", "Row", "Verdicts"]
