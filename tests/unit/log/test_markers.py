"""How a log gets its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.errors import Rejected
from notifier.log import markers
from notifier.log.markers import Marker, Naming


def proposal(epoch: str) -> Marker:
    return Marker("n", 1.0, epoch, proposal=True)


def regular(epoch: str, seen: int) -> Marker:
    return Marker("n", 1.0, epoch, seen=seen)


def test_markers_survive_the_wire_and_rubbish_does_not() -> None:
    marker = Marker("node", 2.5, "epoch", seen=7, copied=3)
    assert markers.decode(markers.encode(marker)) == marker
    for rubbish in (b"", b"{}", b"[" * 9999, b"\xff", b'{"node":1}'):
        with pytest.raises(Rejected):
            markers.decode(rubbish)


def test_in_a_new_log_the_first_proposal_is_the_name_for_every_worker() -> None:
    for _ in range(2):
        naming = Naming(from_start=True)
        naming.read(proposal("first"), 1)
        naming.read(proposal("second"), 2)
        assert naming.settle()
        assert naming.epoch == "first"


def test_a_worker_that_began_later_takes_the_name_from_others_and_no_proposal() -> None:
    naming = Naming(from_start=False)
    naming.read(proposal("later"), 50)
    assert not naming.settle(), "the first marker may stand before what was read"
    naming.read(regular("name", 49), 51)
    assert naming.settle()
    assert naming.epoch == "name"


def test_a_marker_of_who_has_read_further_than_where_it_stands_is_from_another_log() -> None:
    naming = Naming(from_start=True)
    naming.read(regular("old", 900), 1)
    naming.read(proposal("new"), 2)
    naming.settle()
    assert naming.epoch == "new"


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.data())
def test_whoever_reads_from_the_start_or_from_later_on_agrees(is_proposal: list[bool], data: st.DataObject) -> None:
    """Once one worker has settled, it writes the name into its markers."""
    written = [proposal(f"p{n}") for n in range(len(is_proposal))]
    name = written[0].epoch
    log = [*written, regular(name, len(written))]
    for start in (0, data.draw(st.integers(0, len(log) - 1))):
        naming = Naming(from_start=start == 0)
        for offset, marker in enumerate(log[start:], start=start + 1):
            naming.read(marker, offset)
        assert naming.settle()
        assert naming.epoch == name
