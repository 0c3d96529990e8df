"""Clocks, host and disk: each fault is found, and said with what to change."""

from __future__ import annotations

import os
from email.utils import formatdate
from pathlib import Path

import pytest

from proxy.control.doctor import clocks, disk, host
from proxy.control.doctor.finding import Finding, size_text
from tests.control.helpers import make_settings

NOW = 1_700_000_000.0


def state(finding: Finding) -> str:
    assert bool(finding.advice) == (finding.state != "ok"), "whoever is told of a fault is told what to change"
    return finding.state


@pytest.mark.parametrize(
    ("known", "expected"),
    [(None, "warn"), ((False, 0.01), "warn"), ((True, 0.01), "ok"), ((True, 1.0), "warn"), ((True, 9.0), "fail")],
)
def test_a_clock_that_nothing_sets(known: tuple[bool, float] | None, expected: str) -> None:
    assert state(clocks.ntp(known)) == expected


def test_the_kernel_can_be_asked() -> None:
    known = clocks.kernel_time()
    assert known is None or known[1] >= 0


@pytest.mark.parametrize(("wall", "expected"), [(100.2, "ok"), (95.0, "warn"), (3700.0, "fail")])
def test_a_clock_that_was_stepped(wall: float, expected: str) -> None:
    assert state(clocks.stepped(wall, 100.0)) == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [(NOW, "ok"), (NOW + 10, "warn"), (NOW - 10, "warn"), (NOW + 3600, "fail"), (None, "warn")],
)
def test_a_backend_whose_clock_is_away(date: float | None, expected: str) -> None:
    text = "" if date is None else formatdate(date, usegmt=True)
    (finding,) = clocks.beside_backends({"new": (text, NOW)})
    assert state(finding) == expected
    assert "new" in finding.name


@pytest.mark.parametrize(
    ("limit", "expected"), [((20_000, 20_000), "ok"), ((1024, 4096), "warn"), ((256, 256), "fail")]
)
def test_too_few_open_files(tmp_path: Path, limit: tuple[int, int], expected: str) -> None:
    assert state(host.open_files(make_settings(tmp_path), limit)) == expected


def test_a_process_whose_files_are_nearly_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [state(each) for each in host.in_use({"worker-0": os.getpid(), "gone": 2**30})] == ["ok"]
    monkeypatch.setattr("resource.prlimit", lambda *_: (1, 1))
    assert [state(each) for each in host.in_use({"worker-0": os.getpid()})] == ["fail"]


def fake_kernel(
    root: Path, somaxconn: int = 4096, ports: str = "32768\t60999", memory: int = 64 * 2**20
) -> host.Kernel:
    """A kernel that says this of itself. memory: KiB."""
    for name, text in (
        ("sys/net/core/somaxconn", str(somaxconn)),
        ("sys/net/ipv4/ip_local_port_range", ports),
        ("meminfo", f"MemTotal:       {memory} kB\nMemFree: 1 kB\n"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return host.kernel(root, root / "nothing")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, {}),
        ({"somaxconn": 128}, {"somaxconn": "warn"}),
        ({"ports": "32768\t33000"}, {"local ports": "warn"}),
        ({"memory": 900 * 1024}, {"memory": "warn"}),
        ({"memory": 400 * 1024}, {"memory": "fail"}),
    ],
)
def test_a_kernel_that_allows_too_little(tmp_path: Path, changes: dict[str, int], wrong: dict[str, str]) -> None:
    found = host.limits(make_settings(tmp_path), fake_kernel(tmp_path, **changes))  # type: ignore[arg-type]
    assert {each.name: state(each) for each in found if each.state != "ok"} == wrong
    assert len(found) == 3


def test_a_container_with_less_memory_than_its_host(tmp_path: Path) -> None:
    fake_kernel(tmp_path)
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    (tmp_path / "fs/cgroup/memory.max").write_text("104857600\n")
    assert host.kernel(tmp_path, tmp_path).memory == 104_857_600
    (tmp_path / "fs/cgroup/memory.max").write_text("max\n")
    assert host.kernel(tmp_path, tmp_path).memory == 64 * 2**30


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:25 / /run rw - tmpfs tmpfs rw
31 22 0:26 / /srv/with\\040blank rw,relatime shared:1 - nfs4 server:/x rw
40 22 0:9 / /var/lib rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "expected"),
    [
        ("/var/lib/crossfade", "xfs", "ok"),
        ("/var/library", "ext4", "ok"),
        ("/run/crossfade", "tmpfs", "warn"),
        ("/srv/with blank/state", "nfs4", "warn"),
    ],
)
def test_a_file_system_that_keeps_nothing(folder: str, kind: str, expected: str) -> None:
    assert disk.file_system(Path(folder), MOUNTS) == kind
    assert state(disk.kind(Path(folder), MOUNTS)) == expected


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    assert state(disk.room(make_settings(tmp_path), tmp_path)) == "ok"
    full = make_settings(tmp_path, ledger={"min_free": "1000000GiB"})
    assert state(disk.room(full, tmp_path)) == "fail"
    near = os.statvfs(tmp_path)
    free = near.f_bavail * near.f_frsize
    assert state(disk.room(make_settings(tmp_path, ledger={"reserve": f"{free // 2**21}MiB"}), tmp_path)) == "warn"
    assert state(disk.room(full, tmp_path / "nothing")) == "fail"


def test_a_disk_that_is_slow_or_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state(disk.fsync(tmp_path)) in ("ok", "warn")
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    assert state(disk.fsync(tmp_path / "nothing")) == "fail"
    ticks = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: next(ticks) * 0.3)
    assert state(disk.fsync(tmp_path)) == "fail"


def test_sizes_as_people_read_them() -> None:
    assert [size_text(size) for size in (12, 2048, 3 * 2**20, 5 * 2**40)] == [
        "12 B",
        "2.0 KiB",
        "3.0 MiB",
        "5120.0 GiB",
    ]
