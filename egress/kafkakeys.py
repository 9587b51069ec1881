"""Every key of `[kafka]`; see `configkeys`."""

from __future__ import annotations

from egress import configvalues as read
from egress import passwords
from egress.config import Kafka
from egress.configtable import Key, Section

_KAFKA = Kafka(())

KAFKA = Section(
    "kafka",
    "The bus that `collect`, `detect` and `store` share. The environment's `EGRESS_KAFKA` (host:port, with commas) "
    "stands for `servers`, and for the whole section where there is none.",
    (
        Key(
            "servers",
            read.list_of(read.server, at_least=1),
            "brokers to ask first; they name the others",
            '["kafka-1.example.org:9093", "kafka-2.example.org:9093"]',
            is_required=True,
        ),
        Key(
            "prefix",
            read.topic_prefix,
            "what names of topics begin with",
            '"egress"',
            default=_KAFKA.prefix,
            shown_default="egress: `egress.flows.v1`",
        ),
        Key(
            "partitions",
            read.count(1, 10_000, "partitions"),
            "parts of the flows, by host: as many detectors can share the work; it can only grow",
            "48",
            default=_KAFKA.partitions,
            shown_default="12",
        ),
        Key(
            "replication",
            read.count(1, 9, "copies"),
            "copies of everything; all but one must be there for a write to count",
            "3",
            shown_default="3, or 1 where there are fewer brokers",
        ),
        Key(
            "retention",
            read.duration,
            "how long flows, heartbeats and sums are kept there: longer than any service may be down",
            '"7d"',
            default=_KAFKA.retention,
            shown_default="7d",
        ),
        Key("tls", read.claim, "true: speak TLS with the brokers", "true", default=False, shown_default="false"),
        Key(
            "ca",
            read.text,
            "file of certificates (PEM) that the brokers' one must come from, relative to this file",
            '"kafka-ca.pem"',
            default="",
            shown_default="what the system trusts",
        ),
        Key(
            "cert",
            read.text,
            "file of our own certificate (PEM), where the brokers ask for one; needs `key`",
            '"kafka-client.pem"',
            default="",
            shown_default="none",
        ),
        Key("key", read.text, "file of its key (PEM)", '"kafka-client.key"', default="", shown_default="none"),
        Key(
            "user",
            read.text,
            "who signs in with a password",
            '"egress"',
            default="",
            shown_default="nobody signs in",
        ),
        Key(
            "mechanism",
            read.one_of("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
            "how the user signs in; PLAIN only with `tls`",
            '"SCRAM-SHA-512"',
            default=_KAFKA.mechanism,
            shown_default="SCRAM-SHA-512",
        ),
        *passwords.keys("EGRESS_KAFKA_PASSWORD", "kafka.password"),
        Key(
            "in_flight_bytes",
            read.count(2 << 20, 1 << 32, "bytes"),
            "what a service may have sent that no broker has acknowledged yet; then it waits",
            "33_554_432",
            default=_KAFKA.in_flight_bytes,
            shown_default="33_554_432",
        ),
        Key(
            "fetch_bytes",
            read.count(2 << 20, 1 << 30, "bytes"),
            "what a service asks of one broker at a time",
            "16_777_216",
            default=_KAFKA.fetch_bytes,
            shown_default="16_777_216",
        ),
    ),
)
