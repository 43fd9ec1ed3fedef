"""The written formats: one Markup and one settings class a model family, for models without a template of their own.

Markers are interface strings, byte for byte; each family's source is named beside it. What a format needs of a
tokenizer is in its `needs`: nothing is ever added to a vocabulary in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from etude.catalog import Settings
from etude.failures import RecipeError
from etude.formats.markup import Markup, Tools, Turn, lacking
from etude.formats.writer import BoundMarkup, bind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HERMES = Tools(
    place="system",
    listed=(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
        "\n",
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
    ),
    indent=None,
    note="",
    calls=("", "\n", ""),
    call=('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
    result=Turn("<|im_start|>user", "<|im_end|>", "\n"),
    shared=("\n<tool_response>\n", "\n</tool_response>"),
    spoken=True,
)
"""Hermes-style tools as the chat templates of Qwen2.5 and Qwen3 write them."""

CHATML = Markup(
    "chatml",
    system=Turn("<|im_start|>system\n", "<|im_end|>", "\n"),
    user=Turn("<|im_start|>user\n", "<|im_end|>", "\n"),
    assistant=Turn("<|im_start|>assistant\n", "<|im_end|>", "\n"),
    needs=("<|im_start|>", "<|im_end|>"),
    tools=HERMES,
)
"""OpenAI's ChatML (openai-python, chatml.md) as chat templates write it: a newline after every turn."""

QWEN = replace(CHATML, name="qwen", thinking=True)
"""Qwen/Qwen3's chat template: ChatML without a system text of its own; reasoning stays behind the last question only."""

VICUNA = Markup(
    "vicuna",
    begin="{start}",
    default_system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    system=Turn(after=" "),
    user=Turn("USER: ", after=" "),
    assistant=Turn("ASSISTANT:", "{eos}", lead=" "),
    alternate=True,
    needs=("{eos}",),
)
"""Vicuna v1.1 of lm-sys/FastChat (conversation.py, `vicuna_v1.1`, separators " " and "</s>"; no newlines). A
prompt ends with `ASSISTANT:`, and the answer begins with the space after it, as FastChat serves it."""

LLAMA2 = Markup(
    "llama2",
    system=Turn("<<SYS>>\n", "\n<</SYS>>\n\n"),
    user=Turn("{bos}[INST] ", " [/INST]", trim="turn"),
    assistant=Turn("", " {eos}", lead=" ", trim="words"),
    fold="first",
    alternate=True,
    needs=("{bos}", "{eos}"),
)
"""meta-llama/Llama-2-chat (facebookresearch/llama, generation.py; the same text as its chat template): BOS and EOS around
each exchange, the system text inside the first question, contents stripped."""

LLAMA3 = Markup(
    "llama3",
    begin="{bos}",
    system=Turn("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", trim="words"),
    user=Turn("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", trim="words"),
    assistant=Turn("<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", trim="words"),
    needs=("{bos}", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    tools_hint="; `version: '3.1'` has one",
)
"""meta-llama/Meta-Llama-3-8B-Instruct's chat template."""

LLAMA31 = replace(
    LLAMA3,
    system=Turn(
        "<|start_header_id|>system<|end_header_id|>\n\n",
        "<|eot_id|>",
        lead="Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
        trim="words",
    ),
    default_system="",
    tools=Tools(
        place="first_user",
        listed=(
            "Given the following functions, please respond with a JSON for a function call with its proper arguments "
            "that best answers the given prompt.\n\n"
            'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
            "Do not use variables.\n\n",
            "\n\n",
            "\n\n",
        ),
        indent=4,
        note="Environment: ipython\n",
        calls=("", "", ""),
        call=('{"name": "', '", "parameters": ', "}"),
        result=Turn("<|start_header_id|>ipython<|end_header_id|>\n\n", "<|eot_id|>"),
        several=False,
        results="json_text",
    ),
)
"""meta-llama/Llama-3.1-8B-Instruct's chat template, with the date it falls back to: a system turn in every conversation,
tools inside the first question, one call a turn and nothing beside it."""

MISTRAL1 = Markup(
    "mistral",
    begin="{bos}",
    system=Turn("", "", "\n\n"),
    user=Turn(" [INST] ", " [/INST]"),
    assistant=Turn("", "{eos}", lead=" "),
    fold="first",
    alternate=True,
    needs=("{bos}", "{eos}"),
    tools_hint=" in version v1; `version: v3` has one",
)
"""mistralai/Mistral-7B-Instruct-v0.1 and v0.2 (mistral-common's v1): markers in plain text, system text in the first question."""

MISTRAL3 = replace(
    MISTRAL1,
    user=Turn("[INST] ", "[/INST]"),
    assistant=Turn("", "{eos}", lead=" ", trim="words"),
    fold="last",
    needs=("{bos}", "{eos}", "[INST]", "[/INST]"),
    tools=Tools(
        place="before_last_user",
        listed=("[AVAILABLE_TOOLS] [", ", ", "][/AVAILABLE_TOOLS]"),
        indent=None,
        note="",
        calls=("[TOOL_CALLS] [", ", ", "]"),
        call=('{"name": "', '", "arguments": ', "}"),
        result=Turn('[TOOL_RESULTS] {"content": ', "}[/TOOL_RESULTS]"),
        bare=True,
        results="json",
        ids=True,
    ),
)
"""mistralai/Mistral-7B-Instruct-v0.3 (mistral-common's v3): markers are tokens; system text and tools stand at the last
question, so that each answer of a longer conversation is a training example of its own."""

GEMMA = Markup(
    "gemma",
    begin="{bos}",
    system=Turn("", "", "\n\n"),
    user=Turn("<start_of_turn>user\n", "<end_of_turn>", "\n", trim="words"),
    assistant=Turn("<start_of_turn>model\n", "<end_of_turn>", "\n", trim="words"),
    fold="first",
    alternate=True,
    needs=("{bos}", "<start_of_turn>", "<end_of_turn>"),
)
"""google/gemma-2-it and gemma-3-it's chat templates; the system text, which Gemma 2's refuses, is folded into the first
question as Gemma 3's does."""

PHI3 = Markup(
    "phi3",
    system=Turn("<|system|>\n", "<|end|>", "\n"),
    user=Turn("<|user|>\n", "<|end|>", "\n"),
    assistant=Turn("<|assistant|>\n", "<|end|>", "\n"),
    close="{eos}",
    needs=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "{eos}"),
)
"""microsoft/Phi-3-mini-4k-instruct's chat template."""

ZEPHYR = Markup(
    "zephyr",
    system=Turn("<|system|>\n", "{eos}", "\n"),
    user=Turn("<|user|>\n", "{eos}", "\n"),
    assistant=Turn("<|assistant|>\n", "{eos}", "\n"),
    needs=("{eos}",),
)
"""HuggingFaceH4/zephyr-7b-beta's chat template: its role markers are plain text, only the end is a token."""

TEXT_TO_TEXT = Markup(
    "text_to_text",
    begin="{start}",
    system=Turn("", "", "\n\n"),
    user=Turn("", "{eos}"),
    assistant=Turn("", "{eos}", lead="{start}"),
    fold="first",
    alternate=True,
    single=True,
    needs=("{eos}",),
)
"""google-t5/T5 and google/flan-t5: the question is the encoder's text, the answer the decoder's, each with its end (Raffel et
al. 2020, section 2.4); a system text stands first, followed by a blank line. `formats.text_to_text` folds earlier turns."""

MARKUPS: Mapping[str, Markup] = {m.name: m for m in (CHATML, QWEN, VICUNA, LLAMA2, LLAMA3, MISTRAL3, GEMMA, PHI3, ZEPHYR, TEXT_TO_TEXT)}
"""Each family's markup with its default settings."""


def bound(markup: Markup, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
    """The markup with this tokenizer. Raises RecipeError, with the formats that do fit, when the tokenizer lacks a
    token that the markup needs."""
    if missing := lacking(markup, tokenizer):
        fits = [name for name, other in MARKUPS.items() if not lacking(other, tokenizer)]
        fits += ["alpaca"] if tokenizer.eos_token else []
        fits += ["jinja"] if tokenizer.chat_template else []
        raise RecipeError(
            f"format {markup.name}: the tokenizer has no token {', '.join(missing)}, and none is added in silence; "
            f"formats that fit this tokenizer: {', '.join(sorted(fits)) or 'none'}"
        )
    return bind(markup, tokenizer)


class ChatML(Settings):
    """ChatML: `<|im_start|>role`, a newline, the words, `<|im_end|>`; tools in Hermes style."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return CHATML

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Qwen(Settings):
    """Qwen3's ChatML: reasoning in `<think>`, tools in Hermes style."""

    thinking: bool = True
    """True: an answer begins with its reasoning (an empty one where it has none), as Qwen3 answers when it thinks; False: the
    prompt ends with an empty reasoning, and an answer with one is refused."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return replace(QWEN, thinking=self.thinking)

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Vicuna(Settings):
    """Vicuna v1.1: `USER: ... ASSISTANT: ...`, ended by the end-of-sequence token; a system text in every conversation."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return VICUNA

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Llama2(Settings):
    """Llama-2-chat: `[INST] ... [/INST]`, the system text in `<<SYS>>` inside the first question."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return LLAMA2

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Llama3(Settings):
    """Llama-3: `<|start_header_id|>role<|end_header_id|>`, a blank line, the words, `<|eot_id|>`."""

    version: Literal["3", "3.1"] = "3"
    """`3.1` writes the dates of its knowledge in every system turn, and has tools."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return LLAMA31 if self.version == "3.1" else LLAMA3

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Mistral(Settings):
    """Mistral-Instruct: `[INST] ... [/INST]`, answers ended by the end-of-sequence token."""

    version: Literal["v1", "v3"] = "v3"
    """`v3` (Mistral-7B-Instruct-v0.3): markers are tokens, and there are tools; `v1` (v0.1, v0.2): markers in plain text."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return MISTRAL1 if self.version == "v1" else MISTRAL3

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Gemma(Settings):
    """Gemma 2 and 3: `<start_of_turn>role`, a newline, the words, `<end_of_turn>`; the system text in the first question."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return GEMMA

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Phi3(Settings):
    """Phi-3: `<|role|>`, a newline, the words, `<|end|>`."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return PHI3

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)


class Zephyr(Settings):
    """Zephyr: `<|role|>`, a newline, the words, the end-of-sequence token."""

    def markup(self) -> Markup:
        """The family's markup under these settings."""
        return ZEPHYR

    def bind(self, tokenizer: PreTrainedTokenizerFast) -> BoundMarkup:
        """The format for this tokenizer; raises RecipeError when it lacks a token."""
        return bound(self.markup(), tokenizer)
