"""`etude generate`: let models make the rows a recipe asks for, or instructions for the user's own documents and code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etude.cli.app import AsJson, Overrides, Root, app, is_override, print_json, print_notes


@app.command()
def generate(
    recipe: Annotated[str | None, typer.Argument(help="A recipe with a `generate` section.", show_default=False)] = None,
    overrides: Overrides = None,
    origin: Annotated[
        Path | None, typer.Option("--from", help="A file or folder of documents or code to write instructions for.", show_default=False)
    ] = None,
    root: Root = Path("runs"),
    quiet: bool = False,
    json: AsJson = False,
) -> None:
    """Generate rows with a model: rows.jsonl and refused.jsonl with every reason. Again = resume; `etude run` goes on from there."""
    from etude.failures import RecipeError
    from etude.screen import printable, watcher

    if recipe is not None and is_override(recipe):
        overrides, recipe = [recipe, *(overrides or ())], None
    if recipe is None and origin is None:
        raise RecipeError("generate needs a recipe, or --from FOLDER with documents or code")
    from etude import recipe as recipes
    from etude import shipped

    path = Path(recipe) if recipe is not None else shipped.recipe_path("documents")
    chosen = recipes.load(path, overrides or ())
    if origin is not None:
        chosen = recipes.with_documents(chosen, origin)
    print_notes()
    from etude import closing, pipeline

    pipeline.generate(chosen, root / chosen.name, path.read_text(encoding="utf-8-sig"), watcher(quiet))
    print_notes()
    found = closing.generated(root / chosen.name)
    print_json(found) if json else print(printable(closing.generated_text(found)))
