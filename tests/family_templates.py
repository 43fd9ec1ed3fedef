"""Chat templates with the behaviours of the model families, in our own spelling: what they write is the same,
byte for byte; how they say it is not. The written formats are held against them."""

ALTERNATE = (
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant must take turns') }}"
    "{% endif %}{% endfor %}"
)
SPLIT = (
    "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set rest = messages[1:] %}"
    "{% else %}{% set sys = none %}{% set rest = messages %}{% endif %}"
)

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VICUNA = (
    SPLIT + ALTERNATE + "{{ (sys if sys is not none else 'A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user\\'s questions.') ~ ' ' }}"
    "{% for m in rest %}{{ 'USER: ' ~ m.content ~ ' ' if m.role == 'user' else 'ASSISTANT: ' ~ m.content ~ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAMA2 = (
    SPLIT + ALTERNATE + "{% for m in rest %}{% if m.role == 'user' %}"
    "{% set c = '<<SYS>>\n' ~ sys ~ '\n<</SYS>>\n\n' ~ m.content if loop.first and sys is not none else m.content %}"
    "{{ bos_token ~ '[INST] ' ~ c.strip() ~ ' [/INST]' }}{% else %}{{ ' ' ~ m.content.strip() ~ ' ' ~ eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\n\n' ~ (m.content | trim) ~ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA31 = (
    SPLIT + "{% macro head(role) %}{{ '<|start_header_id|>' ~ role ~ '<|end_header_id|>\n\n' }}{% endmacro %}"
    "{{ bos_token ~ head('system') ~ ('Environment: ipython\n' if tools is not none else '') }}"
    "{{ 'Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n' ~ ((sys or '') | trim) ~ '<|eot_id|>' }}"
    "{% for m in rest %}{% if m.tool_calls %}"
    "{% if m.tool_calls | length > 1 %}{{ raise_exception('only one call a turn') }}{% endif %}{% set f = m.tool_calls[0].function %}"
    "{{ head('assistant') ~ '{\"name\": \"' ~ f.name ~ '\", \"parameters\": ' ~ (f.arguments | tojson) ~ '}<|eot_id|>' }}"
    "{% elif m.role == 'tool' %}{{ head('ipython') ~ (m.content | tojson) ~ '<|eot_id|>' }}"
    "{% else %}{{ head(m.role) }}{% if loop.first and tools is not none %}"
    "{{ 'Given the following functions, please respond with a JSON for a function call with its proper arguments "
    'that best answers the given prompt.\n\nRespond in the format {"name": function name, '
    '"parameters": dictionary of argument name and its value}.Do not use variables.\n\n\' }}'
    "{% for t in tools %}{{ (t | tojson(indent=4)) ~ '\n\n' }}{% endfor %}{% endif %}{{ (m.content | trim) ~ '<|eot_id|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ head('assistant') }}{% endif %}"
)
MISTRAL1 = (
    SPLIT + ALTERNATE + "{{ bos_token }}{% for m in rest %}{% if m.role == 'user' %}"
    "{{ ' [INST] ' ~ (sys ~ '\n\n' if loop.first and sys is not none else '') ~ m.content ~ ' [/INST]' }}"
    "{% else %}{{ ' ' ~ m.content ~ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL3 = (  # the system text and the tools stand at the last question
    SPLIT + "{% set asked = rest | selectattr('role', 'equalto', 'user') | list | length %}{% set seen = namespace(users=0, turn=0) %}"
    "{% for m in rest if m.role != 'tool' and not m.tool_calls %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}{% endfor %}"
    "{{ bos_token }}{% for m in rest %}{% if m.role == 'user' %}{% set seen.users = seen.users + 1 %}{% set last = seen.users == asked %}"
    "{% if last and tools is not none %}{{ '[AVAILABLE_TOOLS] [' }}{% for t in tools %}"
    "{{ '{\"type\": \"function\", \"function\": ' ~ (t.function | tojson) ~ '}' ~ ('' if loop.last else ', ') }}{% endfor %}"
    "{{ '][/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' ~ (sys ~ '\n\n' if last and sys is not none else '') ~ m.content ~ '[/INST]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}"
    "{% if c.id | default('') | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    "{{ (c.function | tojson)[:-1] ~ ', \"id\": \"' ~ c.id ~ '\"}' ~ ('' if loop.last else ', ') }}{% endfor %}{{ ']' ~ eos_token }}"
    "{% elif m.role == 'tool' %}"
    "{{ '[TOOL_RESULTS] {\"content\": ' ~ m.content ~ ', \"call_id\": \"' ~ m.tool_call_id ~ '\"}[/TOOL_RESULTS]' }}"
    "{% else %}{{ ' ' ~ (m.content | trim) ~ eos_token }}{% endif %}{% endfor %}"
)
GEMMA2 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}{% set rest = messages %}"
    + ALTERNATE
    + "{% for m in rest %}{{ '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\n' }}"
    "{{ (m.content | trim) ~ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}"
    + SPLIT
    + ALTERNATE
    + "{% for m in rest %}{{ '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\n' }}"
    "{{ (sys ~ '\n\n' if loop.first and sys is not none else '') ~ (m.content | trim) ~ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>\n' ~ m.content ~ '<|end|>\n' }}{% endfor %}"
    "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>\n' ~ m.content ~ eos_token ~ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
HERMES_SYSTEM = (
    "{% if tools %}{{ '<|im_start|>system\n' ~ (messages[0].content ~ '\n\n' if messages[0].role == 'system' else '') }}"
    "{{ '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}"
    "{% for t in tools %}{{ '\n' ~ (t | tojson) }}{% endfor %}"
    "{{ '\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within <tool_call></tool_call> XML tags:"
    '\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n\' }}'
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' ~ messages[0].content ~ '<|im_end|>\n' }}{% endif %}"
)
HERMES_TURNS = (
    "{% for c in m.tool_calls or [] %}{{ '\n' if body or not loop.first }}{% set f = c.function %}"
    "{{ '<tool_call>\n{\"name\": \"' ~ f.name ~ '\", \"arguments\": ' ~ (f.arguments | tojson) ~ '}\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user' if loop.first or messages[loop.index0 - 1].role != 'tool' }}"
    "{{ '\n<tool_response>\n' ~ m.content ~ '\n</tool_response>' }}"
    "{{ '<|im_end|>\n' if loop.last or messages[loop.index0 + 1].role != 'tool' }}"
    "{% elif not (m.role == 'system' and loop.first) %}"
    "{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
HERMES = (
    HERMES_SYSTEM + "{% for m in messages %}{% if m.role == 'assistant' %}{% set body = m.content %}"
    "{{ '<|im_start|>assistant\n' ~ body }}" + HERMES_TURNS + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3 = (  # reasoning stays behind the last question only, and the last answer has one even if it is empty
    HERMES_SYSTEM + "{% set q = namespace(at=messages | length - 1, open=true) %}{% for m in messages | reverse %}"
    "{% if q.open and m.role == 'user' and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}"
    "{% set q.open = false %}{% set q.at = messages | length - loop.index %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}{% set body = m.content %}{% set thought = '' %}"
    "{% if '</think>' in body %}{% set thought = body.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set body = body.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.index0 > q.at and (loop.last or thought) %}"
    "{{ '<|im_start|>assistant\n<think>\n' ~ thought.strip('\n') ~ '\n</think>\n\n' ~ body.lstrip('\n') }}"
    "{% else %}{{ '<|im_start|>assistant\n' ~ body }}{% endif %}" + HERMES_TURNS + "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' ~ ('<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking else '') }}{% endif %}"
)
TEXT_TO_TEXT = (
    SPLIT
    + ALTERNATE
    + "{% for m in rest %}{{ (sys ~ '\n\n' if loop.first and sys is not none else '') ~ m.content ~ eos_token }}{% endfor %}"
)

FAMILIES = {
    "chatml": CHATML,
    "gemma": GEMMA3,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "llama3.1": LLAMA31,
    "mistral": MISTRAL3,
    "mistral v1": MISTRAL1,
    "phi3": PHI3,
    "qwen": QWEN3,
    "text_to_text": TEXT_TO_TEXT,
    "vicuna": VICUNA,
    "zephyr": ZEPHYR,
}
"""Name of a written format (and version) -> the template that writes the same."""

TOKENS = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "gemma": ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": (
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
    ),
    "mistral v1": ("<s>", "</s>"),
    "phi3": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    "qwen": ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
    "text_to_text": ("</s>",),
    "vicuna": ("<s>", "</s>"),
    "zephyr": ("<s>", "</s>"),
}
"""The added tokens of each family's own tokenizers; `llama3.1` has those of `llama3`."""

NAMES = {  # bos, eos
    "gemma": ("<bos>", "<|endoftext|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "qwen": ("<|im_start|>", "<|im_end|>"),
    "phi3": ("<|im_start|>", "<|endoftext|>"),
}
"""Each family's BOS and EOS where they are not `<s>` and `</s>`."""


WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama-3's and (nearly) Qwen's tokenizers split text (the pattern of their tokenizer.json): newlines stay together."""


def family_tokenizer(family, template=None):
    """A small byte-level tokenizer, one that joins newlines and spaces (as real ones do), with the family's own special
    tokens and with `template`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    kind = "llama3" if family.startswith("llama3") else family
    bos, eos = NAMES.get(kind, ("<s>", "</s>"))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["a\n\n b\n  c\n\n\n\nthe user, the assistant, the system\n"] * 9, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)
    known = dict.fromkeys((*TOKENS[kind], bos, eos))
    made.add_tokens([AddedToken(t, special=t[:2] != "<t" and t[:3] != "</t", normalized=False) for t in known])
    made.bos_token, made.eos_token, made.pad_token = bos, eos, "<|endoftext|>"
    made.chat_template = template
    return made
