"""Operations that parties announce to each other, without devices."""

from spuvm.devices.agreement import FAILED, Agreement
from spuvm.errors import ChannelError
from spuvm.net.local_endpoint import local_endpoints
from tests.devices.rehearsal import PARTIES


def test_scripts_that_end_one_after_the_other():
    """With the same error: who ends later does not abort the session because the first has left."""
    endpoints = local_endpoints(PARTIES)
    alice = endpoints["alice"]
    send = alice.send

    def unless_gone(peer, envelope, value):
        if peer == "bob":
            raise ChannelError("party 'bob' closed the connection")
        send(peer, envelope, value)

    alice.send = unless_gone
    agreements = [Agreement(endpoints[name], 5.0) for name in PARTIES]
    for agreement in agreements:
        agreement.start()
    ended = f"{FAILED} PartyError"
    agreements[1].begin(ended)
    agreements[0].begin(ended)
    assert not agreements[0].failed
    last = agreements[2].begin(ended)
    agreements[2].wait(last, PARTIES)
    assert not agreements[2].failed
