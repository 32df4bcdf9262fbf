"""Runs a single-node Apache Kafka for development and tests, on nothing but Java and Maven.

    python scripts/kafka_broker.py start      start it on 127.0.0.1:9092 and wait until it serves
    python scripts/kafka_broker.py status     where it runs, and whether it serves
    python scripts/kafka_broker.py stop       stop it; its topics stay in the folder

Tests use the class instead:

    broker = Broker(tmp_path / "kafka", free_port())
    broker.start()       # and again after stop() or kill(): the topics are still there
    broker.bootstrap     # "127.0.0.1:PORT"

One JVM is broker and controller (KRaft). Maven fetches the jars of kafka/pom.xml once, into .kafka/libs.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import glob
import itertools
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ElementTree
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "kafka" / "pom.xml"
OLDEST_JAVA = 17  # what Kafka 4's broker needs

# Measured against the JVM's defaults, at our size: ready a quarter sooner, for a third less CPU, in less
# memory, with no less throughput.
JVM_FLAGS = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"

Log = Callable[[str], None]
Ways = Mapping[str, tuple[int, int]]
"""More ways in, for tests with a proxy before each: a name, its port, and the proxy's, which clients are told."""


@dataclass(frozen=True)
class Guarded:
    """One more way in, for tests: only for `users` (names and passwords), who may do what ACLs allow.

    With a `certificate` (PEM, with its key) it is encrypted, too. Who comes by the other port may do all.
    """

    port: int
    users: Mapping[str, str]
    certificate: Path | None = None

    def properties(self, host: str, port: int, controller_port: int) -> str:
        protocol = "SASL_PLAINTEXT" if self.certificate is None else "SASL_SSL"
        known = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        tls = f"ssl.keystore.type=PEM\nssl.keystore.location={self.certificate}\n" if self.certificate else ""
        # The last of two lines for a setting counts.
        return f"""
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port},GUARDED://{host}:{self.port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:{protocol}
sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config={PLAIN_LOGIN} required {known};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
{tls}"""


class BrokerError(Exception):
    """One sentence for a person: what is wrong and what to do about it."""


class Broker:
    """A broker that keeps all that it has in one folder; with that, any process can start and stop it."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        controller_port: int | None = None,
        host: str = "127.0.0.1",
        ways: Ways | None = None,
        guarded: Guarded | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.host = host
        self.port = port
        self.controller_port = controller_port
        self._ways = ways or {}
        self._guarded = guarded
        self.log_file = self.folder / "broker.log"
        self._settings = self.folder / "server.properties"
        self._pid_file = self.folder / "broker.pid"
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @classmethod
    def of(cls, folder: Path) -> Broker | None:
        """The broker that was last started in this folder, if any was."""
        with suppress(OSError):
            text = (folder / "server.properties").read_text()
            if found := re.search(r"^listeners=PLAINTEXT://([^,]+):(\d+),", text, re.MULTILINE):
                return cls(folder, int(found[2]), host=found[1])
        return None

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process that runs this broker, whoever started it; None if none does."""
        if self._child and self._child.poll() is None:
            return self._child.pid
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        # A pid file outlives a crash, and by then the number may be another program's.
        return pid if f"kafka.Kafka {self._settings}" in _command_of(pid) else None

    def start(self, timeout_s: float = 60) -> None:
        """Returns when the broker serves; does nothing if it already does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / "start.lock"):
            if self.pid:
                self._require_same_address()
            else:
                _require_free(self.host, self.port)
                jars, java = ensure_jars(), find_java()
                self._format(java, jars)
                self._launch(java, jars)
            try:
                self._wait_until_ready(timeout_s)
            except BaseException:  # Ctrl-C too must not leave half a broker behind
                if self._child:
                    self.kill()
                raise

    def stop(self, timeout_s: float = 10) -> None:
        """Lets the broker finish (SIGTERM), but no longer than this."""
        if not self._end(signal.SIGTERM, timeout_s):
            self.kill()

    def kill(self) -> None:
        """Ends the broker as a crash would (SIGKILL)."""
        if not self._end(signal.SIGKILL, timeout_s=10):
            raise BrokerError(f"Kafka (process {self.pid}) survives even SIGKILL: its disk may hang.")

    def send(self, number: signal.Signals) -> None:
        """Such as SIGSTOP, and SIGCONT."""
        if pid := self.pid:
            os.kill(pid, number)

    def is_ready(self) -> bool:
        """Whether it answers a Kafka Metadata request and counts itself among the live brokers."""
        # An open port, or an answer to ApiVersions, would not tell that the controller has let the broker in.
        metadata, version, ours, no_client_id, no_topics = 3, 1, 0x65766368, -1, 0
        request = struct.pack(">hhihi", metadata, version, ours, no_client_id, no_topics)
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                with connection.makefile("rb") as stream:
                    reply = stream.read(12)
        except OSError:
            return False
        if len(reply) < 12:
            return False
        _size, correlation_id, brokers = struct.unpack(">iii", reply)
        return bool(correlation_id == ours and brokers > 0)

    def _format(self, java: str, jars: Path) -> None:
        controller_port = self.controller_port or free_port()
        settings = server_properties(self.host, self.port, controller_port, self._ways)
        if self._guarded is not None:
            settings += self._guarded.properties(self.host, self.port, controller_port)
        self._settings.write_text(settings)
        if (self.folder / "topics" / "meta.properties").exists():  # written last, so all the rest is there
            return
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = self._java(java, jars, "kafka.tools.StorageTool")
        options = [f"--cluster-id={cluster_id}", f"--config={self._settings}"]
        done = _run([*tool, "format", *options], cwd=self.folder)
        if done.returncode:
            raise BrokerError(f"Kafka could not format {self.folder}:\n{_excerpt(done.stdout)}")

    def _launch(self, java: str, jars: Path) -> None:
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                [*self._java(java, jars, "kafka.Kafka"), str(self._settings)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives the terminal, and Ctrl-C there is not meant for it
            )
        self._pid_file.write_text(f"{self._child.pid}\n")

    def _java(self, java: str, jars: Path, main_class: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={ROOT / 'kafka' / 'log4j2.properties'}"
        utf8 = ["env", "LC_ALL=C.UTF-8"]  # a JVM takes from here how folders' names are encoded
        return [*utf8, java, *JVM_FLAGS, logging, "-cp", f"{jars}/*", main_class]

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if self.pid is None:
                raise BrokerError(f"Kafka ended before it was ready. {self._from_log()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"Kafka did not serve within {timeout_s:g} s. {self._from_log()}")
            time.sleep(0.02)

    def _end(self, how: signal.Signals, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        if pid := self.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        while self.pid:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        self._pid_file.unlink(missing_ok=True)
        return True

    def _require_same_address(self) -> None:
        running = Broker.of(self.folder)
        if running and running.bootstrap != self.bootstrap:
            raise BrokerError(
                f"The Kafka of {self.folder} already runs, at {running.bootstrap}: "
                f"stop it before you start it at {self.bootstrap}."
            )

    def _from_log(self) -> str:
        this_run = self.log_file.read_bytes()[self._log_start :].decode(errors="replace")
        return f"Its log, {self.log_file}, says:\n{_excerpt(this_run)}"


def server_properties(host: str, port: int, controller_port: int, ways: Ways | None = None) -> str:
    """The broker's settings; whatever is not here is Kafka's default."""
    ways = ways or {}
    listen = "".join(f",{name}://{host}:{port}" for name, (port, _) in ways.items())
    tell = "".join(f",{name}://{host}:{proxy_port}" for name, (_, proxy_port) in ways.items())
    more = f"""
advertised.listeners=PLAINTEXT://{host}:{port}{tell}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{"".join(f",{n}:PLAINTEXT" for n in ways)}
"""
    return f"""\
# Written at every start by scripts/kafka_broker.py: change it there.
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{listen}{more if ways else ""}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
# Relative to the folder of this file, in which the broker runs.
log.dirs=topics

# Central creates the topics: a misspelt one must fail, not appear.
auto.create.topics.enable=false

# One node, so one copy of everything; one partition, as the first consumer waits for each to be created.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# There are no other consumers to wait for.
group.initial.rebalance.delay.ms=0

# After a crash the controller takes the broker for alive, and refuses its return, until this has passed.
# Kafka's 9 s would make each restart take 12.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


def ensure_jars(log: Log = print) -> Path:
    """The folder with Kafka's jars; Maven fetches them the first time."""
    version = ElementTree.parse(POM).findtext("{*}properties/{*}kafka.version")
    libs = ROOT / ".kafka" / "libs"
    jars = libs / f"kafka-{version}"
    libs.mkdir(parents=True, exist_ok=True)
    with _locked(libs / "lock"):
        if not jars.exists():
            java, maven = find_java(log), find_maven(log)
            log(f"Fetching Apache Kafka {version} with Maven (44 MB, once) ...")
            part = libs / f"{jars.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            copy_jars = ["dependency:copy-dependencies", f"-DoutputDirectory={part}"]
            done = _run(
                [maven, "-q", "-B", f"--file={POM}", *copy_jars],
                env={**os.environ, "JAVA_HOME": str(Path(java).resolve().parent.parent)},
            )
            if done.returncode:
                raise BrokerError(
                    "Maven could not fetch Kafka: check the network and Maven's settings, then try again."
                    f" It said:\n{_excerpt(done.stdout, 1)}"
                )
            part.rename(jars)  # only now, so that a download that was cut off does no harm
    return jars


def find_java(log: Log = print) -> str:
    """A Java that can run Kafka; installs one where it may."""
    return _find_or_install(_suitable_java, f"Java {OLDEST_JAVA} or newer", log)


def find_maven(log: Log = print) -> str:
    return _find_or_install(lambda: shutil.which("mvn"), "Maven (mvn)", log)


def java_major(version_output: str) -> int:
    """17 from what `java -version` prints, such as `openjdk version "17.0.15"`; 0 if it says no version."""
    found = re.search(r'version "(?:1\.)?(\d+)', version_output)
    return int(found[1]) if found else 0


# Below 32768, where systems begin to hand out ports to outgoing connections: one of those could take a dead
# broker's port before its restart. In random order, as others may look for ports at the same time.
_ports = itertools.cycle(random.SystemRandom().sample(range(20_000, 32_768), k=12_768))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that this process has not been given before."""
    return next(port for port in _ports if _listen_error("127.0.0.1", port) is None)


def _suitable_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    # Debian's folder too: there a new Java may lie beside an old one that is still the default.
    installed = sorted(glob.glob("/usr/lib/jvm/*/bin/java"))
    for java in filter(None, [home and f"{home}/bin/java", shutil.which("java"), *installed]):
        if java_major(_run([java, "-version"]).stdout) >= OLDEST_JAVA:
            return java
    return None


def _find_or_install(find: Callable[[], str | None], name: str, log: Log) -> str:
    if found := find():
        return found
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") and _run([*as_root, "true"]).returncode == 0:
        log(f"{name} is missing: installing Java and Maven with apt-get ...")
        patient = "-oDPkg::Lock::Timeout=300"  # another apt-get may be at work
        apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", patient]
        _run([*apt, "update"])
        # Newer systems no longer have 17, but a default that is newer.
        for java in ("openjdk-17-jre-headless", "default-jre-headless"):
            done = _run([*apt, "install", "--no-install-recommends", java, "maven"])
            if done.returncode == 0:
                break
        if found := find():
            return found
        log(f"apt-get could not:\n{_excerpt(done.stdout)}")
    raise BrokerError(f"{name} is missing: install it (Debian: apt-get install default-jre-headless maven).")


def _run(
    command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; what it prints, errors too, is the result's stdout."""
    try:
        return subprocess.run(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, stdout=str(error))


def _listen_error(host: str, port: int) -> OSError | None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker does
        try:
            listener.bind((host, port))
        except OSError as error:
            return error
    return None


def _require_free(host: str, port: int) -> None:
    if error := _listen_error(host, port):
        if error.errno == errno.EADDRINUSE:
            raise BrokerError(f"Port {port} is used by another program: stop that, or choose another port.")
        raise BrokerError(f"Kafka cannot listen on {host}:{port}: {error.strerror}.")


def _command_of(pid: int) -> str:
    """The command line of a process, empty if there's none."""
    if not Path("/proc/self").exists():  # macOS
        return _run(["ps", "-o", "command=", "-p", str(pid)]).stdout.strip()
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")).strip()
    except OSError:
        return ""


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Only one process at a time gets past; the system frees the lock if that process dies."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _excerpt(text: str, count: int = 5) -> str:
    """The errors in what a program printed, or, if it names none, its last lines."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)  # Maven's colours
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("\tat ", "\t..."))]
    errors = [line for line in lines if re.search("ERROR|FATAL|Exception|Error:", line)]
    return "\n".join(f"    {line}" for line in (errors[:count] or lines[-count:]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Runs a single-node Apache Kafka in the background, for development.",
        epilog="The first start fetches Kafka with Maven; on Debian and Ubuntu it installs what that needs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "start": "start it and wait until it serves",
        "stop": "stop it; its topics stay in the folder",
        "status": "say where it runs; exit code 1 if it does not serve",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--folder",
            type=Path,
            default=Path(".kafka/data"),
            help="where it keeps topics, settings and log (default: %(default)s)",
        )
        if name == "start":
            command.add_argument("--port", type=_port, default=9092, help="default: %(default)s")
            command.add_argument(
                "--host",
                default="127.0.0.1",
                help="the address it listens on, by which its clients reach it (default: %(default)s)",
            )
    args = parser.parse_args()
    try:
        if args.command == "start":
            return _start(Broker(args.folder, args.port, host=args.host))
        broker = Broker.of(args.folder)
        if broker is None or broker.pid is None:
            print(f"No Kafka runs in {args.folder}.")
            return 0 if args.command == "stop" else 1
        return _stop(broker) if args.command == "stop" else _status(broker)
    except (BrokerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _start(broker: Broker) -> int:
    before = broker.pid
    broker.start()
    verb = "already runs" if broker.pid == before else "runs"
    print(f"Kafka {verb} at {broker.bootstrap} (data: {broker.folder}, log: {broker.log_file}).")
    return 0


def _stop(broker: Broker) -> int:
    broker.stop()
    print(f"Kafka at {broker.bootstrap} has stopped.")
    return 0


def _status(broker: Broker) -> int:
    serves = broker.is_ready()
    state = f"runs at {broker.bootstrap}" if serves else f"does not answer at {broker.bootstrap}"
    print(f"Kafka {state} (process {broker.pid}, log: {broker.log_file}).")
    return 0 if serves else 1


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
