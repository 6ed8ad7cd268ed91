from __future__ import annotations

import pytest

from gateway.auth.throttle import LoginThrottle
from gateway.client_network import network_of
from gateway.errors import InvalidCredentialsError, TooManyTriesError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> LoginThrottle:
    """Five tries per network, back in 2 s each; three per network and account, in 10 s each."""
    return LoginThrottle(per_network=(5, 2.0), per_account=(3, 10.0), most_keys=100, clock=clock)


def fail(throttle: LoginThrottle, address: str, email: str) -> None:
    with pytest.raises(InvalidCredentialsError), throttle.counting_failures(address, email):
        raise InvalidCredentialsError


def refused(throttle: LoginThrottle, address: str, email: str) -> int | None:
    """Insist on a refusal; returns after how many seconds to try again."""
    with (
        pytest.raises(TooManyTriesError) as caught,
        throttle.counting_failures(address, email),
    ):
        pytest.fail("let through")
    return caught.value.retry_after


def test_an_account_is_tried_so_often(throttle: LoginThrottle, clock: Clock) -> None:
    """One network can try an account three times; then one try comes back."""
    for _ in range(3):
        fail(throttle, "10.0.0.1", "a@x")
    assert refused(throttle, "10.0.0.1", "a@x") == 10
    clock.now += 9.5
    assert refused(throttle, "10.0.0.1", "a@x") == 1
    clock.now += 0.5
    fail(throttle, "10.0.0.1", "a@x")
    assert refused(throttle, "10.0.0.1", "a@x") == 10


def test_a_stranger_locks_nobody_out(throttle: LoginThrottle) -> None:
    """However often others fail with an account, its owner's network keeps its own tries."""
    for host in range(100):
        for _ in range(3):
            fail(throttle, f"10.0.0.{host}", "a@x")
        refused(throttle, f"10.0.0.{host}", "a@x")
    with throttle.counting_failures("192.0.2.1", "a@x"):
        pass
    fail(throttle, "192.0.2.1", "a@x")


def test_a_network_tries_so_often(throttle: LoginThrottle, clock: Clock) -> None:
    """One network has five tries, for whichever e-mail addresses; others keep theirs."""
    for number in range(5):
        fail(throttle, "10.0.0.1", f"{number}@x")
    assert refused(throttle, "10.0.0.1", "new@x") == 2
    fail(throttle, "10.0.0.2", "new@x")
    clock.now += 2
    fail(throttle, "10.0.0.1", "new@x")


def test_a_refused_try_does_not_make_it_longer(throttle: LoginThrottle, clock: Clock) -> None:
    """Further attempts while refused do not lengthen the wait."""
    for _ in range(3):
        fail(throttle, "10.0.0.1", "a@x")
    for _ in range(50):
        refused(throttle, "10.0.0.1", "a@x")
    clock.now += 10
    fail(throttle, "10.0.0.1", "a@x")


def test_success_costs_nothing(throttle: LoginThrottle) -> None:
    """A login that succeeds, or fails for a fault of ours, takes no try."""
    for _ in range(20):
        with throttle.counting_failures("10.0.0.1", "a@x"):
            pass
        with pytest.raises(ConnectionError), throttle.counting_failures("10.0.0.1", "a@x"):
            raise ConnectionError
    for _ in range(2):
        fail(throttle, "10.0.0.1", "a@x")
    with throttle.counting_failures("10.0.0.1", "a@x"):
        pass
    fail(throttle, "10.0.0.1", "a@x")
    refused(throttle, "10.0.0.1", "a@x")


def test_tries_at_the_same_time_count(throttle: LoginThrottle) -> None:
    """A fourth try is refused while three are still being checked."""
    with (
        throttle.counting_failures("10.0.0.1", "a@x"),
        throttle.counting_failures("10.0.0.1", "a@x"),
        throttle.counting_failures("10.0.0.1", "a@x"),
    ):
        refused(throttle, "10.0.0.1", "a@x")


def test_memory_is_bounded(throttle: LoginThrottle) -> None:
    """Ten thousand networks and addresses leave as many buckets as allowed, the newest."""
    for number in range(10_000):
        fail(throttle, f"10.0.{number >> 8}.{number & 255}", f"{number}@x")
    assert throttle.kept == 200
    for _ in range(2):
        fail(throttle, "10.0.39.15", "9999@x")
    refused(throttle, "10.0.39.15", "9999@x")


def test_a_bucket_in_use_is_not_forgotten(throttle: LoginThrottle) -> None:
    """What was tried last is forgotten last: a blocked address is not freed by few others."""
    fail(throttle, "192.0.2.1", "a@x")
    for number in range(60):
        fail(throttle, f"10.0.0.{number}", f"{number}@x")
    for _ in range(2):
        fail(throttle, "192.0.2.1", "a@x")
    for number in range(60, 120):
        fail(throttle, f"10.0.0.{number}", f"{number}@x")
    refused(throttle, "192.0.2.1", "a@x")


def test_a_try_whose_bucket_was_forgotten(clock: Clock) -> None:
    """A try that ends well after its bucket made way for others gives nothing back."""
    throttle = LoginThrottle(per_network=(1, 10.0), per_account=(1, 10.0), most_keys=1, clock=clock)
    with throttle.counting_failures("10.0.0.1", "a@x"):
        fail(throttle, "10.0.0.2", "b@x")
    assert throttle.kept == 2
    refused(throttle, "10.0.0.2", "b@x")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:" + "x" * 100, "unix:" + "x" * 59),
    ],
)
def test_a_client_is_its_network(address: str, network: str) -> None:
    """IPv6 clients, who have 2**64 addresses, are counted by network."""
    assert network_of(address) == network


@pytest.mark.parametrize("start", [0.1, 1234.567, 98_765_432.1])
@pytest.mark.parametrize("seconds", [0.1, 1 / 3, 1000.0])
def test_rounding_takes_no_try(start: float, seconds: float) -> None:
    """Each of the promised tries is there, at whatever time, however often some came back."""
    clock = Clock()
    clock.now = start
    throttle = LoginThrottle(per_network=(3, seconds), per_account=(3, seconds), clock=clock)
    for _ in range(50):
        for _ in range(3):
            with throttle.counting_failures("", "a@x"):
                clock.now += 1e-3 / 7
        for _ in range(3):
            fail(throttle, "", "a@x")
        refused(throttle, "", "a@x")
        clock.now += 3 * seconds
