"""Data set entries of other tools as our source settings: LLaMA-Factory's `dataset_info.json` (its
`data/README.md` and `data/parser.py`) and the entries of axolotl's `datasets:` list (its
`utils/schemas/datasets.py`). What has no equal here becomes a comment, never silence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etude.failures import DataError, nearest
from etude.sources.where import kind_of

INDEX = "dataset_info.json"
MEDIA = ("images", "videos", "audios")
ENTRY = (
    "file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "formatting", "ranking", "subset", "split",
    "folder", "num_samples", "columns", "tags",
)  # fmt: skip
"""The keys of a LLaMA-Factory entry."""
LABEL = re.compile(r"[^A-Za-z0-9._-]+")

PROMPTED: dict[str, dict[str, str]] = {
    "gpteacher": {"prompt": "instruction", "context": "input", "completion": "response"},
    "oasst": {"prompt": "INSTRUCTION", "completion": "RESPONSE"},
    "jeopardy": {"prompt": "question", "context": "category", "completion": "answer"},
    "summarizetldr": {"prompt": "article", "completion": "summary"},
    "context_qa": {"prompt": "question", "context": "context", "completion": "answer"},
    "context_qa.load_v2": {"prompt": "question", "context": "context", "completion": "answer"},
    "alpaca_chat.load_qa": {"prompt": "question", "completion": "answer"},
    "alpaca_chat.load_camel_ai": {"prompt": "message_1", "completion": "message_2"},
    "alpaca_w_system.load_open_orca": {"system": "system_prompt", "prompt": "question", "completion": "response"},
    "nomic": {"prompt": "prompt", "completion": "response"},
}
"""axolotl's prompt types (its `prompt_strategies/`) -> the columns they read; their wording is not ours."""
PLAIN = ("alpaca", "alpaca_chat", "alpaca_w_system", "alpaca_w_system.load_chat", "alpaca_instruct", "alpaca_chat.load_concise")
CHATS = ("chat_template", "chat_template.default", "chat")
RANKED = ("chatml.", "llama3.", "zephyr.", "orpo.", "bradley_terry", "kto", "dpo", "user_defined.default")
"""axolotl's types of preference pairs begin so."""
KEEPS = {
    "trust_remote_code": "code of a data set is never run",
    "preprocess_shards": "rows are streamed",
    "shards_idx": "with `shards`",
    "chat_template": "the recipe's `format:` decides how conversations are written",
    "chat_template_jinja": "the recipe's `format:` decides how conversations are written",
    "split_thinking": "the recipe's `format:` decides how thinking is written",
    "train_on_eot": "the end of a trained turn is always trained",
    "eot_tokens": "the format knows its own end of turn",
}
"""Keys of an axolotl entry that have no equal, and why."""


def from_dataset_info(folder_or_file: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """(settings of a source, `type` included; comments) of one entry of a LLaMA-Factory index.

    Raises DataError for an index that is missing or not JSON, an entry that does not exist (with the
    nearest that does), preference pairs, and rows with images, sound or video.
    """
    index = index_path(folder_or_file)
    entries = read_index(index)
    if name not in entries:
        raise DataError(f"{index} has no entry {name!r}{nearest(name, entries)}")
    entry = entries[name]
    place = f"{index}: {name}"
    if not isinstance(entry, Mapping):
        raise DataError(f"{place} is {kind_of(entry)}, an object is needed")
    if entry.get("ranking"):
        raise DataError(f"{place} is preference pairs (ranking: true); preference training is out of scope, etude tunes on answers")
    columns, tags = mapping(entry, "columns", place), mapping(entry, "tags", place)
    for key in MEDIA:
        if key in columns:
            raise DataError(f"{place} has {key} (column {columns[key]!r}); etude reads text only")
    if "kto_tag" in columns:
        raise DataError(f"{place} is preference feedback (kto_tag); preference training is out of scope, etude tunes on answers")
    comments = [f"{key!r} of {name} has no equal{nearest_key(key, ENTRY)}" for key in entry if key not in ENTRY]
    settings = {"type": "", "path": data_path(entry, index, place, comments)}
    formatting = entry.get("formatting", "alpaca")
    if formatting == "alpaca":
        settings |= instructions(columns)
    elif formatting in ("sharegpt", "openai"):
        settings |= chat(formatting, columns, tags)
    else:
        raise DataError(f"{place}: no formatting is called {formatting!r}{nearest(str(formatting), ['alpaca', 'sharegpt', 'openai'])}")
    if entry.get("num_samples"):
        settings["limit"] = entry["num_samples"]
        comments.append(f"num_samples of {name}: the first {entry['num_samples']} rows are taken; LLaMA-Factory draws them by lot")
    return settings, comments


def index_path(folder_or_file: str) -> Path:
    """The index file of a folder, or the file itself; raises DataError where there is none."""
    place = Path(folder_or_file).expanduser()
    if place.is_dir():
        place = place / INDEX
    if not place.is_file():
        raise DataError(f"{place} does not exist; LLaMA-Factory keeps its index of data sets there")
    return place


def read_index(index: Path) -> dict[str, Any]:
    """The entries of an index; raises DataError for a file that is no JSON object."""
    try:
        entries = json.loads(index.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{index} cannot be read as JSON: {error}") from error
    if not isinstance(entries, dict):
        raise DataError(f"{index} holds {kind_of(entries)}, an object of named data sets is needed")
    return entries


def mapping(entry: Mapping[str, Any], key: str, place: str) -> dict[str, str]:
    """The names under `columns` or `tags`; raises DataError where they are no names."""
    given = entry.get(key) or {}
    if not isinstance(given, Mapping) or not all(isinstance(value, str) for value in given.values()):
        raise DataError(f"{place}: {key!r} must map names to names")
    return dict(given)


def data_path(entry: Mapping[str, Any], index: Path, place: str, comments: list[str]) -> str:
    """Where the rows of an entry are, as a path of ours; raises DataError for a place that cannot be read."""
    if entry.get("file_name"):
        return str(index.parent / entry["file_name"])
    if entry.get("hf_hub_url"):
        if entry.get("folder"):
            comments.append(f"folder {entry['folder']!r} has no equal for a hub data set")
        return hub(entry["hf_hub_url"], entry.get("subset"), None, entry.get("split") or "train")
    found = next((key for key in ("ms_hub_url", "om_hub_url", "script_url", "cloud_file_name") if entry.get(key)), None)
    if found:
        raise DataError(f"{place} is at {found} {entry[found]!r}, where etude does not read; download it and set file_name")
    raise DataError(f"{place} names no file; file_name or hf_hub_url is needed")


def hub(name: str, config: str | None, revision: str | None, split: str | None) -> str:
    """The path of a hub data set, `hf://owner/name/config@revision:split`."""
    return f"hf://{name}{f'/{config}' if config else ''}{f'@{revision}' if revision else ''}{f':{split}' if split else ''}"


def instructions(columns: Mapping[str, str]) -> dict[str, Any]:
    """Settings of LLaMA-Factory's `alpaca` formatting; its default columns are Alpaca's own."""
    names = {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history", **columns}
    if all(names[key] == own for key, own in (("prompt", "instruction"), ("query", "input"), ("response", "output"))) and all(
        names[key] == key for key in ("system", "history")
    ):
        return {"type": "alpaca"}
    found = {"prompt": names["prompt"], "context": names["query"], "completion": names["response"]}
    more = {key: columns[key] for key in ("system", "history") if key in columns}
    if "query" not in columns:
        found.pop("context")
    return {"type": "prompt_completion", **found, **more}


def chat(formatting: str, columns: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    """Settings of LLaMA-Factory's `sharegpt` and `openai` formattings."""
    openai = formatting == "openai"
    settings: dict[str, Any] = {"type": "messages" if openai else "sharegpt"}
    own = {"messages": "messages" if openai else "conversations", "system": "system", "tools": "tools"}
    settings |= {key: columns[key] for key in own if key in columns and columns[key] != own[key]}
    usual = {"role_tag": "role" if openai else "from", "content_tag": "content" if openai else "value"}
    settings |= {tag.removesuffix("_tag"): tags[tag] for tag in usual if tag in tags and tags[tag] != usual[tag]}
    meaning = {"user": "user", "assistant": "assistant", "system": "system", "observation": "tool", "function": "function_call"}
    roles = {tags[f"{tag}_tag"]: role for tag, role in meaning.items() if f"{tag}_tag" in tags}
    if roles := {spelling: role for spelling, role in roles.items() if spelling != role}:
        settings["roles"] = roles
    return settings


def from_axolotl(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """(a name for the source, its settings with `type`, comments) of one entry of axolotl's `datasets:`.

    A type without an equal becomes `auto`, which looks at the rows, with a comment. Raises DataError for
    an entry without a path and for preference pairs.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        raise DataError(f"an entry of axolotl's datasets needs a path, found {kind_of(entry) if not isinstance(entry, Mapping) else entry}")
    left = dict(entry)
    comments: list[str] = []
    settings: dict[str, Any] = {"type": "auto", "path": axolotl_path(left, comments)}
    given = left.pop("type", None)
    if isinstance(given, str) and given.startswith(RANKED):
        raise DataError(f"{settings['path']}: axolotl type {given!r} is preference pairs; preference training is out of scope")
    settings |= own_type(given, left, comments) if isinstance(given, Mapping) else typed(given, left, comments)
    kind = left.pop("ds_type", None)
    if kind in ("json", "csv", "parquet", "arrow", "text"):
        if kind != "json" and kind != "text" and not settings["path"].startswith("hf://"):
            settings["container"] = kind
        elif kind == "text":
            comments.append("ds_type: text has no equal: write the lines as JSON Lines with a key 'text'")
    elif kind is not None:
        comments.append(f"ds_type {kind!r} has no equal")
    if left.pop("shards", None):
        comments.append(f"shards: {entry['shards']} has no equal; `limit:` takes the first rows")
    for key, value in left.items():
        why = KEEPS.get(key)
        if value not in (None, False, [], {}):
            comments.append(f"{key}: {value!r} has no equal{f' ({why})' if why else ''}")
    return label(settings["path"]), settings, comments


def axolotl_path(left: dict[str, Any], comments: list[str]) -> str:
    """Where the rows are; takes the keys that say so out of `left`."""
    path, files = left.pop("path"), left.pop("data_files", None)
    split, revision, name = left.pop("split", None), left.pop("revision", None), left.pop("name", None)
    local = path.startswith((".", "/", "~")) or Path(path).suffix in (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".gz", ".zst")
    if files and (path in ("json", "csv", "parquet", "arrow") or local or Path(path).exists()):
        chosen = [files] if isinstance(files, str) else list(files)
        if len(chosen) > 1:
            comments.append(
                f"data_files: one source reads one file, folder or glob; {', '.join(map(str, chosen[1:]))} need sources of their own"
            )
        folder = "" if path in ("json", "csv", "parquet", "arrow") else path
        return str(Path(folder, str(chosen[0])))
    if local or Path(path).expanduser().exists():
        if split not in (None, "train"):
            comments.append(f"split: {split!r} has no equal for a file")
        return str(path)
    if "://" in path:
        comments.append(f"path {path!r}: only files of this machine and hub data sets are read")
        return str(path)
    if files:
        comments.append(f"data_files: {files!r} has no equal for a hub data set")
    return hub(path, name, revision, split)


def typed(given: str | None, left: dict[str, Any], comments: list[str]) -> dict[str, Any]:
    """Settings of an axolotl type that is a name; takes the keys it understands out of `left`."""
    name = (given or "").split(":")[0]
    if name in CHATS:
        return chat_template(left, comments)
    if name.partition(".")[0] == "sharegpt":
        left.pop("conversation", None)
        key = left.pop("field_messages", None)
        return {"type": "sharegpt", **({"messages": key} if key not in (None, "conversations") else {})}
    if name == "completion":
        field = left.pop("field", None)
        return {"type": "text", **({"text": field} if field not in (None, "text") else {})}
    if name in PLAIN:
        return {"type": "alpaca"}
    if name in PROMPTED:
        comments.append(f"type {given!r}: axolotl's wording of the prompt has no equal; the columns' own text is the prompt")
        return {"type": "prompt_completion", **PROMPTED[name]}
    if given is not None:
        why = "text segments with labels, written for one model" if name == "input_output" else "no prompt type of ours"
        comments.append(f"type {given!r} has no equal ({why}); `auto` looks at the rows")
    return {"type": "auto"}


def own_type(given: Mapping[str, Any], left: dict[str, Any], comments: list[str]) -> dict[str, Any]:
    """Settings of an axolotl type that the user defined: columns, and how they are put into words."""
    names = {"field_instruction": "prompt", "field_input": "context", "field_output": "completion", "field_system": "system"}
    usual = {"prompt": "instruction", "completion": "output"}
    found = {ours: given[theirs] for theirs, ours in names.items() if given.get(theirs)}
    comments += [
        f"type.{key}: {value!r} has no equal; a template (a .yaml file) holds phrasings"
        for key, value in given.items()
        if key not in names and value
    ]
    return {"type": "prompt_completion", **usual, **found}


def chat_template(left: dict[str, Any], comments: list[str]) -> dict[str, Any]:
    """Settings of axolotl's `chat_template` type; takes the keys it understands out of `left`."""
    key = left.pop("field_messages", None) or "messages"
    names = dict(left.pop("message_property_mappings", None) or {})
    for old, new in (("message_field_role", "role"), ("message_field_content", "content")):
        if (value := left.pop(old, None)) is not None:
            names[new] = value
    settings: dict[str, Any] = {"type": "messages"}
    if key != "messages":
        settings["messages"] = key
    settings |= {ours: names.pop(ours) for ours in ("role", "content") if names.get(ours, ours) != ours}
    comments += [f"message_property_mappings.{k}: {v!r} has no equal" for k, v in names.items() if k != v]
    for theirs, ours in (("field_tools", "tools"), ("field_system", "system")):
        if (value := left.pop(theirs, None)) not in (None, ours):
            settings[ours] = value
    if roles := {s: role for role, spellings in (left.pop("roles", None) or {}).items() for s in listed(spellings) if s != role}:
        settings["roles"] = roles
    trained, ends = left.pop("roles_to_train", None), left.pop("train_on_eos", None)
    if trained not in (None, ["assistant"], ["gpt"], ["assistant", "gpt"]):
        comments.append(f"roles_to_train: {trained} belongs to the recipe's format (train_on: {{roles: ...}})")
    if ends == "last":
        comments.append("train_on_eos: last has no equal: the end of every trained turn is trained")
    elif ends in ("all", "none"):
        comments.append(f"train_on_eos: {ends} has no equal: the end of turn is trained where the turn is, and nowhere else")
    if (field := left.pop("message_field_training", None)) not in (None, "train", "training"):
        comments.append(f"message_field_training: {field!r} has no equal; a message says `train`, `training` or `weight`")
    if left.pop("drop_system_message", None):
        comments.append("drop_system_message has no equal")
    return settings


def listed(given: Any) -> list[str]:
    """One name or several."""
    return [given] if isinstance(given, str) else [str(item) for item in given or ()]


def label(path: str) -> str:
    """A source's name made of its path's last part."""
    if path.startswith("hf://"):
        path = "/".join(path.removeprefix("hf://").partition("@")[0].partition(":")[0].split("/")[:2])
    return LABEL.sub("-", Path(path).name.split(".")[0]).strip("-.")[:64] or "data"


def nearest_key(key: str, known: tuple[str, ...]) -> str:
    """A hint, where a known key is near."""
    hint = nearest(key, known)
    return hint if "did you mean" in hint else ""
