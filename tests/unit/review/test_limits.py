"""How often somebody may try to log in, by a clock that the test winds."""

import threading

import pytest

from helpers.clocks import Clock
from nonet.review import limits
from nonet.review.limits import MAX_OF_ADDRESS, MAX_OF_NAME, WINDOW_S, LoginLimit


@pytest.fixture
def clock():
    return Clock(1000)


@pytest.fixture
def limit(clock):
    return LoginLimit(clock=clock)


def test_a_name_waits_until_the_first_failure_is_old(limit, clock):
    for _ in range(MAX_OF_NAME):
        assert limit.begin("ada", "192.0.2.1") == 0
        clock.now += 10
    assert limit.begin("ada", "192.0.2.1") == WINDOW_S - 10 * MAX_OF_NAME
    assert limit.begin("ben", "192.0.2.1") == 0
    assert limit.begin("ada", "192.0.2.2") == 0, "else anybody could lock others out"
    clock.now = 1000 + WINDOW_S
    assert limit.begin("ada", "192.0.2.1") == 0
    assert limit.begin("ada", "192.0.2.1") == 10, "only the first is old"


def test_waiting_does_not_take_longer_by_trying(limit, clock):
    for _ in range(MAX_OF_NAME):
        limit.begin("ada", "192.0.2.1")
    clock.now += WINDOW_S - 1
    for _ in range(10):
        assert limit.begin("ada", "192.0.2.1") == 1


def test_an_address_waits_whatever_the_names(limit):
    for number in range(MAX_OF_ADDRESS):
        assert limit.begin(f"{number}", "192.0.2.1") == 0
    assert limit.begin("other", "192.0.2.1") > 0
    assert limit.begin("other", "::ffff:192.0.2.1") > 0
    assert limit.begin("other", "192.0.2.2") == 0


def test_the_addresses_of_one_household_are_one(limit):
    for number in range(MAX_OF_ADDRESS):
        limit.begin(f"{number}", f"2001:db8::{number:x}")
    assert limit.begin("other", "2001:db8::ffff%eth0") > 0
    assert limit.begin("other", "2001:db8:0:1::1") == 0


def test_a_success_clears_its_name_and_itself_only(limit):
    for _ in range(MAX_OF_NAME - 1):
        limit.begin("ada", "192.0.2.1")
    for _ in range(10 * MAX_OF_ADDRESS):
        assert limit.begin("ben", "192.0.2.1") == 0
        limit.succeeded("ben", "192.0.2.1")
    assert limit.begin("ada", "192.0.2.1") == 0
    assert limit.begin("ada", "192.0.2.1") > 0


def test_many_at_once_are_counted_before_they_fail(limit):
    waits = []
    threads = [threading.Thread(target=lambda: waits.append(limit.begin("ada", "192.0.2.1"))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waits.count(0) == MAX_OF_NAME


def test_the_memory_is_bounded(limit, monkeypatch):
    monkeypatch.setattr(limits, "_MAX_REMEMBERED", 100)
    for number in range(1000):
        limit.begin("x" * 50, f"10.0.{number // 256}.{number % 256}")
    assert len(limit._failed) == 100


@pytest.mark.parametrize("address", ["", "testclient", "x" * 10_000])
def test_an_address_that_is_none_counts_as_well(limit, address):
    for _ in range(MAX_OF_NAME):
        assert limit.begin("ada", address) == 0
    assert limit.begin("ada", address) > 0
