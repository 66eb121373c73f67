"""The order in which the peers take turns."""

from collections import Counter
from itertools import pairwise

import pytest

from benchmarks.bench import turns

NAMES = ("scope-proxy", "baseline", "nginx", "docker-registry")


def rounds(peers: int, number: int) -> list[list[str]]:
    """So many rounds of so many peers."""
    order = [name for _, name in turns(NAMES[:peers], number, seconds=60)]
    return [order[at : at + peers] for at in range(0, len(order), peers)]


@pytest.mark.parametrize("peers", [1, 2, 3, 4])
def test_every_round_has_each_peer_once(peers: int) -> None:
    assert [sorted(one) for one in rounds(peers, 9)] == [sorted(NAMES[:peers])] * 9


def test_two_peers_swap_places_so_that_a_steady_drift_changes_both_alike() -> None:
    order = [name for one in rounds(2, 4) for name in one]
    places = {name: sum(at for at, other in enumerate(order) if other == name) for name in NAMES[:2]}
    assert places["scope-proxy"] == places["baseline"]


@pytest.mark.parametrize("peers", [2, 3, 4])
def test_no_peer_always_follows_the_same_one(peers: int) -> None:
    pairs = Counter(pair for one in rounds(peers, 2 * peers) for pair in pairwise(one))
    one_way = [pair for pair in pairs if pairs[pair] != pairs[pair[::-1]]]
    assert one_way == []


def test_each_peer_has_every_place_equally_often() -> None:
    places = Counter((name, place) for one in rounds(4, 8) for place, name in enumerate(one))
    assert set(places.values()) == {2}


def test_the_least_rounds_are_run_however_long_they_take() -> None:
    numbers = [number for number, _ in turns(NAMES[:2], 9, seconds=-1, least=4)]
    assert numbers == [0, 0, 1, 1, 2, 2, 3, 3]
