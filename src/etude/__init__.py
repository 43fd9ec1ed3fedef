"""etude: instruction-tune a language model and know, with evidence, whether it worked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etude.pipeline import report, run
    from etude.recipe import Recipe
    from etude.records import Conversation, Message

__all__ = ["Conversation", "Message", "Recipe", "report", "run"]

HOMES = {"Conversation": "records", "Message": "records", "Recipe": "recipe", "report": "pipeline", "run": "pipeline"}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import etude` costs nothing."""
    if name in HOMES:
        return getattr(importlib.import_module(f"etude.{HOMES[name]}"), name)
    raise AttributeError(f"module 'etude' has no attribute {name!r}")
