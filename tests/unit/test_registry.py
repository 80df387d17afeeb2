"""The known migrations: checked, complete, and in the order in which they run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from system_migration.batch_migration import BatchMigration
from system_migration.errors import LoadError, UnknownMigration
from system_migration.migration import Migration, MigrationContext, MigrationResult
from system_migration.registry import Registry


def up(self: Migration, context: MigrationContext) -> MigrationResult:
    return MigrationResult()


def method(self: Any, *arguments: Any) -> Any:
    raise NotImplementedError


def migration(name: object, *requires: str, called: str = "Made", **members: Any) -> type[Migration]:
    """An imperative migration, as a module of the user's would define it."""
    return type(called, (Migration,), {"name": name, "requires": requires, "up": up, "__module__": __name__} | members)


def batch(**members: Any) -> type[Migration]:
    return type("Batch", (BatchMigration,), {"name": "001-batch", "__module__": __name__} | members)


def refusal(*migrations: type[Migration]) -> str:
    with pytest.raises(LoadError) as error:
        Registry(migrations)
    return str(error.value)


# Order


@pytest.mark.parametrize(
    ("given_names", "ordered"),
    [
        (["010-b", "9-c", "002-a"], ["002-a", "9-c", "010-b"]),  # numbers, not digits
        (["002-b", "002-a"], ["002-a", "002-b"]),
        (["cleanup", "archive", "999-a"], ["999-a", "archive", "cleanup"]),  # no number: last
        ([], []),
    ],
)
def test_order_is_by_number_then_name(given_names: list[str], ordered: list[str]) -> None:
    assert list(Registry([migration(name) for name in given_names]).names) == ordered


def test_a_requirement_comes_first_whatever_its_number() -> None:
    registry = Registry([migration("001-a", "003-c"), migration("002-b"), migration("003-c")])
    assert registry.names == ("002-b", "003-c", "001-a")


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, set[str]]:
    """Names and what they require: always something that stands before them in a hidden order."""
    numbers = draw(st.lists(st.integers(0, 30), max_size=12))
    hidden = draw(st.permutations([f"{number:03}-{index}" for index, number in enumerate(numbers)]))
    return {
        name: draw(st.sets(st.sampled_from(hidden[:place]), max_size=3)) if place else set()
        for place, name in enumerate(hidden)
    }


@given(graphs(), st.randoms(use_true_random=False))
def test_any_graph_without_a_circle_gives_the_smallest_valid_order(graph: dict[str, set[str]], random: Any) -> None:
    shuffled = [migration(name, *required) for name, required in graph.items()]
    random.shuffle(shuffled)
    order = Registry(shuffled).names

    assert sorted(order) == sorted(graph)
    for place, name in enumerate(order):
        done = set(order[:place])
        ready = [waiting for waiting in order[place:] if graph[waiting] <= done]
        assert name == min(ready)  # valid, and of those that could run, the first by number


@given(graphs().filter(bool), st.data())
def test_any_graph_with_a_circle_is_refused(graph: dict[str, set[str]], data: st.DataObject) -> None:
    start = data.draw(st.sampled_from(sorted(graph)))
    upstream, todo = {start}, [start]
    while todo:
        for name in graph[todo.pop()] - upstream:
            upstream.add(name)
            todo.append(name)
    graph[data.draw(st.sampled_from(sorted(upstream)))].add(start)
    assert "in a circle" in refusal(*(migration(name, *required) for name, required in graph.items()))


# Contradictions


def test_a_duplicate_name_names_both_classes_and_their_file() -> None:
    assert refusal(migration("001-a", called="Old"), migration("001-a", called="New"), migration("002-b")) == (
        "The name '001-a' is used twice: in test_registry.py (Old) and test_registry.py (New). Rename one."
    )


def test_a_missing_requirement_is_named_with_who_wants_it() -> None:
    assert refusal(migration("002-b", "001-gone", called="Wanting")) == (
        "test_registry.py (Wanting): requires '001-gone', which does not exist."
    )


def test_a_circle_names_who_is_in_it_and_nobody_else() -> None:
    message = refusal(
        migration("001-a", "002-b", called="A"),
        migration("002-b", "001-a", called="B"),
        migration("003-c", called="Bystander"),
    )
    assert message == (
        "These migrations require each other in a circle, or wait for one that does: "
        "test_registry.py (A), test_registry.py (B)."
    )


def test_a_migration_that_requires_itself_is_a_circle() -> None:
    assert "in a circle" in refusal(migration("001-a", "001-a"))


# The contract


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "x" * 129, 7, None])
def test_a_bad_name_is_refused(name: object) -> None:
    assert refusal(migration(name, called="Named")) == (
        "test_registry.py (Named): name must be letters, digits, '.', '_' and '-', such as '002-normalize-phones'."
    )


def test_a_migration_without_a_name_is_refused() -> None:
    nameless = type("Nameless", (Migration,), {"up": up, "__module__": __name__})
    assert refusal(nameless).startswith("test_registry.py (Nameless): name must be letters")


@pytest.mark.parametrize("name", ["a", "001-password-bcrypt", "2.b_c-D", "x" * 128])
def test_a_good_name_is_accepted(name: str) -> None:
    assert Registry([migration(name)]).names == (name,)


def test_a_manual_migration_cannot_block_the_start() -> None:
    both = type("Both", (migration("001-a"),), {"manual": True, "blocks_startup": True})
    assert refusal(both) == (
        "test_registry.py (Both): no start of the application waits for a manual migration: drop blocks_startup."
    )


@pytest.mark.parametrize(
    ("members", "cure", "problem"),
    [
        ({"rollbackable": True}, "down", "rollbackable = True needs a down() method."),
        (
            {"transactional": False},
            "applied",
            "transactional = False needs applied(context) -> bool, to tell after a crash whether it is done.",
        ),
    ],
)
def test_a_declaration_needs_its_method(members: dict[str, Any], cure: str, problem: str) -> None:
    assert refusal(migration("001-a", called="Half", **members)) == f"test_registry.py (Half): {problem}"
    assert len(Registry([migration("001-a", **members | {cure: method})])) == 1


def test_an_imperative_migration_needs_up() -> None:
    idle = type("Idle", (Migration,), {"name": "001-a", "__module__": __name__})
    assert refusal(idle) == "test_registry.py (Idle): a Migration needs an up() method."


BATCH_PARTS = {"table": "t", "reads": ("a",), "writes": ("b",), "transform": method}


@pytest.mark.parametrize("missing", BATCH_PARTS)
def test_a_batch_migration_names_the_part_that_is_missing(missing: str) -> None:
    parts = {part: value for part, value in BATCH_PARTS.items() if part != missing}
    assert refusal(batch(**parts)) == f"test_registry.py (Batch): a BatchMigration needs {missing}."


def test_a_batch_migration_names_all_the_parts_that_are_missing() -> None:
    assert refusal(batch()).endswith("a BatchMigration needs table, reads, writes, transform.")


@pytest.mark.parametrize("part", ["reads", "writes"])
def test_a_column_named_twice_is_refused_as_transform_would_see_the_wrong_values(part: str) -> None:
    twice = {part: ("a", "b", "a")}
    assert refusal(batch(**BATCH_PARTS | twice)) == f"test_registry.py (Batch): {part} names a column twice."


@pytest.mark.parametrize("part", ["reads", "writes"])
def test_one_column_written_without_its_comma_is_told_apart_from_a_tuple(part: str) -> None:
    assert refusal(batch(**BATCH_PARTS | {part: "a"})) == (
        f'test_registry.py (Batch): {part} must be a tuple of column names, such as ("phone",).'
    )


def test_a_whole_batch_migration_needs_no_up() -> None:
    assert len(Registry([batch(**BATCH_PARTS)])) == 1


def test_a_method_may_come_from_a_base_class_of_the_user_s() -> None:
    base = migration("000-base", down=method)
    assert len(Registry([type("Sub", (base,), {"name": "001-a", "rollbackable": True, "__module__": __name__})])) == 1


def test_all_problems_are_told_at_once() -> None:
    message = refusal(migration("a b"), migration("001-a", rollbackable=True), migration("002-b"), migration("002-b"))
    assert [part in message for part in ("name must be", "needs a down()", "used twice")] == [True] * 3


# Asking


def test_a_registry_is_asked_by_name() -> None:
    first, second = migration("001-a"), migration("002-b", "001-a", manual=True, description="Two", version="2.0")
    registry = Registry([second, first])
    assert list(registry) == [first, second]
    assert (len(registry), "001-a" in registry, "009-no" in registry) == (2, True, False)
    assert registry["002-b"] is second
    with pytest.raises(UnknownMigration) as error:
        registry["009-no"]
    assert str(error.value) == "There is no migration named '009-no'. Known migrations: 001-a, 002-b."


def test_an_empty_registry_says_that_it_knows_none() -> None:
    with pytest.raises(UnknownMigration, match="Known migrations: none were found"):
        Registry([])["001-a"]


def test_the_listing_tells_what_the_files_declare() -> None:
    two = migration("002-b", "001-a", manual=True, description="Two", version="2.0", rollbackable=True, down=method)
    _, listed = Registry([two, migration("001-a")]).listed()
    assert (listed.name, listed.version, listed.description) == ("002-b", "2.0", "Two")
    assert (listed.rollbackable, listed.manual, listed.requires) == (True, True, ("001-a",))
    assert listed.file == __file__
