"""validate: what has to hold, each criterion by itself, and what is not known counts as no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.cli import validate
from proxy.cli.criteria import AREAS
from proxy.cli.failure import USAGE, Failure
from proxy.core.routing import Dials
from tests.cli.conftest import Ctl
from tests.cli.fake_admin import FakeAdmin, side

Json = dict[str, Any]
PASSED: Json = {
    "classes": {"equal": 1204},
    "result": "pass",
    "mismatches": 0,
    "settled": 1204,
    "record": "three-way",
    "inconclusive": [],
    "findings": [],
    "findings_untold": 0,
}
PROBED = {
    "result": "pass",
    "steps": [
        {"name": "sent", "seconds": 0.01, "error": None, "skipped": False},
        {"name": "old shows it", "seconds": 0.2, "error": None, "skipped": False},
        {"name": "new shows it", "seconds": None, "error": None, "skipped": True},
    ],
}
CHECK: Json = {
    "routes": ["events"],
    "alive": True,
    "trouble": None,
    "since_change": {"mismatches": 0, "settled": 1204, "lost": 0, "rate": 0.0},
}


class Scene:
    """An instance with which all is well, until a test changes something."""

    def __init__(self, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
        self.admin = admin
        self.asked: list[Json] = []
        self.said: dict[str, Any] = {"verify": dict(PASSED), "probe": dict(PROBED), "diff": dict(PASSED)}
        self.route: Json = {"baseline": None, "old_incomplete_since": None}
        self.verdict: Json = {"name": "pass", "reasons": [], "samples": 5000, "failed": 2}
        admin.dials["events"] = Dials(100.0, "durable")
        admin.status |= {
            "not_ready": [],
            "consistency": [dict(CHECK)],
            "scraped_s": 12.0,
            "availability": {"observed_s": 3600.0, "down_s": 1.0, "ratio": 1 - 1 / 3600},
        }
        admin.forced = self.answer
        monkeypatch.setattr(validate, "ask_checker", self.ask)

    def answer(self, method: str, path: str) -> tuple[int, Json] | None:
        if path == "/api/v1/routes":
            return 200, {"routes": [{"name": name, "trigger": {"slower_by": 0.01}} for name in self.admin.dials]}
        if path == "/api/v1/status":
            found = self.admin._status()
            found["routes"] = [each | self.route | {"verdict": self.verdict} for each in found["routes"]]
            return 200, found
        return None

    def ask(self, request: Json) -> Json:
        self.asked.append(request)
        said = self.said[request["do"]]
        if isinstance(said, Failure):
            raise said
        return dict(said)


@pytest.fixture
def scene(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(admin, monkeypatch)


def test_all_that_holds_is_listed_with_what_was_seen(ctl: Ctl, scene: Scene) -> None:
    done = ctl("validate", "--since", "2026-01-31T12:00:00Z")
    lines = done.out.splitlines()
    assert (done.code, lines[0]) == (0, "pass: 22 of 22 criteria hold for route events")
    areas = {"performance": 5, "integrity": 9, "health": 4, "end-to-end": 1, "monitoring": 3}
    first = [line for line in lines[2:] if not line.startswith(" ")]
    assert [line.split()[:2] for line in first] == [["ok", area] for area in areas for _ in range(areas[area])]
    assert any("0.04 % (2 of 5,000 since the weight was changed)" in line for line in lines)
    assert any("pass: 0 mismatches of 1,204 events" in line for line in lines)
    assert any("sent 0.01 s, old shows it 0.20 s" in line for line in lines)
    assert [request["do"] for request in scene.asked] == ["verify", "probe"]
    assert scene.asked[0] | {"from_ns": 1_769_860_800 * 10**9, "full": True, "route": "events"} == scene.asked[0]


def test_lines_are_wrapped_and_json_is_whole(ctl: Ctl, scene: Scene) -> None:
    why = "; ".join(f"store {number} does not answer" for number in range(20))
    scene.said["verify"] = Failure(USAGE, why)
    lines = ctl("validate").out.splitlines()
    assert max(map(len, lines)) <= 100
    first = next(number for number, line in enumerate(lines) if "what both stores hold" in line)
    assert lines[first].startswith("NOT KNOWN  integrity    what both stores hold: store 0 does not answer;")
    rest = lines[first + 1 :]
    below = " ".join(line.strip() for line in rest[: next(n for n, line in enumerate(rest) if line[0] != " ")])
    assert below.endswith("store 19 does not answer (wanted: verify passes)")
    told = {each["name"]: each["seen"] for each in ctl("validate", "-o", "json").json["criteria"]}
    assert told["what both stores hold"] == why


def new(**values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.admin.sides.update(new=scene.admin.sides["new"] | values)


def owed(which: str, **values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.admin.sides[which]["ledger"].update(values)


def status(**values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.admin.status.update(values)


def ledger(**values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.admin.ledger.update(values)


def route(**values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.route.update(values)


def verdict(**values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.verdict.update(values)


def says(what: str, said: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.said.update({what: said})


def check(**values: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.admin.status.update(consistency=[CHECK | values])


BASELINE = {"p95": 0.001}
LATCHED = Dials(0.0, "durable", latched=True)


@pytest.mark.parametrize(
    ("change", "name", "holds", "seen"),
    [
        (verdict(name="inconclusive", reasons=["b\x1bad"]), "verdict on new", False, r"inconclusive: b\x1bad"),
        (lambda scene: scene.admin.dials.update(events=Dials(50.0, "durable")), "weight", False, "50 % (live)"),
        (
            says("verify", PASSED | {"classes": {"one-sided": 291}}),
            "events that one side alone was owed",
            False,
            "291; for those of old: proxyctl backfill --from old --to new",
        ),
        (verdict(failed=6), "errors at new", False, "0.12 % (6 of 5,000"),
        (verdict(samples=0, failed=0), "errors at new", None, "no answer since"),
        (new(p99=0.6), "p99 of new", False, "600.0 ms"),
        (new(p99=None), "p99 of new", None, "no answer in the last ten seconds"),
        (new(p95=0.02), "p95 of new", False, "20.0 ms"),
        (new(p95=None), "p95 of new", None, "no answer in the last ten seconds"),
        (lambda scene: scene.admin.sides.update(old=side(p95=None)), "p95 of new", None, "nothing to hold it against"),
        (ledger(balanced=False), "ledger", False, "not balanced"),
        (ledger(alive=False), "ledger", False, "not there"),
        (ledger(gaps=1), "gaps in the record", False, "1"),
        (owed("new", dead=3), "given up at new", False, "3 dead"),
        (owed("old", lost=1), "given up at old", False, "1 lost"),
        (owed("old", pending=4, oldest_age_s=6.0), "pending at old", False, "4, the oldest 6"),
        (check(trouble="new is away"), "live checker", None, "new is away"),
        (check(since_change=CHECK["since_change"] | {"settled": 0}), "live checker", None, "nothing was judged since"),
        (check(alive=False), "live checker", False, "0 of 1,204 events"),
        (check(since_change=CHECK["since_change"] | {"mismatches": 2}), "live checker", False, "2 of 1,204 events"),
        (says("verify", PASSED | {"result": "fail", "mismatches": 1}), "what both stores hold", False, "fail: 1 mism"),
        (says("verify", Failure(USAGE, "no file", lines=["c:1:1: x"])), "what both stores hold", None, "no file; c:1"),
        (status(ready=False, not_ready=["draining"]), "instance", False, "draining"),
        (new(healthy=False), "backend new (new)", False, "unhealthy, breaker closed"),
        (new(breaker="half-open"), "backend new (new)", False, "healthy, breaker half-open"),
        (
            status(dependencies=[{"backend": "new", "name": "db", "healthy": False, "detail": "refused"}]),
            "db behind new",
            False,
            "refused",
        ),
        (
            lambda scene: scene.admin.dials.update(events=Dials(100.0, "durable", latched=True)),
            "latched",
            False,
            "breaker open at new",
        ),
        (says("probe", Failure(USAGE, "has no `probe`")), "a marked event into both stores", None, "has no `probe`"),
        (
            says("probe", {"result": "fail", "steps": [{"name": "sent", "seconds": None, "error": "503"}]}),
            "a marked event into both stores",
            False,
            "sent: 503",
        ),
        (status(scraped_s=None), "metrics are read", None, "by nobody yet"),
        (status(scraped_s=121.0), "metrics are read", False, "2m 1s ago"),
        (status(warnings=["low disk"]), "warnings", False, "low disk"),
        (
            status(availability={"ratio": 0.998, "down_s": 7.2, "observed_s": 3600.0}),
            "availability",
            False,
            "99.8 % (7.2 s down of 1h 0m that are known)",
        ),
        (status(availability={"ratio": None, "down_s": 0.0, "observed_s": 0.0}), "availability", None, "not known yet"),
    ],
)  # fmt: skip
def test_each_criterion_can_fail(
    change: Callable[[Scene], None], name: str, holds: bool | None, seen: str, ctl: Ctl, scene: Scene
) -> None:
    change(scene)
    done = ctl("validate", "-o", "json")
    wrong = [each for each in done.json["criteria"] if not each["holds"]]
    assert (done.code, done.json["result"], [each["name"] for each in wrong]) == (1, "fail", [name])
    assert wrong[0]["holds"] is holds
    assert seen in wrong[0]["seen"]
    assert "NOT KNOWN" in ctl("validate").out if holds is None else "FAILED" in ctl("validate").out


def test_a_baseline_is_what_new_is_held_against(ctl: Ctl, scene: Scene) -> None:
    route(baseline={"p95": 0.1})(scene)
    new(p95=0.109)(scene)
    assert ctl("validate").code == 0
    new(p95=0.111)(scene)
    done = ctl("validate")
    assert (done.code, "at most 110.0 ms, by the baseline's 100.0 ms" in done.out) == (1, True)
    assert ctl("validate", "--slower", "20%").code == 0
    route(baseline=BASELINE)(scene)
    new(p95=0.0109)(scene)
    assert ctl("validate").code == 0, "less than slower_by is nothing"


def test_areas_can_be_left_out_and_that_is_said(ctl: Ctl, scene: Scene) -> None:
    scene.said = {}
    done = ctl("validate", "--without", "integrity", "--without", "end-to-end")
    assert (done.code, done.out.splitlines()[1]) == (0, "left out: end-to-end, integrity")
    assert scene.asked == []
    assert ctl("validate", "--without", "everything").code == 2
    everything = [word for area in AREAS for word in ("--without", area)]
    assert ctl("validate", *everything).code == 2, "nothing is no pass"


def test_which_route_and_which_instance(ctl: Ctl, scene: Scene) -> None:
    scene.admin.dials["other"] = Dials(100.0, "durable")
    done = ctl("validate")
    assert (done.code, "there are several routes: events, other" in done.err) == (2, True)
    assert ctl("validate", "--route", "events").code == 0
    assert "there is no route 'evnts'" in ctl("validate", "--route", "evnts").err
    assert ctl("--admin", "unix:a", "--admin", "unix:b", "validate").code == 2


@pytest.mark.parametrize(
    ("change", "name", "holds"),
    [
        (lambda scene: None, None, True),
        (lambda scene: scene.admin.dials.update(events=Dials(5.0, "durable")), "weight", False),
        (lambda scene: scene.admin.sides["old"].update(healthy=False), "backend old (old)", False),
        (lambda scene: scene.admin.sides["old"].update(error_rate=0.01), "errors at old", False),
        (lambda scene: scene.admin.sides["old"].update(error_rate=None), "errors at old", None),
        (route(baseline=None), "p95 of old", None),
        (route(baseline=BASELINE), "p95 of old", True),
        (lambda scene: scene.admin.sides["old"].update(p95=0.2), "p95 of old", False),
        (owed("old", deferred=7), "deferred for old", False),
        (owed("old", dead=1), "given up at old", False),
        (route(old_incomplete_since="2026-01-31T12:00:00Z"), "old is complete", False),
        (says("diff", PASSED | {"findings": [{"by": ["old"]}]}), "lost by old", False),
        (says("diff", PASSED | {"findings": [{"by": ["new"]}]}), "lost by old", True),
        (says("diff", PASSED | {"findings": [{"by": ["new"]}], "findings_untold": 1}), "lost by old", None),
        (says("diff", PASSED | {"inconclusive": [{"reason": "old is away"}]}), "lost by old", None),
        (says("diff", Failure(USAGE, "no `consistency`")), "lost by old", None),
        (says("diff", PASSED | {"result": "nodata"}), "lost by old", None),
        (status(scraped_s=None), "metrics are read", None),
    ],
)
def test_after_a_rollback_old_has_everything_and_answers_as_before(
    change: Callable[[Scene], None], name: str | None, holds: bool | None, ctl: Ctl, scene: Scene
) -> None:
    """What new is like is nobody's business then."""
    scene.admin.dials["events"] = LATCHED
    scene.admin.sides["new"] = side(backend="new", healthy=False, breaker="open", p99=9.0)
    scene.verdict |= {"name": "fail"}
    route(baseline={"p95": 0.1})(scene)
    change(scene)
    done = ctl("validate", "--after-rollback", "-o", "json")
    wrong = [(each["name"], each["holds"]) for each in done.json["criteria"] if not each["holds"]]
    assert (done.code, wrong) == ((0, []) if holds else (1, [(name, holds)]))
    assert (scene.asked[0]["class"], scene.asked[0]["by"]) == ("lost,unrecorded", "old")


def test_what_old_lacks_by_its_store_alone_is_said_to_be_found_so(ctl: Ctl, scene: Scene) -> None:
    """Of InfluxDB's points the ledger does not know which are missing."""
    finding = {"by": ["old"], "class": "unrecorded"}
    two_way = "two-way: the ledger cannot name what these stores hold (identity: none)"
    says("diff", PASSED | {"findings": [finding] * 7, "record": two_way})(scene)
    done = ctl("validate", "--after-rollback", "-o", "json")
    (lost,) = [each for each in done.json["criteria"] if each["name"] == "lost by old"]
    assert (lost["holds"], lost["seen"]) == (False, f"7 ({two_way})")
