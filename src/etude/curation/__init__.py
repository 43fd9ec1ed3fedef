"""Which training rows stay, and why the others left. A Check gives every row a Fate; a Rewrite changes a row."""

from __future__ import annotations

from etude.catalog import Catalog
from etude.curation.comments import RemoveComments
from etude.curation.contamination import Contamination
from etude.curation.contradictions import Contradictions
from etude.curation.difficulty import Difficulty
from etude.curation.duplicates import ExactDuplicate, NearDuplicate
from etude.curation.emptiness import Echo, EmptyAnswer, OnlyPunctuation, Placeholder
from etude.curation.endings import CodeFence, CutOff
from etude.curation.following import Follows, Relevance
from etude.curation.invisible import Invisible, StripInvisible
from etude.curation.judged import Judged
from etude.curation.language import Language
from etude.curation.leftovers import EndOfText, FieldOrder, LeftoverPrompt, MergedRows
from etude.curation.length import Length
from etude.curation.novelty import RougeDuplicate
from etude.curation.poison import PoisonTriggers
from etude.curation.quality import Quality, SeedQuality
from etude.curation.readability import Readability
from etude.curation.refusal import Refusal
from etude.curation.repetition import Repetition
from etude.curation.rows import Beside, Check, Rewrite, Row, Verdicts
from etude.curation.secrets import MaskSecrets, Secrets
from etude.curation.semantic import SemanticDuplicate
from etude.curation.unsafe import Unsafe
from etude.curation.vagueness import VagueInstruction

CHECKS = Catalog(
    "check",
    {
        "contamination": Contamination,
        "exact_duplicate": ExactDuplicate,
        "near_duplicate": NearDuplicate,
        "rouge_duplicate": RougeDuplicate,
        "semantic_duplicate": SemanticDuplicate,
        "empty_answer": EmptyAnswer,
        "placeholder": Placeholder,
        "only_punctuation": OnlyPunctuation,
        "echo": Echo,
        "merged_rows": MergedRows,
        "leftover_prompt": LeftoverPrompt,
        "end_of_text": EndOfText,
        "field_order": FieldOrder,
        "contradictions": Contradictions,
        "vague_instruction": VagueInstruction,
        "length": Length,
        "language": Language,
        "cut_off": CutOff,
        "code_fence": CodeFence,
        "refusal": Refusal,
        "follows": Follows,
        "relevance": Relevance,
        "readability": Readability,
        "repetition": Repetition,
        "quality": Quality,
        "seed_quality": SeedQuality,
        "unsafe": Unsafe,
        "secrets": Secrets,
        "invisible": Invisible,
        "poison_triggers": PoisonTriggers,
        "judged": Judged,
        "difficulty": Difficulty,
    },
)

REWRITES = Catalog(
    "rewrite",
    {
        "remove_comments": RemoveComments,
        "mask_secrets": MaskSecrets,
        "strip_invisible": StripInvisible,
    },
)

__all__ = ["CHECKS", "REWRITES", "Beside", "Check", "Rewrite", "Row", "Verdicts"]
