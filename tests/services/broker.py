"""Apache Kafka for tests and desks: one node or three, as processes of ours, from jars in a cache, on free ports.

From a script:

    from tests.services.broker import running
    with running(folder) as servers:            # "127.0.0.1:41234", ready to be used; gone afterwards
        ...
    with cluster(folder, nodes=3) as brokers:   # brokers.servers, .leader(topic, partition), .kill(2), .restart(2)
        ...

From a shell: `make broker`, or `python tests/services/broker.py FOLDER`, which runs until Ctrl-C and keeps FOLDER.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

HERE = Path(__file__).resolve().parent
VERSION = "4.3.1"
READY_S = 120.0
"""4 s alone for one node, 8 s for three; a machine with 20 other things to do took 30."""
DESK_PORT = 9092
CLUSTER_ID = "ZWdyZXNzLXRlc3QtYnVzLg"  # 16 bytes in base64, as the storage tool wants it
SMALL = ("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Starts in half the time, and three of them leave room for the tests on two cores."""

SETTINGS = """\
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=3
transaction.state.log.num.partitions=3
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=2097152
background.threads=2
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
controller.quorum.fetch.timeout.ms=1000
log.initial.task.delay.ms=100
"""

SECURE = """\
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TLS:SSL,MTLS:SSL,SASL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.both
ssl.truststore.type=PEM
ssl.truststore.location={folder}/authority.pem
listener.name.mtls.ssl.client.auth=required
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


class NotHere(Exception):
    """What this machine lacks, and how to get it."""


def jars() -> Path:
    """The folder of the broker's jars. Raises NotHere."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "egress" / f"kafka-{VERSION}"
    if shutil.which("java") is None:
        raise NotHere("java is not here: apt-get install openjdk-17-jre-headless, or name a broker in EGRESS_KAFKA")
    if not (cache / f"kafka_2.13-{VERSION}.jar").is_file():
        raise NotHere(f"Apache Kafka's jars are not in {cache}: run {HERE / 'fetch'} (needs Maven)")
    return cache


@dataclass(slots=True)
class Node:
    id: int
    port: int
    controller_port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(slots=True)
class Brokers:
    """The nodes of one cluster, numbered from 1."""

    nodes: dict[int, Node]
    extra: Sequence[str] = ()
    """More lines of server.properties, such as further listeners."""
    users: Sequence[str] = ()
    """SCRAM users as the storage tool takes them."""
    listeners: dict[str, int] = field(default_factory=dict)
    """Further listeners of node 1: name to port."""

    @property
    def servers(self) -> str:
        return ",".join(node.server for node in self.nodes.values())

    def start(self) -> None:
        for node in self.nodes.values():
            node.folder.mkdir(parents=True, exist_ok=True)
            (node.folder / "server.properties").write_text(self._properties(node))
        formatting = [self._format(node) for node in self.nodes.values()]
        for node, process in zip(self.nodes.values(), formatting, strict=True):
            if process.wait(READY_S) != 0:
                raise RuntimeError(_last_words(node))
        for node in self.nodes.values():
            self.restart(node.id, wait=False)
        self.wait_ready()

    def restart(self, node: int, wait: bool = True) -> None:
        """Starts a node that was killed or stopped for good."""
        it = self.nodes[node]
        it.process = _java(it, "kafka.Kafka", str(it.folder / "server.properties"))
        if wait:
            self.wait_ready()

    def kill(self, node: int) -> None:
        """kill -9, and waits until it is gone."""
        self._signal(node, signal.SIGKILL)
        process = self.nodes[node].process
        assert process is not None
        process.wait()

    def stop(self, node: int) -> None:
        """Freezes the node: it holds its connections and says nothing, as a machine does that swaps."""
        self._signal(node, signal.SIGSTOP)

    def go_on(self, node: int) -> None:
        self._signal(node, signal.SIGCONT)

    def is_running(self, node: int) -> bool:
        process = self.nodes[node].process
        return process is not None and process.poll() is None

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition, as the cluster says now."""
        return int(self._partition(topic, partition)["leader_id"])

    def in_sync(self, topic: str, partition: int = 0) -> list[int]:
        """The nodes that hold all of a partition."""
        return list(self._partition(topic, partition)["isr_nodes"])

    def _partition(self, topic: str, partition: int) -> dict[str, Any]:
        with closing(_admin(self.servers)) as admin:
            (found,) = admin.describe_topics([topic])
        return next(one for one in found["partitions"] if one["partition_index"] == partition)

    def close(self, gently: bool = False) -> None:
        """Ends every node; `gently` lets it write what a clean restart wants."""
        running = [node.id for node in self.nodes.values() if self.is_running(node.id)]
        for node in running:
            self._signal(node, signal.SIGCONT)
            self._signal(node, signal.SIGTERM if gently else signal.SIGKILL)
        for node in running:
            process = self.nodes[node].process
            assert process is not None
            try:
                process.wait(READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_ready(self) -> None:
        """Until every running node is known to the cluster. Raises RuntimeError with a node's last words."""
        until = time.monotonic() + READY_S
        while True:
            running = [node for node in self.nodes.values() if self.is_running(node.id)]
            dead = [node for node in self.nodes.values() if node.process and node.process.poll() not in (None, -9)]
            if dead:
                raise RuntimeError(_last_words(dead[0]))
            if all(_answers(node.port) for node in running) and self._known() >= {node.id for node in running}:
                return
            if time.monotonic() > until:
                raise RuntimeError(f"not ready after {READY_S:.0f} s: {_last_words(running[0])}")
            time.sleep(0.1)

    def _known(self) -> set[int]:
        from kafka.errors import KafkaError

        try:
            with closing(_admin(self.servers)) as admin:
                found = admin.describe_cluster()["brokers"]
                return {int(broker["broker_id"]) for broker in found if not broker.get("is_fenced")}
        except KafkaError:
            return set()

    def _signal(self, node: int, what: signal.Signals) -> None:
        process = self.nodes[node].process
        assert process is not None
        process.send_signal(what)

    def _format(self, node: Node) -> subprocess.Popen[bytes]:
        users = [word for user in self.users for word in ("--add-scram", user)]
        arguments = ["format", "--ignore-formatted", "-t", CLUSTER_ID, "-c", str(node.folder / "server.properties")]
        return _java(node, "kafka.tools.StorageTool", *arguments, *users)

    def _properties(self, node: Node) -> str:
        voters = ",".join(f"{one.id}@127.0.0.1:{one.controller_port}" for one in self.nodes.values())
        more = self.listeners.items() if node.id == 1 else ()
        names = [f"PLAINTEXT://{node.server}", *(f"{name}://127.0.0.1:{port}" for name, port in more)]
        copies = min(3, len(self.nodes))
        return SETTINGS + "\n".join(
            [
                f"node.id={node.id}",
                f"controller.quorum.voters={voters}",
                f"listeners={','.join(names)},CONTROLLER://127.0.0.1:{node.controller_port}",
                f"advertised.listeners={','.join(names)}",
                f"log.dirs={node.folder / 'data'}",
                f"default.replication.factor={copies}",
                f"min.insync.replicas={max(1, copies - 1)}",
                f"offsets.topic.replication.factor={copies}",
                f"transaction.state.log.replication.factor={copies}",
                f"transaction.state.log.min.isr={max(1, copies - 1)}",
                f"share.coordinator.state.topic.replication.factor={copies}",
                f"share.coordinator.state.topic.min.isr={max(1, copies - 1)}",
                *(self.extra or ["listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"]),
                "",
            ]
        )


@contextmanager
def cluster(folder: Path, nodes: int = 1, port: int = 0) -> Iterator[Brokers]:
    """So many nodes, ready; killed at the end. `folder` keeps their data and logs. Raises NotHere."""
    jars()
    brokers = Brokers(_nodes(folder, nodes, port))
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.close()


@contextmanager
def secured(folder: Path, user: str, password: str) -> Iterator[tuple[Brokers, Path]]:
    """One node with three more listeners, `TLS`, `MTLS` and `SASL` (TLS and SCRAM-SHA-512), and its authority's file.

    `folder` gets `client.pem` and `client.key`, which `MTLS` wants to see.
    """
    from tests.services.certificates import Authority

    jars()
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder, "authority")
    authority.sign("broker")
    authority.sign("client")
    brokers = Brokers(
        _nodes(folder, 1, 0),
        SECURE.format(folder=folder).splitlines(),
        [f"SCRAM-SHA-512=[name={user},password={password}]"],
        dict(zip(("TLS", "MTLS", "SASL"), free_ports(3), strict=True)),
    )
    try:
        brokers.start()
        yield brokers, authority.path
    finally:
        brokers.close()


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The servers of `EGRESS_KAFKA`, or of a broker of our own for as long as this lasts. Raises NotHere."""
    given = os.environ.get("EGRESS_KAFKA")
    if given:
        yield given
        return
    with cluster(folder) as brokers:
        yield brokers.servers


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _nodes(folder: Path, count: int, port: int) -> dict[int, Node]:
    ports = free_ports(2 * count)
    ports[0] = port or ports[0]
    return {n + 1: Node(n + 1, ports[2 * n], ports[2 * n + 1], folder / f"node-{n + 1}") for n in range(count)}


def _java(node: Node, main: str, *arguments: str) -> subprocess.Popen[bytes]:
    # The broker ends with whoever started it, however that ended.
    bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    command = [*bound, "java", *SMALL, "-cp", f"{jars()}/*", f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"]
    with (node.folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*command, main, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", port)) == 0


def make_topic(servers: str, name: str, partitions: int = 1) -> None:
    """A topic as others have them, with the broker's own settings; left alone if it is there."""
    admin = _admin(servers)
    if name not in admin.list_topics():
        admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()


def _admin(servers: str) -> KafkaAdminClient:
    from kafka import KafkaAdminClient

    return KafkaAdminClient(bootstrap_servers=servers.split(","), bootstrap_timeout_ms=2000, request_timeout_ms=5000)


def _last_words(node: Node) -> str:
    log = node.folder / "log"
    return f"{log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def main() -> int:
    """A broker for a desk: prints its servers, and ends cleanly on Ctrl-C."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "egress-out/broker").resolve()
    try:
        jars()
    except NotHere as problem:
        print(problem, file=sys.stderr)
        return 4
    brokers = Brokers(_nodes(folder, 1, 0 if _answers(DESK_PORT) else DESK_PORT))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        brokers.start()
        print(f"Kafka {VERSION} at {brokers.servers}, data in {folder}; in another terminal:")
        print(f"  export EGRESS_KAFKA={brokers.servers}")
        print("Ctrl-C ends it; the data stays.", flush=True)
        while brokers.is_running(1):
            time.sleep(0.5)
        print(_last_words(brokers.nodes[1]), file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 0
    finally:
        brokers.close(gently=True)


if __name__ == "__main__":
    raise SystemExit(main())
