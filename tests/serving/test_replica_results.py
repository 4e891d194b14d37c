"""Results of replicas: an item's error does not affect other items, and no error contains spoken words."""

import pytest

from models.contract.errors import Kind, WriteCareError, invalid
from serving.replica_results import ReplicaResult, capture_result, capture_results

VERSIONS = {"judge": "1.0.0"}


def doubled(items: list[int]) -> list[int]:
    if 13 in items:
        raise ValueError("the words 'she hit me' cannot be read")
    return [2 * item for item in items]


def test_all_items_are_asked_at_once_and_answered_in_order() -> None:
    asked: list[list[int]] = []

    def ask(items: list[int]) -> list[int]:
        asked.append(items)
        return doubled(items)

    assert [answer.unwrap() for answer in capture_results(ask, [1, 2, 3], VERSIONS)] == [2, 4, 6]
    assert asked == [[1, 2, 3]]


def test_one_bad_item_does_not_cost_the_others_their_answer() -> None:
    first, second, third = capture_results(doubled, [1, 13, 3], VERSIONS)
    assert (first.unwrap(), third.unwrap()) == (2, 6)
    with pytest.raises(WriteCareError):
        second.unwrap()


def test_a_librarys_error_says_its_type_and_nothing_of_what_it_failed_on() -> None:
    [answer] = capture_results(doubled, [13], VERSIONS)
    assert answer.error is not None
    assert answer.error.kind is Kind.UNAVAILABLE
    assert "hit" not in answer.error.detail
    assert "ValueError" in answer.error.detail


def test_an_error_of_ours_passes_unchanged() -> None:
    def refuse() -> int:
        raise invalid("too-short", "Too short.")

    with pytest.raises(WriteCareError, match="Too short"):
        capture_result(refuse, VERSIONS).unwrap()


def test_an_answer_does_not_show_its_value() -> None:
    assert "secret" not in repr(ReplicaResult("secret", VERSIONS))
    assert "1.0.0" in repr(ReplicaResult("secret", VERSIONS))
