"""Shares of sweeps on one cluster, the board on which they find each other, and the limits of one sweep."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.errors import BadRequest
from resnetlab.ray_backend import sharing
from resnetlab.ray_backend.capacity import Capacity, check_slots
from resnetlab.ray_backend.sharing import Board, Entry, Sharing, shares
from resnetlab.study import Resources


def sweep(room, wants=None, running=0, name="a", **more):
    return Entry(name, "h", 1, room, room if wants is None else wants, running, **more)


@pytest.mark.parametrize(
    ("sweeps", "found"),
    [
        ([sweep(2)], [2]),
        ([sweep(2), sweep(2)], [1, 1]),
        ([sweep(5), sweep(5)], [3, 2]),  # the first gets what is left over
        ([sweep(4), sweep(4, wants=1)], [3, 1]),  # one leaves what it does not want
        ([sweep(4, wants=0), sweep(4)], [0, 4]),  # one is paused
        ([sweep(8), sweep(2)], [4, 1]),  # trials of four times the size
        ([sweep(2), sweep(0)], [2, 0]),  # no node has room for the other
        ([sweep(2), sweep(2, starved=True), sweep(2, starved=True)], [0, 1, 0]),
    ],
)
def test_shares(sweeps, found):
    assert shares(sweeps) == found


some = st.builds(sweep, st.integers(1, 12), st.integers(0, 12)).map(
    lambda one: replace(one, wants=min(one.wants, one.room))
)


@given(st.lists(some, min_size=1, max_size=6))
def test_shares_fit_on_the_cluster_and_every_sweep_gets_one_in_its_turn(sweeps):
    turns = [shares(sweeps, turn) for turn in range(len(sweeps))]
    for found in turns:
        assert all(share <= one.wants for share, one in zip(found, sweeps, strict=True))
        assert sum(share / one.room for share, one in zip(found, sweeps, strict=True)) <= 1 + 1e-6
    for at, one in enumerate(sweeps):
        assert not one.wants or any(found[at] for found in turns)


@given(st.integers(1, 20), st.integers(1, 6))
def test_equal_sweeps_share_everything_equally(room, number):
    found = shares([sweep(room)] * number)
    assert sum(found) == room and max(found) - min(found) <= 1


def test_a_board_forgets_who_leaves_and_who_is_silent(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(sharing.time, "monotonic", lambda: now[0])
    board = Board()
    board.write("a", {"n": 1})
    board.write("b", {"n": 2})
    assert board.write("a", {"n": 3}) == (0.0, {"a": {"n": 3}, "b": {"n": 2}})  # in the order in which they came
    now[0] = sharing.EXPIRES
    assert board.write("c", {"n": 4})[1].keys() == {"c"}
    assert board.write("c", None) == (sharing.EXPIRES, {})


class Cluster:
    """What `Sharing` asks of Ray: one named board, which `end` ends, and answers that are there at once."""

    def __init__(self, monkeypatch):
        self.now, self.board = 0.0, None
        monkeypatch.setattr(sharing.time, "monotonic", lambda: self.now)
        fake = SimpleNamespace(
            wait=lambda refs, timeout: (refs, []), get=lambda ref: ref, remote=lambda **_: self.actor
        )
        monkeypatch.setattr(sharing, "ray", fake)

    def actor(self, kind):
        def found():
            self.board = self.board or kind()
            return SimpleNamespace(write=SimpleNamespace(remote=self.of(self.board)))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=found))

    def of(self, board):
        def write(*arguments):
            if board is not self.board:
                raise sharing.RayError("the actor died")
            return board.write(*arguments)

        return write

    def pass_by(self, seconds, *sweeps):
        """Each of `sweeps` (a Sharing, and what it says of itself) looks twice a second."""
        for _ in range(int(2 * seconds)):
            self.now += 0.5
            for one, (room, running, wants) in sweeps:
                one.update(room, running, lambda wants=wants: wants)

    def end(self):
        self.board = None


def test_two_sweeps_find_each_other_and_lose_each_other(monkeypatch):
    cluster, said = Cluster(monkeypatch), []
    first, second = Sharing("one", said.append), Sharing("two", lambda line: None)
    assert first.share == 0  # until it knows whether it is alone
    cluster.pass_by(5, (first, (2, 2, 2)))
    assert first.share is None and first.others == []
    cluster.pass_by(5, (first, (2, 2, 2)), (second, (2, 0, 2)))
    assert (first.share, second.share) == (1, 1)
    (other,) = second.others
    assert (other.study, other.running) == ("one", 2) and other.who.startswith("sweep one on host ")
    (line,) = said
    assert line.startswith("sweep two on host") and line.endswith("this one runs at most 1 trial at once")
    second.leave()
    cluster.pass_by(3, (first, (2, 1, 2)))
    assert first.share is None and said[1].endswith("has left the cluster")


def test_a_board_that_ends_is_made_again_and_nobody_is_forgotten_meanwhile(monkeypatch):
    cluster, said = Cluster(monkeypatch), []
    pair = [(Sharing("one", said.append), (2, 1, 2)), (Sharing("two", said.append), (2, 1, 2))]
    cluster.pass_by(10, *pair)
    cluster.end()
    for _ in range(20):
        cluster.pass_by(1, *pair)
        assert [one.share for one, _ in pair] == [1, 1]
    assert len(said) == 2  # each had found the other
    cluster.end()
    cluster.pass_by(sharing.SETTLED + 5, pair[0])
    assert pair[0][0].share is None


def test_a_sweep_that_gets_no_worker_though_others_keep_to_their_shares_is_served_alone(monkeypatch):
    cluster = Cluster(monkeypatch)
    small, large = Sharing("small", print), Sharing("large", print)
    cluster.pass_by(sharing.TURN - 10, (small, (4, 2, 4)), (large, (2, 0, 2)))
    assert (small.share, large.share) == (2, 1)
    cluster.pass_by(30, (small, (4, 2, 4)), (large, (2, 0, 2)))
    assert (small.share, large.share) == (0, 1)
    cluster.pass_by(5, (small, (4, 0, 4)), (large, (2, 1, 2)))
    assert (small.share, large.share) == (2, 1)


def test_a_sweep_whose_board_does_not_come_runs_alone_and_says_so(monkeypatch):
    cluster, said = Cluster(monkeypatch), []
    monkeypatch.setattr(cluster, "of", lambda board: lambda *_: (_ for _ in ()).throw(sharing.RayError("no worker")))
    one = Sharing("one", said.append)
    cluster.pass_by(sharing.FIRST_ANSWER - 1, (one, (2, 0, 2)))
    assert one.share == 0 and not said
    cluster.pass_by(10, (one, (2, 0, 2)))
    assert one.share is None
    assert said == ["note: other sweeps on this cluster are not known, so it is not shared with them: no worker"]


def capacity(most=None):
    node = {"NodeID": "n", "Alive": True, "Resources": {"CPU": 4.0}}
    return Capacity(Resources(), lambda: [node], print, most)


def test_one_trial_more_than_fits_is_handed_out_but_never_more_than_is_allowed():
    free = capacity()
    assert (free.room, free.slots, free.limit) == (4, 4, 5) and free.bound > 5
    capped = capacity(3)
    assert (capped.room, capped.slots, capped.limit, capped.bound) == (4, 3, 3, 3)
    assert capped.waited_for() == "1 CPU (room for 4 trials, on 1 node; --slots allows 3)"
    capped.share = 2
    assert (capped.limit, capped.bound) == (2, 2)
    capped.held = True
    assert (capped.limit, capped.bound) == (0, 0)
    assert capacity(9).limit == 5


@pytest.mark.parametrize("slots", [0, -1, 1.5, "2"])
def test_a_cap_that_is_none(slots):
    with pytest.raises(BadRequest, match=r"--slots .*: need at least 1"):
        check_slots(slots)
