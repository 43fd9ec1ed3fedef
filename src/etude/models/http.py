"""An LLM behind any OpenAI-compatible server: OpenAI, Azure, vLLM, Ollama, llama.cpp, OpenRouter, `etude serve`.

What a server sends in place of an answer is never data (`replies`); what passes is asked again (`retrying`); what it may cost is
bounded before it is spent (`budgets`); what was answered is not paid for twice (`answers_cache`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from etude.catalog import Settings
from etude.formats import FORMATS, FormatSettings
from etude.formats.jinja import Auto
from etude.models import Told
from etude.models.servers.budgets import Budget, Prices

if TYPE_CHECKING:
    from etude.models.servers.asking import HttpLLM

OPENAI = "https://api.openai.com/v1"
NAME = r"^([A-Z_][A-Z0-9_]*)?$"
"""Names of environment variables as they are written everywhere; a key in their place has small letters."""


def address(given: str) -> str:
    """An address without a name, password or question in it; raises ValueError for another."""
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds no name, password or '?'; the key goes into the environment variable of api_key_env")
    return given.rstrip("/")


class Http(Settings):
    """A model behind an OpenAI-compatible server. The key comes from the environment and stands in no setting."""

    # A key that was written here by mistake must not come back in the error.
    model_config = ConfigDict(hide_input_in_errors=True)
    spellings: ClassVar[Mapping[str, str]] = {"api_base": "base_url", "model_name": "model", "max_concurrency": "concurrency"}

    model: Annotated[str, Field(min_length=1)]
    """The name the server knows the model by (Azure: the deployment's)."""
    base_url: str = OPENAI
    """Where the server is, up to and with `/v1`. Azure with an `api_version`: the resource, `https://NAME.openai.azure.com`."""
    also: tuple[str, ...] = ()
    """More servers with the same model and key (vLLM on several machines). A request goes to the one that its own hash names, and when
    that does not answer to the next; so how many there are changes no answer that the model gives again for the same seed."""
    api_key_env: Annotated[str, Field(pattern=NAME)] = "OPENAI_API_KEY"
    """The environment variable that holds the key; '' for a server that wants none."""
    api_version: str = ""
    """Azure's API version, for its older interface, whose address names the deployment; '' for all else."""
    endpoint: Literal["chat", "completions"] = "chat"
    """`chat` sends messages, which the server writes in its model's format; `completions` sends one text, which is written here."""
    tokenizer: str = ""
    """With `completions`: a model as `model:` of a recipe names it, whose tokenizer and `format` write the prompt, sent as token ids so
    that no word of a row becomes markup. '' sends the words of the messages with blank lines between, for models never tuned."""
    format: Annotated[FormatSettings, FORMATS] = Auto()
    """With a `tokenizer`: the chat format."""
    answers_as: tuple[str, ...] = ()
    """Other names under which the server may answer; "*" is any. Dates and versions behind the name, and owners before a slash, may
    differ anyway (`replies.same_model`)."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    """Most requests open at a time. Each 429 halves it, successes bring it back by about one a round."""
    timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds for a whole request, however slowly the reply arrives."""
    attempts: Annotated[int, Field(ge=1)] = 6
    """How often a request is sent at most that gets no reply, or 408, 409, 429 or 5xx."""
    longest_wait: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of the longest wait between attempts that we choose ourselves."""
    longest_retry_after: Annotated[float, Field(ge=0)] = 600.0
    """Seconds of the longest wait a server may ask for; for more the run ends with exit code 6."""
    asks: Annotated[int, Field(ge=1)] = 3
    """How often a question is asked at most whose reply is no answer: empty, refused, cut off, malformed, from another model."""
    most_failures: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of questions that may stay without an answer; beyond it, and beyond ten of them, the run ends with exit code 6."""
    keep_cut: bool = False
    """Take answers that were cut off at the most tokens, with finish "length", as a local model gives them: to score a model, not
    to make data with it."""
    n_at_once: bool = True
    """Ask for all `n` answers in one request. Servers that know no `n` (Ollama) need false: one request an answer."""
    send_seed: bool = True
    """Send a seed, another for each row and answer, where answers are sampled."""
    length_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """What the server calls the most tokens of an answer. `auto`: `max_completion_tokens` for OpenAI's and Azure's chat,
    `max_tokens` for others."""
    extra: Mapping[str, Any] = {}
    """More fields of every request's body, as the server has them; null takes a field out that would be sent."""
    headers: Mapping[str, str] = {}
    """More headers of every request; none that carries a key."""
    prices: Prices | None = None
    """What tokens cost; without them the cost is "unknown"."""
    budget: Budget = Budget()
    """Hard bounds for all that is asked."""
    cache: str = ""
    """A folder of answers that is shared between runs; '' for none."""

    @field_validator("base_url")
    @classmethod
    def one_address(cls, given: str) -> str:
        """See `address`."""
        return address(given)

    @field_validator("also")
    @classmethod
    def addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """See `address`."""
        return tuple(address(one) for one in given)

    @field_validator("headers")
    @classmethod
    def no_keys(cls, given: Mapping[str, str]) -> Mapping[str, str]:
        """No header that carries a key."""
        for name in given:
            if any(word in name.lower() for word in ("authorization", "api-key", "apikey", "token", "cookie", "secret")):
                raise ValueError(f"the header {name!r} carries a key; name the environment variable that holds it in api_key_env")
        return given

    @model_validator(mode="after")
    def fitting(self) -> Http:
        """Bounds that can be kept, and fields that mean something together."""
        if len({self.base_url, *self.also}) <= len(self.also):
            raise ValueError("also: one address stands here twice")
        if self.also and self.api_version:
            raise ValueError("also: Azure's older interface has one address")
        if self.budget.money is not None and self.prices is None:
            raise ValueError("budget.money needs prices: without them nobody knows when it is spent")
        if self.tokenizer and self.endpoint == "chat":
            raise ValueError("tokenizer is for endpoint: completions; with chat the server writes the model's format")
        for name in ("n", "stream", "messages", "prompt", "model", "seed", "stop"):
            if self.extra.get(name) is not None:
                raise ValueError(f"extra.{name}: this field is etude's to fill in")
        return self

    def length_name(self) -> str:
        """The field that bounds an answer's tokens."""
        if self.length_field != "auto":
            return self.length_field
        host = urlsplit(self.base_url).hostname or ""
        own = self.endpoint == "chat" and host.endswith(("openai.com", "openai.azure.com"))
        return "max_completion_tokens" if own else "max_tokens"

    def open(self, folder: Path | None = None, told: Told | None = None) -> HttpLLM:
        """The LLM. `folder`: where it keeps what it spent (spent.jsonl), so that a run that goes on keeps to its budget.

        Raises RecipeError where the key's variable is not set or the openai package is missing.
        """
        from etude.models.servers.asking import HttpLLM

        return HttpLLM(self, folder=folder, told=told)
