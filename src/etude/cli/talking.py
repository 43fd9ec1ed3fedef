"""Commands that talk: a server, a conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import Root, app, print_notes


@app.command()
def serve(
    what: Annotated[str, typer.Argument(metavar="RUN|MODEL", help="A run, or a model as a recipe names it.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address; others than this machine's need a token (ETUDE_SERVE_TOKEN).")] = "127.0.0.1",
    name: Annotated[str | None, typer.Option(help="Name of the model in the API.", show_default=False)] = None,
    form: Annotated[str | None, typer.Option("--format", help="Chat format of a model without a run.", show_default=False)] = None,
    rows: Annotated[int, typer.Option(min=1, help="Answers computed together.")] = 32,
    tokens: Annotated[int, typer.Option(min=64, help="Tokens held for them.")] = 16384,
    queue: Annotated[int, typer.Option(min=0, help="Answers that may wait.")] = 128,
    max_tokens: Annotated[int, typer.Option(min=1, help="Where a request names none.")] = 1024,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Where a request names none.")] = 1.0,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name in Host (again for more).")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="A page that may ask (again for more).")] = None,
    root: Root = Path("runs"),
) -> None:
    """Serve a run or a model behind OpenAI's API. Ctrl-C stops it."""
    from etude import loading, serving
    from etude.screen import Plain

    say = Plain().say
    loaded = loading.load(what, root, say, form)
    print_notes()
    settings = serving.Serving(
        host=host, port=port, name=name, rows=rows, tokens=tokens, queue=queue, new=max_tokens, temperature=temperature,
        hosts=tuple(allow_host or ()), origins=tuple(allow_origin or ()),
    )  # fmt: skip
    serving.serve(loaded, settings, say)


@app.command()
def chat(
    what: Annotated[str, typer.Argument(metavar="RUN|MODEL|URL", help="A run, a model, or a server's base URL.", show_default=False)],
    base: Annotated[bool, typer.Option("--base", help="The run's start model answers, too.")] = False,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    save: Annotated[Path, typer.Option(help="Where /save puts rows.")] = Path("chat.jsonl"),
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 1024,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Sample from the smallest set of this probability.")] = 1.0,
    form: Annotated[str | None, typer.Option("--format", help="Chat format of a model without a run.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="The server's model, for a URL.", show_default=False)] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the server's key.", show_default=False)] = None,
    root: Root = Path("runs"),
) -> None:
    """Talk to a run, a model or a server; save answers as rows."""
    from etude import chatting
    from etude.models import Sampling
    from etude.screen import Plain

    sampling = Sampling(max_new_tokens=max_tokens, temperature=temperature, top_p=top_p)
    settings = chatting.Chatting(system=system, base=base, save=save, sampling=sampling, form=form, model=model, key_env=key_env)
    chatting.chat(what, root, settings, Plain().say)
