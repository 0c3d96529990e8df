"""What a good file becomes: defaults, paths, salt files; and what cannot be read at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.errors import ConfigError, ConfigErrors, Place, Problem
from config.loader import load
from config.model import Settings
from tests.config.cases import BASE, errors, marked, route, settings, top

WITH_SALT_FILE = BASE.replace("salt: a-salt-of-the-tests", "salt_file: §the.salt")


def test_defaults() -> None:
    loaded = settings(BASE)
    (events,) = loaded.routes
    assert (loaded.workers, [str(each) for each in loaded.listen], loaded.default) == (2, ["127.0.0.1:8080"], None)
    assert (events.old, events.new, events.stage, events.weight, events.durability) == (
        "old",
        "new",
        "off",
        None,
        "before-ack",
    )
    assert (loaded.limits.max_event_size, loaded.ledger.retain, loaded.stop_grace) == (2**20, 86400.0, 20.0)


def test_values_in_seconds_and_bytes() -> None:
    loaded = settings(top("stop_grace: 1m\nlimits: {max_event_size: 2MiB}") + "ledger: {commit_interval: 10ms}\n")
    assert (loaded.stop_grace, loaded.limits.max_event_size, loaded.ledger.commit_interval) == (60.0, 2**21, 0.01)


def test_percentages() -> None:
    loaded = settings(route("stage: live\n    weight: 12.25\n    trigger: {error_rate: 2%}")).routes[0]
    assert (loaded.weight, loaded.trigger.error_rate) == (12.25, 0.02)


def test_settings_are_frozen() -> None:
    loaded = settings(BASE)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.workers = 3  # type: ignore[misc]


def test_salt_is_not_shown() -> None:
    assert "a-salt-of-the-tests" not in repr(settings(BASE))


def test_hosts_are_kept_in_small_letters() -> None:
    assert settings(BASE.replace("/events}", "/events, host: Shop.Example}")).routes[0].match.host == "shop.example"


def test_paths_start_from_the_file(tmp_path: Path) -> None:
    text = top("state_dir: ../state\nadmin: {socket: a/b.sock, tls_cert: /abs/c.pem, tls_key: ./k.pem}")
    loaded = settings(text, path=tmp_path / "etc" / "crossfade.yaml")
    assert loaded.state_dir == str(tmp_path / "state")
    assert loaded.admin.socket == str(tmp_path / "etc/a/b.sock")
    assert (loaded.admin.tls_cert, loaded.admin.tls_key) == ("/abs/c.pem", str(tmp_path / "etc/k.pem"))


def test_paths_of_certificates_start_from_the_file(tmp_path: Path) -> None:
    entry = (
        "{address: 'h:1', tls: {cert: a.crt, key: /abs/a.key, client_ca: ca.pem, sni: [{cert: b/b.crt, key: b.key}]}}"
    )
    loaded = settings(top(f"listen: ['h:2', {entry}]"), path=tmp_path / "crossfade.yaml")
    plain, secure = loaded.listen
    assert (plain.tls, secure.address) == (None, "h:1")
    assert secure.tls is not None
    assert (secure.tls.cert, secure.tls.key) == (str(tmp_path / "a.crt"), "/abs/a.key")
    assert (secure.tls.client_ca, secure.tls.sni[0].cert) == (str(tmp_path / "ca.pem"), str(tmp_path / "b/b.crt"))


def test_default_state_directory_is_beside_the_file(tmp_path: Path) -> None:
    assert settings(BASE, path=tmp_path / "x.yaml").state_dir == str(tmp_path / "crossfade-state")


def test_relative_path_of_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings(BASE, path="x.yaml").state_dir == str(tmp_path / "crossfade-state")


def test_link_to_the_file_counts_as_its_place(tmp_path: Path) -> None:
    # A mounted ConfigMap is a link into a directory that changes with every update.
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "x.yaml").write_text(BASE)
    (tmp_path / "x.yaml").symlink_to(tmp_path / "v1" / "x.yaml")
    assert load(tmp_path / "x.yaml").state_dir == str(tmp_path / "crossfade-state")


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "crossfade.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load(str(path)) == load(path, text=BASE) == load(path, text=BASE.encode())


def test_environment_is_the_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_TEST_SALT", "from-the-environment")
    assert (
        load(tmp_path / "x", text=BASE.replace("a-salt-of-the-tests", "${CROSSFADE_TEST_SALT}")).salt
        == "from-the-environment"
    )


@pytest.mark.parametrize("content", [b"a salt of a file", b"a salt of a file\n", b"a salt of a file\r\n"])
def test_salt_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "the.salt").write_bytes(content)
    loaded = settings(marked(WITH_SALT_FILE)[0], path=tmp_path / "x.yaml")
    assert loaded.salt == "a salt of a file"
    assert loaded.salt_file == str(tmp_path / "the.salt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the salt file: No such file"),
        (b"short\n", "must hold 8 to 4096 characters"),
        (b"", "must hold 8 to 4096 characters"),
        (b"x" * 4097, "must hold 8 to 4096 characters"),
        (b"\xff" * 20, "is not UTF-8 text"),
    ],
)
def test_bad_salt_file(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "the.salt").write_bytes(content)
    text, places = marked(WITH_SALT_FILE)
    (error,) = errors(text, path=tmp_path / "x.yaml")
    assert said in error.message
    assert [(error.line, error.column)] == places


def test_directory_as_salt_file(tmp_path: Path) -> None:
    (tmp_path / "the.salt").mkdir()
    (error,) = errors(marked(WITH_SALT_FILE)[0], path=tmp_path / "x.yaml")
    assert error.message == "cannot read the salt file: Is a directory"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("§salt_file: the.salt", "both salt and salt_file are given: keep one"),
        ("salt_file: §''", "must not be empty"),
        ("salt_file: §5", "expected a string, not the number 5: put it in quotes"),
        ("salt_file: §${NONE}", "the environment variable NONE is not set"),
    ],
)
def test_salt_file_as_it_should_not_be(line: str, said: str) -> None:
    base = BASE if "both" in said else BASE.replace("salt: a-salt-of-the-tests\n", "")
    text, places = marked(f"{base}{line}\n")
    (error,) = errors(text)
    assert said in error.message
    assert [(error.line, error.column)] == places


def test_salt_beside_an_empty_salt_file_key() -> None:
    assert settings(top("salt_file:")).salt == "a-salt-of-the-tests"


def test_a_bad_salt_file_hides_nothing_else(tmp_path: Path) -> None:
    text, places = marked(WITH_SALT_FILE + "§defualt: old\n")
    assert [(error.line, error.column) for error in errors(text, path=tmp_path / "x")] == places


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot read it: No such file or directory"
    assert [(error.line, error.column) for error in caught.value] == [(0, 0)]


def test_directory_as_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot read it: Is a directory"):
        load(tmp_path)


def test_file_that_never_ends() -> None:
    with pytest.raises(ConfigErrors, match="larger than 1 MiB"):
        load("/dev/zero")


def test_errors_are_sorted_and_said_once() -> None:
    late, early = Problem(Place(3, 1), "late"), Problem(Place(1, 2), "early", "earlier")
    caught = ConfigErrors.at("f.yaml", [late, early, late])
    assert caught.errors == (ConfigError("f.yaml", 1, 2, "early", "earlier"), ConfigError("f.yaml", 3, 1, "late"))
    assert len(caught) == 2
    assert str(caught) == "f.yaml:1:2: early (did you mean 'earlier'?)\nf.yaml:3:1: late"


@pytest.mark.parametrize(
    "text",
    [
        top("listen: ['127.0.0.1:0', '127.0.0.1:0']"),
        top("listen: ['127.0.0.1:80', '127.0.0.2:80']"),
        top("admin: {tcp: off, hosts: [a.example]}"),
        top("admin: {tcp: '0.0.0.0:9900', tls_cert: a, tls_key: b}"),
        top("admin: {tcp: '[::1]:9900'}"),
        top("default: new"),
        top("limits: {max_event_size: 64MiB, memory: 1GiB}"),
        top("  - {name: reads, match: {path: /events, methods: [GET]}}"),
        top("  - {name: below, match: {path: /events/*}}"),
        route("key: path:id\n    identities: [path:id]", "'/a/{id}'"),
        route("stage: live\n    weight: 100"),
        route("stage: split\n    weight: 0.01"),
        route("stage: complete\n    weight: 100"),
        route("stage: dualwrite\n    weight: 0"),
        route("ack: accepted"),
        route("durability: off\n    ack: both"),
    ],
)
def test_what_is_allowed(text: str) -> None:
    assert isinstance(settings(text), Settings)


@given(st.data())
def test_a_slip_in_one_line_never_crashes(data: st.DataObject) -> None:
    lines = route("stage: live\n    weight: 5\n    key: json:/a").split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(st.text(alphabet="abc: -[]{}&*'\"#|>$5~%", max_size=12))
    try:
        settings("\n".join(lines))
    except ConfigErrors as caught:
        assert len(caught) > 0  # noqa: PT017 - whether there is an error is drawn
        assert all(error.message and error.line <= len(lines) for error in caught)  # noqa: PT017


def test_only_the_given_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSFADE_TEST_SALT", "from-the-environment")
    assert (
        settings(BASE.replace("a-salt-of-the-tests", "${CROSSFADE_TEST_SALT:-not from there}")).salt == "not from there"
    )


def test_authorization_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer of-the-file\n")
    file = tmp_path / "crossfade.yaml"
    file.write_text(BASE.replace("old: {", "old: {authorization_file: token, ", 1))
    backend = load(file).backends["old"]
    assert backend.authorization == "Bearer of-the-file"
    assert backend.authorization_file == str(tmp_path / "token")
    assert "of-the-file" not in repr(backend)


def test_the_credential_of_a_soaks_prometheus_lies_beside_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "crossfade.yaml"
    resources = "{url: 'http://h:1', authorization_file: token, queries: {new-cpu: up}}"
    file.write_text(f"{BASE}gates: [{{name: hour, soak: {{resources: {resources}}}}}]\n")
    (gate,) = load(file).gates
    assert gate.soak is not None
    assert gate.soak.resources is not None
    assert gate.soak.resources.authorization_file == str(tmp_path / "token")
