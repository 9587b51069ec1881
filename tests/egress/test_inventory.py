"""Who is who: addresses to hosts, hosts to models, against a slow reading of the same rules row by row."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.addresses import bytes_of, network_of, text_of
from egress.config import Config, Detect, Fleet, Host, Model, Role
from egress.errors import ConfigError
from egress.grouping import coded
from egress.inventory import WHO, Inventory, attributed
from egress.schema import FLOWS, NO_ADDRESS

Row = tuple[str, str, dict[str, object]]
FILLERS = {name: {pl.String: name, pl.Boolean: True}.get(type(dtype), 1) for name, dtype in FLOWS.polars.items()}

INTERNAL = ("10.0.0.0/8", "fd00::/8")
FLEET = Fleet(
    internal=tuple(map(network_of, INTERNAL)),
    hosts=(
        Host("gpu-01", (bytes_of("10.77.1.10"), bytes_of("fd77:1::10")), role="inference"),
        Host("gpu-02", (bytes_of("10.77.2.20"),), role="training", tolerated_bytes_per_day=7),
        Host("dev", (bytes_of("10.88.1.1"),), role="agent"),
        Host("edge", (bytes_of("203.0.113.1"),), transit=True),
    ),
    roles=(Role("agent", 500), Role("training", 900)),
)
MODELS = (Model("big", 1000, ("gpu-01",)), Model("small", 100, ("role:train*",)))
SITE = Inventory(Config(FLEET, MODELS))
NOBODY = Inventory(Config(is_assumed=True))

ADDRESSES = [
    "10.77.1.10",
    "fd77:1::10",
    "10.77.2.20",
    "10.88.1.1",
    "203.0.113.1",
    "10.77.1.99",
    "fd77:1::99",
    "10.200.0.1",
    "10.200.0.2",
    "fd99::1",
    "198.51.100.1",
    "2001:db8::1",
    "8.8.8.8",
    "192.168.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "127.0.0.1",
    "169.254.0.1",
    "fe80::1",
    "ff02::1",
    "::1",
]
address = st.sampled_from(ADDRESSES)
tunnel = st.one_of(st.just({}), st.fixed_dictionaries({"outer_src_ip": address, "outer_dst_ip": address}))
row = st.tuples(address, address, tunnel)
rows = st.lists(row, max_size=12)


def hosts_and_sides(frame: pl.DataFrame, inventory: Inventory = SITE) -> list[tuple[str, str]]:
    return inventory.attribute(frame).select("host", "side").rows()


class TestAttribute:
    def test_names_the_initiator(self) -> None:
        """A host that connects outwards."""
        assert hosts_and_sides(flows(("10.77.1.10", "8.8.8.8", {}))) == [("gpu-01", "src")]

    def test_names_the_responder(self) -> None:
        """A reverse pull is about the host that answers."""
        assert hosts_and_sides(flows(("8.8.8.8", "10.77.1.10", {}))) == [("gpu-01", "dst")]

    def test_makes_two_rows_of_one_conversation_between_hosts(self) -> None:
        """Each host's account is complete by itself; the flow id tells that it is one conversation."""
        found = SITE.attribute(flows(("10.77.1.10", "10.88.1.1", {"flow_id": 9})))

        assert found.select("flow_id", "host", "side").rows() == [(9, "gpu-01", "src"), (9, "dev", "dst")]

    def test_keeps_strangers_without_a_host(self) -> None:
        """Stored, not charged."""
        assert hosts_and_sides(flows(("8.8.8.8", "1.1.1.1", {}))) == [("", "")]

    def test_takes_all_addresses_of_a_host_for_one(self) -> None:
        """IPv4 and IPv6 lead to the same account."""
        both = flows(("10.77.1.10", "8.8.8.8", {}), ("fd77:1::10", "2001:db8::1", {}))

        assert hosts_and_sides(both) == [("gpu-01", "src"), ("gpu-01", "src")]

    def test_reads_a_v4_mapped_address_as_ipv4(self) -> None:
        """`::ffff:10.77.1.10` in an IPv6 header is the IPv4 host."""
        assert hosts_and_sides(flows(("::ffff:10.77.1.10", "8.8.8.8", {}))) == [("gpu-01", "src")]

    def test_names_an_unlisted_inside_address_by_itself(self) -> None:
        """Privacy addresses and spoofed sources stay visible."""
        two = flows(("10.77.1.99", "8.8.8.8", {}), ("fd77:1:0:0::99", "8.8.8.8", {}))

        assert hosts_and_sides(two) == [("10.77.1.99", "src"), ("fd77:1::99", "src")]

    def test_takes_no_link_local_loopback_or_multicast_address_for_a_host(self) -> None:
        """They name nobody beyond one link."""
        wide = Inventory(Config(Fleet(internal=(network_of("::/0"),))))
        names = ("fe80::1", "169.254.0.1", "127.0.0.1", "::1", "ff02::1", "224.0.0.1", "255.255.255.255", "0.0.0.0")

        assert hosts_and_sides(flows(*((name, name, {}) for name in names)), wide) == [("", "")] * len(names)

    def test_keeps_a_host_that_the_collector_named(self) -> None:
        """The collector on the host knows who sent, whatever source address was used."""
        known = flows(
            ("9.9.9.9", "8.8.8.8", {"host": "gpu-01"}),
            ("8.8.8.8", "10.77.1.10", {"host": "gpu-01"}),
            ("10.77.1.10", "10.88.1.1", {"host": "dev", "side": "src"}),
        )

        assert hosts_and_sides(known) == [("gpu-01", "src"), ("gpu-01", "dst"), ("dev", "src")]

    def test_changes_nothing_the_second_time(self) -> None:
        """Stored flows can be read again."""
        once = SITE.attribute(flows(("10.77.1.10", "10.88.1.1", {}), ("8.8.8.8", "1.1.1.1", {})))

        assert SITE.attribute(once).equals(once)

    def test_gives_no_rows_for_none(self) -> None:
        assert SITE.attribute(flows()).equals(FLOWS.empty())


class TestTunnels:
    def test_charge_the_owner_of_the_outer_source_whatever_is_inside(self) -> None:
        """The sender chooses the inner addresses."""
        for inner in ("9.9.9.9", "10.88.1.1", "192.168.7.7"):
            spoofed = flows((inner, "8.8.8.8", {"outer_src_ip": "10.77.1.10", "outer_dst_ip": "198.51.100.1"}))

            assert hosts_and_sides(spoofed) == [("gpu-01", "src")]

    def test_to_outside_make_no_receiver_of_a_private_inner_destination(self) -> None:
        """A remote site may use our addresses behind its end of the tunnel."""
        away = flows(("10.77.1.10", "10.77.2.20", {"outer_src_ip": "10.77.1.10", "outer_dst_ip": "198.51.100.1"}))

        assert hosts_and_sides(away) == [("gpu-01", "src")]

    def test_from_outside_make_no_sender_of_a_private_inner_source(self) -> None:
        """What comes out of a remote site's tunnel was not sent by our host."""
        coming = flows(("10.77.1.10", "10.88.1.1", {"outer_src_ip": "198.51.100.1", "outer_dst_ip": "10.88.1.1"}))

        assert hosts_and_sides(coming) == [("dev", "dst")]

    def test_that_only_pass_by_are_judged_by_what_is_inside(self) -> None:
        """A tap between two carriers still sees our host send."""
        passing = flows(("10.77.1.10", "8.8.8.8", {"outer_src_ip": "198.51.100.1", "outer_dst_ip": "198.51.100.2"}))

        assert hosts_and_sides(passing) == [("gpu-01", "src")]

    def test_over_a_bare_underlay_name_the_listed_host_inside(self) -> None:
        """Overlay hosts are listed by overlay address; nobody is listed near 10.200.0.0."""
        overlay = flows(("10.77.1.10", "10.77.2.20", {"outer_src_ip": "10.200.0.1", "outer_dst_ip": "10.200.0.2"}))

        assert hosts_and_sides(overlay) == [("gpu-01", "src"), ("gpu-02", "dst")]

    def test_from_an_unlisted_neighbour_are_not_blamed_on_the_inner_address(self) -> None:
        """A spoofed outer source in the fleet's own /24 holds what the /24 holds."""
        forged = flows(("10.88.1.1", "8.8.8.8", {"outer_src_ip": "10.77.1.99", "outer_dst_ip": "198.51.100.1"}))

        assert hosts_and_sides(forged) == [("10.77.1.99", "src")]


class TestAssumed:
    def test_makes_a_host_of_every_private_address(self) -> None:
        """RFC 1918, 6598, 4193; link-local and public ones are none."""
        names = ("10.1.1.1", "172.31.0.1", "192.168.0.1", "100.64.0.1", "fd00::1", "169.254.1.1", "172.32.0.1")
        found = hosts_and_sides(flows(*((name, "8.8.8.8", {}) for name in names)), NOBODY)

        assert [host for host, _ in found] == [*names[:5], "", ""]

    def test_gives_every_host_one_model_of_the_assumed_size(self) -> None:
        """Nothing was declared, so anything may be there."""
        inventory = Inventory(Config(is_assumed=True, detect=Detect(123)))

        assert inventory.models_of("10.1.1.1") == ("assumed",)
        assert (inventory.model("assumed").bytes, inventory.model("assumed").is_assumed) == (123, True)

    def test_declares_nothing_where_a_site_declared_something(self) -> None:
        """An inventory without models is not a replay without an inventory."""
        assert Inventory(Config(FLEET)).models_of("gpu-01") == ()


class TestHosts:
    def test_hold_what_names_them_by_id_glob_or_role(self) -> None:
        models = (Model("id", 1, ("gpu-01",)), Model("glob", 1, ("gpu-*",)), Model("role", 1, ("role:inference",)))
        inventory = Inventory(Config(FLEET, models))

        assert inventory.models_of("gpu-01") == ("id", "glob", "role")
        assert inventory.models_of("dev") == ()

    def test_unlisted_hold_what_their_neighbours_hold(self) -> None:
        """A /24 or a /64 decides, as far as listed hosts are in it."""
        assert SITE.models_of("10.77.1.99") == ("big",)
        assert SITE.models_of("fd77:1::99") == ("big",)
        assert SITE.models_of("10.77.3.1") == ()
        assert SITE.models_of("fd77:2::99") == ()

    def test_unlisted_can_be_named_by_a_glob(self) -> None:
        inventory = Inventory(Config(FLEET, (Model("m", 1, ("10.99.*",)),)))

        assert inventory.models_of("10.99.0.1") == ("m",)

    @pytest.mark.parametrize(
        "host",
        ["gpu-01", "gpu-02", "dev", "edge", "10.77.1.99", "10.99.0.1", "fd77:1::99", "no-address", "a:b", "\0", ""],
    )
    def test_hold_what_they_are_holders_of(self, host: str) -> None:
        """Two ways to ask the same."""
        models = (
            *MODELS,
            Model("glob", 1, ("10.99.*", "no-*")),
            Model("any", 1, ("role:*",)),
            Model("all", 1, ("*",)),
            Model("none", 1),
        )
        inventory = Inventory(Config(FLEET, models))

        held = tuple(model.id for model in models if inventory.holders_of(model.id, [host]) == (host,))

        assert inventory.models_of(host) == held

    def test_that_hold_a_model_are_found_among_others(self) -> None:
        assert SITE.holders_of("small", ["gpu-02", "gpu-01", "10.77.2.9", "gpu-02"]) == ("10.77.2.9", "gpu-02")

    def test_have_strangers_near_them_that_may_be_themselves(self) -> None:
        """By IPv4 or IPv6; who is listed is no stranger."""
        hosts = ["10.77.1.99", "fd77:1::99", "10.77.2.99", "gpu-02", "no-address"]

        assert SITE.strangers_near("gpu-01", hosts) == ("10.77.1.99", "fd77:1::99")
        assert SITE.strangers_near("10.77.1.99", hosts) == ()

    def test_tolerate_their_own_before_their_roles_bytes(self) -> None:
        assert [SITE.tolerance_of(host) for host in ("gpu-02", "dev", "gpu-01", "10.77.1.99")] == [7, 500, 0, 0]

    def test_know_their_role_and_whether_they_pass_on(self) -> None:
        assert [SITE.role_of(host) for host in ("dev", "edge", "10.77.1.99")] == ["agent", "", ""]
        assert [SITE.is_transit(host) for host in ("dev", "edge", "10.77.1.99")] == [False, True, False]

    def test_without_a_role_match_no_role(self) -> None:
        assert not SITE.matches(["role:*"], "edge")
        assert SITE.matches(["x", "role:*"], "dev")

    def test_cannot_share_an_address(self) -> None:
        twice = (Host("a", (bytes_of("10.0.0.1"),)), Host("b", (bytes_of("10.0.0.1"),)))

        with pytest.raises(ConfigError, match=r"10\.0\.0\.1 belongs to a and to b"):
            Inventory(Config(Fleet(hosts=twice)))

    def test_own_their_addresses_and_nobody_owns_the_outside(self) -> None:
        owners = [SITE.owner_of(bytes_of(text)) for text in ("fd77:1::10", "10.1.2.3", "8.8.8.8", "127.0.0.1", "::")]

        assert owners == ["gpu-01", "10.1.2.3", "", "", ""]


def test_a_listed_address_outside_the_declared_networks_is_inside() -> None:
    """The site lists it as its own."""
    found = pl.DataFrame({"a": [bytes_of("203.0.113.1"), bytes_of("203.0.113.2")]}).select(SITE.is_inside("a"))

    assert found.to_series().to_list() == [True, False]


@given(
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 128)), min_size=1, max_size=4),
    st.booleans(),
)
@settings(deadline=None)
def test_membership_is_that_of_the_address_library(pairs: list[tuple[bytes, int]], has_many: bool) -> None:
    """Ranges of byte strings, and prefixes where there are many, mean the same as networks."""
    networks = tuple(IPv6Network((int.from_bytes(packed), length), strict=False) for packed, length in pairs)
    networks += tuple(IPv6Network((number << 64, 67)) for number in range(1, 50, 2)) if has_many else ()
    inventory = Inventory(Config(Fleet(internal=networks)))
    near = [*(network.network_address for network in networks), *(network.broadcast_address for network in networks)]
    near += [IPv6Address((int(network.broadcast_address) + 1) % (1 << 128)) for network in networks]
    near += [IPv6Address((int(network.network_address) - 1) % (1 << 128)) for network in networks]
    frame = pl.DataFrame({"a": [address.packed for address in near]})

    found = frame.select(inventory.is_inside("a")).to_series().to_list()

    assert found == [any(address in network for network in networks) for address in near]


@given(rows)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_every_inside_side_gets_its_bytes_once(given_rows: list[Row]) -> None:
    """Row by row, the same hosts and sides as the rules read aloud; nothing else in a row is touched."""
    frame = flows(*given_rows)
    expected = [
        (number, host, side) for number, given_row in enumerate(given_rows) for host, side in _sides_by_hand(*given_row)
    ]

    found = SITE.attribute(frame)

    assert found.select("flow_id", "host", "side").rows() == expected
    assert found.drop("host", "side").equals(frame.drop("host", "side")[[number for number, _, _ in expected]])


@given(rows, rows)
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_attributing_parts_is_attributing_the_whole(left: list[Row], right: list[Row]) -> None:
    """Batch sizes cannot matter, and with them neither whether a batch holds a tunnel."""
    parts = [SITE.attribute(flows(*left)), SITE.attribute(flows(*right))]
    whole = SITE.attribute(pl.concat([flows(*left), flows(*right)]))

    assert pl.concat(parts).equals(whole)


@given(rows)
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_telling_second_sides_last_tells_the_same(given_rows: list[Row]) -> None:
    """A replay does not ask for the order of rows, and copies those alone that it needs twice."""
    frame = flows(*given_rows)
    codes, ends = coded(frame, WHO)

    found = attributed(frame, codes, SITE.sides(ends))

    in_order = found.sort("flow_id", pl.col("side") != "src")
    assert in_order.equals(SITE.attribute(frame))


@given(row)
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_swapping_the_initiator_swaps_the_sides(given_row: Row) -> None:
    """Who connects decides nothing about who is charged."""
    src, dst, outer = given_row
    turned = {"outer_src_ip": outer["outer_dst_ip"], "outer_dst_ip": outer["outer_src_ip"]} if outer else {}
    other = {"src": "dst", "dst": "src", "": ""}

    found = hosts_and_sides(flows((dst, src, turned)))

    assert sorted((host, other[side]) for host, side in found) == sorted(hosts_and_sides(flows(given_row)))


def flows(*given_rows: Row) -> pl.DataFrame:
    """(src, dst, {column: value}) of each row as FLOWS; every other column says something that must survive."""
    rows = []
    for number, (src, dst, columns) in enumerate(given_rows):
        outer = dict.fromkeys(("outer_src_ip", "outer_dst_ip"), NO_ADDRESS)
        outer |= {name: bytes_of(str(columns[name])) for name in outer if name in columns}
        named = {"flow_id": number, "src_ip": bytes_of(src), "dst_ip": bytes_of(dst), "host": "", "side": ""}
        rows.append({**FILLERS, **named, **columns, **outer})
    return pl.DataFrame(rows, schema=FLOWS.polars, orient="row")


def _sides_by_hand(src: str, dst: str, outer: dict[str, object]) -> list[tuple[str, str]]:
    ends = {"src": src, "dst": dst}
    outers = {"src": str(outer.get("outer_src_ip", "")), "dst": str(outer.get("outer_dst_ip", ""))}
    if outer and any(_is_inside(name) for name in outers.values()):
        for side, name in outers.items():
            is_underlay = name in ("10.200.0.1", "10.200.0.2", "fd99::1")
            if not (is_underlay and ends[side] in LISTED):
                ends[side] = name
    found = [(_owner(name), side) for side, name in ends.items() if _owner(name)]
    return found or [("", "")]


LISTED = {text_of(address): host.id for host in FLEET.hosts for address in host.addresses}


def _is_inside(name: str) -> bool:
    return name in LISTED or name.startswith(("10.", "fd"))


def _owner(name: str) -> str:
    return LISTED.get(name, name if _is_inside(name) else "")
