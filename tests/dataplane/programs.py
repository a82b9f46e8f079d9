"""Real memcacheds and proxies on loopback addresses, from the images that test clusters run.

Every server has an address of its own, so that all of them, like pods, can have one port.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hack.cluster.binaries import Finder
from hack.cluster.images import MEMCACHED, TWEMPROXY, ImageStore, Recipe
from hack.cluster.layout import cache_dir
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from memop.api.memcached_cluster import Proxy
from memop.reconcilers.cluster import builtin, twemproxy
from memop.reconcilers.cluster.topology import CONFIG_DIRECTORY, Topology
from tests.dataplane.client import Client

# Of the pool's servers, and the default of proxies.
PORT = 11211
_START_SECONDS = 5.0


@dataclass(frozen=True)
class Programs:
    """The programs of the images, each run by the dynamic loader and with the libraries of its own image."""

    memcached: tuple[str, ...]
    nutcracker: tuple[str, ...]

    @classmethod
    def unpack(cls, directory: Path) -> Programs:
        return cls(
            memcached=_program(MEMCACHED, directory / "memcached", "usr/bin/memcached"),
            nutcracker=_program(TWEMPROXY, directory / "twemproxy", "usr/sbin/nutcracker"),
        )


def _program(recipe: Recipe, root: Path, path: str) -> tuple[str, ...]:
    store = ImageStore(cache_dir(), Finder(cache_dir(), Progress()), Progress())
    with exclusive(store.cache / "locks" / "images.lock", lambda: None):
        store._make(recipe, {})
    with tarfile.open(store.archive(recipe, {})) as archive:
        layer = next(member for member in archive if member.name.endswith(".tar"))
        with tarfile.open(fileobj=archive.extractfile(layer)) as files:
            wanted = [member for member in files if ".so" in member.name or member.name == path]
            files.extractall(root, wanted, filter="tar")
    loader = next(itertools.chain(root.glob("usr/lib64/ld-linux-*"), root.glob("usr/lib/ld-linux-*")))
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    return (str(loader), "--library-path", str(libraries), str(root / path))


@dataclass
class Server:
    """A process that listens on PORT of an address."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self) -> Client:
        return Client(self.address, PORT)

    def ask(self, request: str) -> str:
        """The reply, over a connection of its own."""
        with self.client() as client:
            return client.ask(request)

    def kill(self) -> None:
        """As a pod that ends: connections are reset, and new ones refused."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """As a node that is lost: nothing answers any more, and nobody says so."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Running:
    """What a test has started; ends all of it."""

    programs: Programs
    directory: Path
    servers: list[Server] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.thaw()
            server.kill()

    def address(self) -> str:
        """One that nothing else has: the process makes the upper half, for tests that run at the same time."""
        number = os.getpid()
        return f"127.{number // 250 % 250 + 1}.{number % 250}.{next(self._numbers)}"

    def memcached(self, address: str | None = None) -> Server:
        address = address or self.address()
        user = ["-u", "root"] if os.getuid() == 0 else []
        return self._start([*self.programs.memcached, *user, "-l", address, "-p", str(PORT), "-t", "1"], address)

    def pool(self, shards: int, copies: int = 1) -> Pool:
        return Pool([[self.memcached() for _ in range(shards)] for _ in range(copies)])

    def builtin(self, pool: Topology, proxy: Proxy | None = None) -> BuiltinProxy:
        """The command is the container's own, with an address to listen on."""
        proxy = proxy or Proxy()
        config = ConfigMap(self.directory / f"config-{next(self._numbers)}")
        config.publish(builtin.files(pool, proxy))
        command = [part.replace(CONFIG_DIRECTORY, str(config.path)) for part in builtin.container(proxy, "")["command"]]
        address = self.address()
        user = ["-u", "root"] if os.getuid() == 0 else []
        server = self._start([*self.programs.memcached, *user, "-l", address, *command[1:]], address)
        return BuiltinProxy(**vars(server), config=config)

    def twemproxy(self, pool: Topology, proxy: Proxy, *, prefix: Sequence[str] = ()) -> Server:
        """The command is the container's own, the configuration too but for the address to listen on."""
        address = self.address()
        directory = self.directory / f"config-{next(self._numbers)}"
        directory.mkdir()
        for name, text in twemproxy.files(pool, proxy).items():
            (directory / name).write_text(text.replace("0.0.0.0", address))  # noqa: S104 - listens nowhere
        parts = twemproxy.container(proxy, "")["command"][1:]
        command = [part.replace(CONFIG_DIRECTORY, str(directory)) for part in parts]
        return self._start([*prefix, *self.programs.nutcracker, *command, "-a", address], address)

    def _start(self, command: Sequence[str], address: str) -> Server:
        log = self.directory / f"{address}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        server = Server(address, process, log)
        self.servers.append(server)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection((address, PORT), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return server
        raise AssertionError(f"{command} does not listen: {log.read_text()}")


@dataclass
class Pool:
    """`copies[j][i]` is the memcached of shard i of copy j."""

    copies: list[list[Server]]

    @property
    def topology(self) -> Topology:
        return Topology(copies=tuple(tuple(server.address for server in copy) for copy in self.copies), port=PORT)

    def seat(self, copy: int, key: str) -> int | None:
        """The shard of that copy that has the key."""
        found = [shard for shard, server in enumerate(self.copies[copy]) if server.ask(f"mg {key}\r\n") == "HD\r\n"]
        assert len(found) <= 1, f"{key} is on shards {found} of copy {copy}"
        return found[0] if found else None


@dataclass
class ConfigMap:
    """A directory that changes as kubelet changes a volume: all files at once, by one symbolic link."""

    path: Path
    _version: itertools.count[int] = field(default_factory=itertools.count)

    def publish(self, files: Mapping[str, str]) -> None:
        self.path.mkdir(exist_ok=True)
        old = self.path / "..data"
        before = old.resolve() if old.is_symlink() else None
        new = self.path / f"..{next(self._version)}"
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text)
        (self.path / "..new").symlink_to(new.name)
        (self.path / "..new").rename(old)
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        for link in self.path.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        if before is not None:
            for file in before.iterdir():
                file.unlink()
            before.rmdir()


@dataclass
class BuiltinProxy(Server):
    """memcached's own proxy with its ConfigMap."""

    config: ConfigMap

    def version(self) -> str:
        """The configuration that it says it has; see `builtin.version`."""
        with self.client() as client:
            names = [name for name in client.stats("proxy") if name.startswith("user_config_")]
        assert len(names) == 1
        return names[0].removeprefix("user_config_")

    def take_in(self, files: Mapping[str, str]) -> None:
        """Publish the files and wait until the proxy has them: seconds, for it looks once in each."""
        self.config.publish(files)
        deadline = time.monotonic() + _START_SECONDS
        while self.version() != builtin.version(dict(files)):
            assert time.monotonic() < deadline, "the new configuration is not taken in"
            time.sleep(0.05)
