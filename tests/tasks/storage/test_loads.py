"""The allowance of a request, and what all large responses of a process may have together."""

import pytest
from django.conf import LazySettings

from tasks.rules.exceptions import ResponsesTooLarge, ResponseTooLarge
from tasks.storage import loads
from tasks.storage.loads import SMALL_BYTES, Allowance, in_hand, limited_loads
from tests.sections import replace

MIB = 2**20


@pytest.fixture(autouse=True)
def limits(settings: LazySettings) -> None:
    small = replace(settings.APFLOW.limits, response_bytes=8 * MIB, all_responses_bytes=20 * MIB)
    settings.APFLOW = replace(settings.APFLOW, limits=small)


def allowance(user_id: str) -> Allowance:
    made = Allowance(8 * MIB)
    made.charge(user_id)
    return made


def test_a_request_has_its_limit_and_a_refusal_costs_nothing() -> None:
    with limited_loads():
        loads.spend(5 * MIB)
        with pytest.raises(ResponseTooLarge):
            loads.spend(4 * MIB)
        loads.spend(3 * MIB)
    loads.spend(2**40)  # without a request there is no limit


def test_a_page_ends_with_the_last_row_that_fits() -> None:
    sizes = dict.fromkeys("abc", 3 * MIB)
    with limited_loads():
        assert loads.spend_on_page(sizes, least=1) == ["a", "b"]
        assert loads.spend_on_page(sizes, least=0) == []
        with pytest.raises(ResponseTooLarge):
            loads.spend_on_page(sizes, least=1)


def test_large_responses_share_the_memory_of_the_process() -> None:
    held = [allowance("alice") for _ in range(3)]
    for each in held[:2]:
        each.spend(8 * MIB)
    with pytest.raises(ResponsesTooLarge):
        held[2].spend(8 * MIB)
    held[2].spend(SMALL_BYTES)  # small ones are always served
    held[0].let_go()
    held[2].spend(7 * MIB)
    for each in held:
        each.let_go()
    assert in_hand()._by_user == {}


def test_one_user_holds_at_most_half_of_it(settings: LazySettings) -> None:
    settings.APFLOW = replace(settings.APFLOW, auth=replace(settings.APFLOW.auth, enabled=True))
    first, second, bobs = allowance("alice"), allowance("alice"), allowance("bob")
    first.spend(8 * MIB)
    with pytest.raises(ResponsesTooLarge):
        second.spend(8 * MIB)
    bobs.spend(8 * MIB)
    for each in (first, second, bobs):
        each.let_go()
        each.let_go()  # once is enough
    assert in_hand()._by_user == {}


def test_a_request_gives_everything_back_at_its_end() -> None:
    with limited_loads():
        loads.charge("alice")
        loads.spend(8 * MIB)
        assert in_hand()._by_user == {"alice": 7 * MIB}
        with limited_loads():  # the same request
            assert in_hand()._by_user == {"alice": 7 * MIB}
        assert in_hand()._by_user == {"alice": 7 * MIB}
    assert in_hand()._by_user == {}
