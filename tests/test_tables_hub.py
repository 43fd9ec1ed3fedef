"""Data sets of the hub: the path's parts, what is asked of `datasets`, what offline means. Nothing here calls out."""

import sys
import types

import pytest

from etude.failures import DataError
from etude.records import Record
from etude.sources import hub
from etude.sources.alpaca import Alpaca
from etude.sources.tables import Table, digests, opened

SHA = "0123456789abcdef0123456789abcdef01234567"
ROWS = [{"instruction": f"Question {i}", "output": "x"} for i in range(3)]


@pytest.fixture
def library(monkeypatch):
    """A `datasets` that answers from memory and remembers what it was asked; online."""
    asked = []

    def load_dataset(name, config, *, split, revision, streaming):
        asked.append((name, config, split, revision, streaming))
        if name.endswith("/missing"):
            raise ConnectionError("no such data set\nsecond line")
        return ROWS if split else {"train": ROWS} if name.endswith("/one") else {"train": ROWS, "test": ROWS}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    return asked


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("hf://owner/name", ("owner/name", None, "main", "")),
        ("hf://owner/name:train", ("owner/name", None, "main", "train")),
        ("hf://owner/na-me.v2@v1.0:test", ("owner/na-me.v2", None, "v1.0", "test")),
        ("hf://owner/name/config@refs/pr/2:train[:10%]", ("owner/name", "config", "refs/pr/2", "train[:10%]")),
        (f"hf://o/n@{SHA}", ("o/n", None, SHA, "")),
    ],
)
def test_the_parts_of_a_path(path, parts):
    where = hub.place(path)
    assert (where.name, where.config, where.revision, where.split) == parts


@pytest.mark.parametrize("path", ["hf://", "hf://name", "hf://a/b/c/d", "hf://a/b:train@main:x y", "hf://a/b@"])
def test_other_shapes_are_refused(path):
    with pytest.raises(DataError, match="expected hf://owner/name"):
        hub.place(path)
    with pytest.raises(DataError, match="expected hf://owner/name"):
        opened(Table(path))


def test_rows_are_streamed_with_the_revision_pinned(library):
    path = f"hf://owner/name/en@{SHA}:train"
    source = Alpaca(path=path, licence="MIT")
    found = list(source.read("s"))
    assert [r.fields["instruction"] for r in found if isinstance(r, Record)] == [row["instruction"] for row in ROWS]
    assert [(r.origin.path, r.origin.line, r.origin.licence) for r in found] == [(path, i, "MIT") for i in (1, 2, 3)]
    assert library == [("owner/name", "en", "train", SHA, True)]
    assert source.inputs() == {path: SHA}


def test_a_split_must_be_named_where_there_are_several(library):
    assert len(list(opened(Table(f"hf://owner/one@{SHA}"))[0])) == 3
    with pytest.raises(DataError, match=rf"splits train, test; name one, as in hf://owner/name@{SHA}:train"):
        opened(Table(f"hf://owner/name@{SHA}"))


def test_failures_say_what_to_do(library, monkeypatch):
    with pytest.raises(DataError, match=r"after row 0 \(ConnectionError: no such data set\); download it once"):
        opened(Table(f"hf://owner/missing@{SHA}:train"))
    with pytest.raises(DataError, match="rows_key is for files"):
        opened(Table(f"hf://owner/name@{SHA}:train", rows_key="data"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        opened(Table(f"hf://owner/name@{SHA}:train"))


def test_a_branch_is_what_the_hub_says_it_is(library, monkeypatch):
    class Api:
        def dataset_info(self, name, revision):
            if revision != "main":
                raise KeyError(revision)
            return types.SimpleNamespace(sha=SHA)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert digests("hf://owner/name:train") == {"hf://owner/name:train": SHA}
    list(opened(Table("hf://owner/name:train"))[0])
    assert library[-1] == ("owner/name", None, "train", SHA, True)
    with pytest.raises(DataError, match=r"the hub did not say what 'dev' is \(KeyError: 'dev'\)"):
        digests("hf://owner/name@dev:train")


def test_offline_the_cache_answers_or_the_message_says_what_to_do(library, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set and no copy of revision 'main' is here; download it once"):
        opened(Table("hf://owner/name:train"))
    refs = tmp_path / "datasets--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(SHA)
    assert len(list(opened(Table("hf://owner/name:train"))[0])) == 3
    assert library == [("owner/name", None, "train", SHA, False)]
