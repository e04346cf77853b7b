"""What every transport has to do, in the same way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from networks import NAMES, TRANSPORTS, U8, U64, network, outcomes, receive, run, send, words

from spuvm.errors import ChannelError, UsageError
from spuvm.net.channel import Channel, Spec

MB = 1 << 20
Channels = Sequence[Channel]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def channels(transport: str) -> Iterator[Channels]:
    with network(transport) as channels:
        yield channels


def test_every_channel_knows_its_place(channels: Channels) -> None:
    assert [c.rank for c in channels] == [0, 1, 2]
    assert [c.peers for c in channels] == [(1, 2), (0, 2), (0, 1)]


def test_frames_arrive_in_order(channels: Channels) -> None:
    count = 300

    def sender() -> None:
        for i in range(count):
            send(channels[0], 1, words(*range(i % 7)), words(i))

    def receiver() -> None:
        for i in range(count):
            head, tail = receive(channels[1], 0, Spec(U64, i % 7), Spec(U64, 1))
            assert head.tolist() == list(range(i % 7))
            assert tail.tolist() == [i]

    run(sender, receiver)


def test_ring_and_pairs_for_many_rounds(channels: Channels) -> None:
    def party(rank: int) -> None:
        nxt, prv, channel = (rank + 1) % 3, (rank - 1) % 3, channels[rank]
        one = [Spec(U64, 1)]
        for i in range(300):
            got = channel.exchange({prv: [words(rank, i)]}, {nxt: [Spec(U64, 2)]})
            assert got[nxt][0].tolist() == [nxt, i]
            got = channel.exchange(
                {nxt: [words(10 * rank)], prv: [words(10 * rank + 1)]}, {prv: one, nxt: one}
            )
            assert got[prv][0] == 10 * prv
            assert got[nxt][0] == 10 * nxt + 1

    run(*(lambda rank=rank: party(rank) for rank in range(3)))


@pytest.mark.parametrize("seed", range(3))
def test_any_common_schedule_works(transport: str, seed: int) -> None:
    """Rounds with random links in use, random sizes, and parties that fall behind at random."""
    schedule_rng = np.random.default_rng(seed)
    sizes = [0, 1, 5, 100, 8189, 8190, 8191, 20_000, 300_000]
    rounds = [
        {
            (s, r): [int(schedule_rng.choice(sizes)) for _ in range(schedule_rng.integers(0, 3))]
            for s in range(3)
            for r in range(3)
            if s != r and schedule_rng.random() < 0.6
        }
        for _ in range(60)
    ]

    def content(number: int, link: tuple[int, int], size: int) -> np.ndarray:
        return np.arange(size, dtype=np.uint64) + np.uint64(number * 10 + link[0] * 3 + link[1])

    def party(channel: Channel) -> None:
        rng = np.random.default_rng([seed, channel.rank])
        for number, links in enumerate(rounds):
            if rng.random() < 0.1:
                time.sleep(rng.random() * 0.03)
            sends = {
                link[1]: [content(number, link, size) for size in found]
                for link, found in links.items()
                if link[0] == channel.rank
            }
            receives = {
                link[0]: [Spec(U64, size) for size in found]
                for link, found in links.items()
                if link[1] == channel.rank
            }
            got = channel.exchange(sends, receives)
            assert set(got) == set(receives)
            for peer, arrays in got.items():
                link = (peer, channel.rank)
                for array, size in zip(arrays, links[link], strict=True):
                    np.testing.assert_array_equal(array, content(number, link, size))

    with network(transport, read_ahead=100_000) as channels:
        run(*(lambda c=c: party(c) for c in channels))


@pytest.mark.parametrize("name", ["uint8", "uint16", "uint32", "uint64", "V16"])
def test_dtypes_and_sizes(channels: Channels, name: str) -> None:
    dtype = np.dtype(name)
    for sizes in ([0], [1], [3, 0, 5], [], [70_000], [1, 70_000, 1], [1] * 1500, [9_000] * 600):
        data = [np.arange(i, i + n).astype(dtype) for i, n in enumerate(sizes)]
        specs = [Spec(dtype, n) for n in sizes]
        _, got = run(
            lambda data=data: send(channels[2], 0, *data),
            lambda specs=specs: receive(channels[0], 2, *specs),
        )
        assert len(got) == len(data)
        for sent, received in zip(data, got, strict=True):
            assert received.dtype == dtype
            assert received.ndim == 1
            np.testing.assert_array_equal(sent, received)


def test_mixed_dtypes_come_out_aligned(channels: Channels) -> None:
    data = [np.arange(3, dtype=np.uint8), words(7, 8), np.arange(5, dtype=np.uint16), words(9)]
    specs = [Spec(a.dtype, a.size) for a in data]

    def receiver() -> list[np.ndarray]:
        channels[1].exchange({}, {2: [Spec(U8, 1)]})  # meanwhile the other frame is read ahead
        return receive(channels[1], 0, *specs)

    def late() -> None:
        time.sleep(0.1)
        send(channels[2], 1, np.zeros(1, np.uint8))

    _, got, _ = run(lambda: send(channels[0], 1, *data), receiver, late)
    for sent, received in zip(data, got, strict=True):
        np.testing.assert_array_equal(sent, received)
        assert received.flags.aligned
        assert received.flags.c_contiguous


def test_arrays_of_any_shape_are_sent_flat(channels: Channels) -> None:
    data = [np.arange(12, dtype=np.uint64).reshape(3, 4), np.array(5, np.uint64)]
    _, got = run(
        lambda: send(channels[0], 1, *data),
        lambda: receive(channels[1], 0, Spec(U64, 12), Spec(U64, 1)),
    )
    assert got[0].tolist() == list(range(12))
    assert got[1].tolist() == [5]


def test_both_directions_at_once_do_not_block(channels: Channels) -> None:
    size = 20 * MB // 8

    def party(rank: int) -> None:
        data = [np.full(size, rank, U64)]
        specs = [Spec(U64, size)]
        peers = channels[rank].peers
        got = channels[rank].exchange(dict.fromkeys(peers, data), dict.fromkeys(peers, specs))
        assert all(got[p][0][0] == p and got[p][0][-1] == p for p in peers)
        # and with the sends alone first: each reads ahead what it will ask for later
        channels[rank].exchange(dict.fromkeys(peers, data), {})
        got = channels[rank].exchange({}, dict.fromkeys(peers, specs))
        assert all(got[p][0].size == size and np.all(got[p][0] == p) for p in peers)

    run(*(lambda rank=rank: party(rank) for rank in range(3)))


def test_one_who_runs_ahead_is_held_back(transport: str) -> None:
    frames, size, limit = 200, MB, 8 * MB
    data = np.zeros(size, np.uint8)

    with network(transport, read_ahead=limit) as channels:

        def runner() -> None:
            for i in range(frames):
                send(channels[2], 1, np.full(size, i, np.uint8))

        def bystander() -> int:
            before = -1
            while (now := channels[2].stats.frames_sent) != before or not now:
                before = now
                time.sleep(0.25)
            send(channels[0], 1, data[:1])
            return before

        def receiver() -> None:
            receive(channels[1], 0, Spec(U8, 1))
            for i in range(frames):
                (got,) = receive(channels[1], 2, Spec(U8, size))
                assert got[0] == i
                assert got[-1] == i

        ahead, _, _ = run(bystander, receiver, runner)
        socket_buffers = 24 * MB
        assert limit <= ahead * size <= limit + size + socket_buffers


def test_counters_are_the_payload(channels: Channels) -> None:
    run(
        lambda: channels[0].exchange({1: [words(1, 2), words(3)], 2: []}, {}),
        lambda: channels[1].exchange({}, {0: [Spec(U64, 2), Spec(U64, 1)]}),
        lambda: channels[2].exchange({}, {0: []}),
    )
    sent = [(c.stats.bytes_sent, c.stats.frames_sent, c.stats.bytes_received) for c in channels]
    assert sent == [(24, 2, 0), (0, 0, 24), (0, 0, 0)]


# ---- failures


def test_deadline_names_who_and_what(transport: str) -> None:
    with network(transport, timeout=0.3) as channels:
        start = time.monotonic()
        with pytest.raises(ChannelError, match=r"party 'carol' \(rank 2\) made no progress") as e:
            receive(channels[0], 2, Spec(U64, 3))
        assert 0.25 < time.monotonic() - start < 3
        assert "a frame of 24 bytes" in str(e.value)


def test_deadline_holds_for_sends(transport: str) -> None:
    with network(transport, timeout=0.3, read_ahead=MB) as channels:

        def sender() -> None:
            for _ in range(9):
                send(channels[0], 1, np.zeros(8 * MB, np.uint8))

        with pytest.raises(ChannelError, match=r"'bob'.*made no progress"):
            sender()


def test_slow_but_steady_is_not_late(transport: str) -> None:
    with network(transport, timeout=0.4) as channels:

        def slow() -> None:
            for i in range(3):
                time.sleep(0.25)
                send(channels[0], 1, words(i))

        def receiver() -> None:
            for _ in range(3):
                receive(channels[1], 0, Spec(U64, 1))

        run(slow, receiver)


def test_what_a_leaver_sent_still_arrives_then_it_is_named(channels: Channels) -> None:
    def leaver() -> None:
        send(channels[0], 1, words(1))
        time.sleep(0.1)
        channels[0].close()

    def receiver() -> float:
        assert receive(channels[1], 0, Spec(U64, 1))[0] == 1
        with pytest.raises(ChannelError, match=r"party 'alice'.*closed"):
            receive(channels[1], 0, Spec(U64, 1))
        return time.monotonic()

    start = time.monotonic()
    _, end = run(leaver, receiver)
    assert end - start < 2


def test_one_leaver_does_not_disturb_the_others(channels: Channels) -> None:
    def waiting() -> None:
        assert receive(channels[1], 2, Spec(U64, 1))[0] == 5

    def late() -> None:
        channels[0].close()
        time.sleep(0.2)
        send(channels[2], 1, words(5))

    run(waiting, late)


def test_sending_to_one_who_left_fails(channels: Channels) -> None:
    def sender() -> None:
        for _ in range(100):
            send(channels[0], 1, words(1))
            time.sleep(0.001)

    channels[1].close()
    with pytest.raises(ChannelError, match=r"party 'bob'.*closed"):
        sender()


def test_abort_wakes_whoever_waits_for_anyone(channels: Channels) -> None:
    def failing() -> None:
        time.sleep(0.1)
        channels[2].abort("division by a public zero\nat model.py:3")
        with pytest.raises(ChannelError, match="left the channel"):
            send(channels[2], 0, words(1))

    def waiting(rank: int, peer: int) -> float:
        with pytest.raises(ChannelError, match=r"'carol' \(rank 2\) aborted: division by a") as e:
            receive(channels[rank], peer, Spec(U64, 1))
        assert "at model.py:3" in str(e.value)
        return time.monotonic()

    start = time.monotonic()
    ends = run(failing, lambda: waiting(0, 2), lambda: waiting(1, 0))
    assert max(ends[1:]) - start < 2


def test_abort_is_met_by_the_next_exchange_after_what_was_sent(channels: Channels) -> None:
    send(channels[0], 1, words(4))
    channels[0].abort("no more")
    assert receive(channels[1], 0, Spec(U64, 1))[0] == 4
    for _ in range(2):  # and it stays so
        with pytest.raises(ChannelError, match=r"'alice'.*aborted: no more"):
            receive(channels[1], 0, Spec(U64, 1))


def test_abort_reaches_one_who_is_sending(transport: str) -> None:
    with network(transport, read_ahead=MB) as channels:

        def sender() -> None:
            for _ in range(100):
                send(channels[0], 1, np.zeros(8 * MB, np.uint8))

        def failing() -> None:
            time.sleep(0.2)
            channels[1].abort("stop it")

        got, _ = outcomes(sender, failing)
        assert isinstance(got, ChannelError)
        assert "'bob' (rank 1) aborted: stop it" in str(got)


def test_abort_from_another_thread_ends_the_own_exchange(channels: Channels) -> None:
    def other_thread() -> None:
        time.sleep(0.1)
        channels[0].abort("the driver says so")

    got, _, peer = outcomes(
        lambda: receive(channels[0], 1, Spec(U64, 1)),
        other_thread,
        lambda: receive(channels[2], 1, Spec(U64, 1)),
    )
    assert isinstance(got, ChannelError)
    assert "the driver says so" in str(got)
    assert isinstance(peer, ChannelError)
    assert "'alice' (rank 0) aborted: the driver says so" in str(peer)


def test_close_from_another_thread_ends_the_own_exchange(channels: Channels) -> None:
    def other_thread() -> None:
        time.sleep(0.1)
        channels[0].close()

    got, _ = outcomes(lambda: receive(channels[0], 1, Spec(U64, 1)), other_thread)
    assert isinstance(got, ChannelError)
    assert "closed" in str(got)


def test_context_manager_tells_the_peers_why(channels: Channels) -> None:
    def failing() -> None:
        with channels[0]:
            raise RuntimeError("out of cheese")

    mine, peer = outcomes(failing, lambda: receive(channels[1], 0, Spec(U64, 1)))
    assert isinstance(mine, RuntimeError)
    assert isinstance(peer, ChannelError)
    assert "'alice' (rank 0) aborted: RuntimeError: out of cheese" in str(peer)


@pytest.mark.parametrize(("sent", "expected"), [(3, 4), (4, 3), (0, 1), (1, 0), (3, 1 << 42)])
def test_another_length_is_refused_before_anything_is_allocated(
    channels: Channels, sent: int, expected: int
) -> None:
    _, got = outcomes(
        lambda: send(channels[0], 1, np.zeros(sent, U64)),
        lambda: receive(channels[1], 0, Spec(U64, expected)),
    )
    assert isinstance(got, ChannelError)
    assert "'alice' (rank 0) sent a frame of another length" in str(got)
    assert f"got      {8 * sent} bytes" in str(got)
    assert f"expected {8 * expected} bytes" in str(got)


def test_another_length_is_refused_when_it_was_read_ahead(channels: Channels) -> None:
    def receiver() -> None:
        receive(channels[1], 2, Spec(U64, 1))
        receive(channels[1], 0, Spec(U64, 4))

    def late() -> None:
        time.sleep(0.1)
        send(channels[2], 1, words(0))

    _, got, _ = outcomes(lambda: send(channels[0], 1, words(1)), receiver, late)
    assert isinstance(got, ChannelError)
    assert "another length" in str(got)


def test_misuse_is_told(channels: Channels) -> None:
    with pytest.raises(UsageError, match="no such peer"):
        send(channels[0], 0, words(1))
    with pytest.raises(UsageError, match="no such peer"):
        receive(channels[1], 7, Spec(U64, 1))
    with pytest.raises(UsageError, match="not C-contiguous"):
        send(channels[2], 0, np.zeros((300, 300), U64).T)
    with pytest.raises(ChannelError, match="unusable"):
        send(channels[2], 0, words(1))


def test_two_threads_at_once_are_refused(channels: Channels) -> None:
    started = threading.Event()

    def first() -> None:
        started.set()
        receive(channels[0], 1, Spec(U64, 1))

    def second() -> None:
        started.wait()
        time.sleep(0.1)
        with pytest.raises(UsageError, match="two threads"):
            receive(channels[0], 2, Spec(U64, 1))
        send(channels[1], 0, words(1))

    run(first, second)


def test_closing_twice_and_using_after_close(channels: Channels) -> None:
    channels[0].close()
    channels[0].close()
    channels[0].abort("too late, and harmless")
    with pytest.raises(ChannelError, match="left the channel"):
        send(channels[0], 1, words(1))


def test_without_names_messages_speak_of_ranks() -> None:
    from spuvm.net.local import LocalNetwork

    with LocalNetwork(timeout=0.05) as net, pytest.raises(ChannelError, match="party 1 made no"):
        receive(net.channels[0], 1, Spec(U64, 1))
    assert NAMES[1] == "bob"
