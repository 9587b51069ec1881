"""Messages of goflow2 as ours: under which host, which number, which epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from egress import configfile, registry, wire
from egress.config import Config
from egress.inventory import Inventory
from egress.messages import Message
from egress.offsetcuts import Slice
from egress.schema import FLOWS
from egress.translating import Translated, Translator, rules_of
from tests.collectors.test_goflow import as_json, as_protobuf

PLACE = ("flow-messages", 0)
SENSOR = "goflow2:flow-messages/0"
TWO = (as_json(src_addr="10.0.0.1"), as_json(src_addr="10.0.0.2", src_port=50_001))


@pytest.fixture
def site(tmp_path: Path) -> Config:
    (tmp_path / "egress.toml").write_text('[fleet]\ninternal = ["10.0.0.0/8"]\n')
    return configfile.load(tmp_path / "egress.toml")


def translator(site: Config, encoding: str = "json", sensor: str = SENSOR) -> Translator:
    reader = registry.rows_reader(f"goflow-{encoding}")
    return Translator(reader, Inventory(site), sensor, rules_of(site, encoding, "goflow2"))


def cut(first: int, values: Sequence[bytes], begin: int = 0, written_us: int = 0) -> Slice:
    messages = tuple(Message(*PLACE, first + place, None, value, (), written_us) for place, value in enumerate(values))
    return Slice(PLACE, begin, first, first + len(values), messages, False)


def headers(translated: Translated) -> list[wire.Header]:
    return [wire.read_header(parcel.headers) for parcel in translated.parcels]


def test_rows_are_those_of_the_reader_with_their_hosts(site: Config, data: Path) -> None:
    """Of an exporter's real flows, each row under each watched side, and none besides."""
    value = (data / "goflow" / "netflow9.bin").read_bytes()
    read = registry.rows_reader("goflow-protobuf").read([value]).flows

    found = translator(site, "protobuf").translated(cut(0, [value]))

    rows = pl.concat([FLOWS.empty(), *(wire.decode(each.value, each.headers)[1] for each in found.parcels)])
    order = ["host", "start", "flow_id", "side", "src_bytes", "dst_bytes", "end"]
    assert_frame_equal(rows.sort(order), Inventory(site).attribute(read).sort(order))
    assert (found.rows, found.unfit, found.taken, found.refusals) == (rows.height, 0, 1, ())


def test_each_host_counts_from_0_in_each_epoch(site: Config) -> None:
    here = translator(site)
    both, one, anew = cut(0, TWO), cut(2, TWO[:1]), cut(3, TWO, begin=3)

    found = [headers(here.translated(each)) for each in (both, one, anew)]

    numbers = [[(header.host, header.seq) for header in each] for each in found]
    assert numbers == [[("10.0.0.1", 0), ("10.0.0.2", 0)], [("10.0.0.1", 1)], [("10.0.0.1", 0), ("10.0.0.2", 0)]]
    assert {header.sensor for each in found for header in each} == {SENSOR}
    assert found[0][0].epoch == found[1][0].epoch != found[2][0].epoch


def test_what_is_read_again_has_the_same_bytes(site: Config) -> None:
    slices = (cut(0, TWO), cut(2, [b"{", *TWO]))
    before, after = translator(site), translator(site)

    assert [before.translated(each) for each in slices] == [after.translated(each) for each in slices]


def test_other_content_and_other_rules_have_other_names(site: Config) -> None:
    """A topic that was made again, another inventory, another instance: what is counted is not taken for these."""
    elsewhere = replace(site, fleet=replace(site.fleet, internal=()))
    variants = [
        translator(site).translated(cut(0, TWO)),
        translator(site).translated(cut(0, TWO, written_us=5)),
        translator(site).translated(cut(0, TWO[::-1])),
        translator(site, sensor="goflow2:flow-messages/1").translated(cut(0, TWO)),
        translator(elsewhere).translated(cut(0, TWO)),
        translator(site, "protobuf").translated(cut(0, [as_protobuf()])),
    ]

    assert len({headers(each)[0].epoch for each in variants}) == len(variants)


def test_what_cannot_be_read_is_told_by_its_message_and_its_neighbours_are_sent(site: Config) -> None:
    found = translator(site).translated(cut(7, [TWO[0], b"no json", as_json(src_addr=""), TWO[1]]))

    assert [(one.message.offset, one.reason) for one in found.refusals] == [(8, "malformed"), (9, "no_address")]
    assert [parcel.rows for parcel in found.parcels] == [1, 1]
    assert (found.rows, found.taken) == (2, 2)


def test_a_slice_without_rows_is_none_the_less_a_slice(site: Config) -> None:
    """Nothing but rubbish, or nothing: the numbers go on behind it."""
    here = translator(site)

    assert here.translated(cut(0, [b"x"])).parcels == ()
    assert here.translated(replace(cut(1, []), next=5)).taken == 0
    assert [header.seq for header in headers(here.translated(cut(5, TWO)))] == [0, 0]


def test_rows_that_cannot_travel_are_counted(site: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_VALUE_BYTES", 10)

    found = translator(site).translated(cut(0, TWO))

    assert (found.rows, found.unfit, found.parcels) == (2, 2, ())
