"""Finding a migration's class in another process: by the way it was found in this one, and only if it is the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from system_migration import discover
from system_migration.batch_migration import BatchMigration
from system_migration.batching.executors import Transformer
from system_migration.errors import LoadError
from system_migration.references import load, reference_to
from tests.support.hazards import Hazard

FILE = """
from system_migration import BatchMigration

class Shouting(BatchMigration):
    name = "001-shouting"
    table = "word"
    reads = ("word",)
    writes = ("word",)

    def transform(self, row):
        return {"word": row.word.upper()}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "001_shouting.py"
    path.write_text(FILE)
    return path


def discovered(file: Path) -> type[BatchMigration]:
    found = discover(str(file.parent))["001-shouting"]
    assert issubclass(found, BatchMigration)
    return found


def test_a_class_in_a_module_is_found_by_name() -> None:
    reference = reference_to(Hazard)
    assert (reference.module, reference.file) == ("tests.support.hazards", None)
    assert load(reference) is Hazard


def test_a_file_of_a_folder_has_no_name_to_import_and_works_in_a_process(file: Path) -> None:
    migration = discovered(file)
    assert reference_to(migration).file == str(file)
    transformer = Transformer(migration, threads=1, processes=1)
    try:
        assert transformer.run(("word",), [("a",), ("b",)]) == [{"word": "A"}, {"word": "B"}]
    finally:
        transformer.close()


def test_a_nested_class_is_found_too() -> None:
    assert load(reference_to(Outer.Inner)) is Outer.Inner


class Outer:
    class Inner(Hazard):
        pass


def test_code_that_was_changed_meanwhile_is_not_mixed_with_what_began(file: Path) -> None:
    migration = discovered(file)
    reference_to(migration)
    file.write_text(FILE.replace("upper", "lower"))
    with pytest.raises(LoadError, match="its code there is not the code that the run began with"):
        Transformer(migration, threads=1, processes=1)


def test_a_comment_is_no_change(file: Path) -> None:
    migration = discovered(file)
    reference_to(migration)
    file.write_text(f"# words\n{FILE}")
    Transformer(migration, threads=1, processes=1).close()


def test_a_file_that_does_not_load_any_more_is_named_with_its_reason(file: Path) -> None:
    migration = discovered(file)
    reference_to(migration)
    file.write_text("import no_such_module")
    with pytest.raises(LoadError, match=r"001-shouting cannot be loaded .*: ModuleNotFoundError in line 1: No module"):
        Transformer(migration, threads=1, processes=1)


def test_the_main_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    in_main = type("InMain", (Hazard,), {"__module__": "__main__", "__qualname__": "InMain"})
    monkeypatch.setattr(sys.modules["__main__"], "InMain", in_main, raising=False)
    with pytest.raises(LoadError, match="class InMain is defined in the program's main script"):
        reference_to(in_main)
