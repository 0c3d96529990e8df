"""Who is told of every change: receivers of webhooks, and chats that take Slack's form."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from config.patterns import Name
from config.units import SomeTime, UnitError, Written, nearest
from config.web import WebAddress

MEANINGS: Final = {
    "set-weight": "the weight was set",
    "stage": "both dials were set by the name of a stage",
    "rollback": "the weight was taken back, at once or to a lower one",
    "revert": "the proxy itself, a gate, an alert or a webhook moved the weight to 0, and latched it",
    "revert-applied": "how long a revert took until every worker had applied it: `seconds_to_recover` of `evidence`",
    "rearm": "the latch was opened",
    "restore": "both dials were set as at an earlier epoch",
    "not-applied": "the change before had no effect; `evidence` has its `action`",
    "route-added": "the configuration has a route that it had not",
    "route-dropped": "the configuration has a route no more",
    "freeze": "no change but back for a time",
    "unfreeze": "a freeze was ended before its time",
    "rollout-start": "a rollout began",
    "rollout-step": "a rollout turned the weight",
    "rollout-step-back": "a gate sends a rollout back by a step",
    "rollout-waiting": "a rollout waits for a person to promote it",
    "rollout-promote": "somebody let it go to the next step",
    "rollout-pause": "somebody, an alert or a webhook paused it",
    "rollout-paused": "it paused by itself: for a gate, a latch, or a weight that somebody else set",
    "rollout-resume": "somebody let it go on",
    "rollout-reverted": "it ended by a revert",
    "rollout-abort": "somebody ended it, or its route left the configuration",
    "rollout-done": "it is through",
    "record-baseline": "the recording of a baseline began",
    "baseline": "a baseline was recorded; `evidence` has it",
    "alert-resolved": "an alert that did something has ended; nothing comes of that",
    "replay": "events were made pending again, for a restored backend",
    "dead-requeue": "dead letters were made pending again",
    "dead-discard": "dead letters were given up",
    "repair": "`verify --repair` was begun",
    "backfill": "a backfill was begun",
    "reload": "another configuration is served; `evidence` has what changed",
    "reload-done": "every process goes by it",
    "reload-refused": "the configuration file was changed and is not served; `evidence` has why",
    "reload-put-back": "a process did not serve with it; the configuration of before is served again",
    "reload-failed": "it is served in part; `reason` says how far",
    "log-level": "processes log more, or less, for a while",
    "drain": "the instance stops gracefully",
    "upgrade": "somebody asked for an upgrade",
    "upgrade-done": "the code on the disk has taken over",
    "upgrade-refused": "it cannot take over; nothing was touched",
    "upgrade-put-back": "it took over in part, and the code before serves again",
    "upgrade-failed": "it has taken over in part; `reason` says how far",
    "source-moved": "another worker runs a source from now on",
    "drill": "copies to new began to fail in a drill",
    "drill-ended": "they go on",
    "token-create": "a token was made; its secret is in no entry",
    "token-revoke": "a token was made worthless",
}
"""What the audit trail calls what happened, and what that means."""
ACTIONS: Final = tuple(MEANINGS)
EXAMPLE: Final = """\
{
  "id": "9f0c6b1e5a7d4c2f8b3e1d0a6c5f4e7b",
  "instance": "edge-1",
  "at": "2026-01-31T12:00:00.123Z",
  "epoch": 7,
  "previous_epoch": 6,
  "actor": "crossfade",
  "action": "revert",
  "route": "events",
  "before": {"weight": 25.0, "copy": "durable", "stage": "live", "latched": false},
  "after": {"weight": 0.0, "copy": "durable", "stage": "dualwrite", "latched": true},
  "reason": "the breaker of new is open in worker 0: status 503",
  "evidence": {"trigger": "breaker", "workers": [0], "last_failure": "status 503", "in_a_row": 5, "lasts": 0.4,
               "seconds_to_detect": 0.4}
}"""
"""What a receiver of the kind `webhook` gets."""


def _check_event(text: str) -> str:
    if not any(fnmatchcase(action, text) for action in ACTIONS):
        raise UnitError(f"nothing is called {text!r}; there is {', '.join(ACTIONS)}", nearest(text, ACTIONS))
    return text


EventName = Annotated[str, AfterValidator(_check_event), Written("event", str)]


class Receiver(WebAddress):
    """Gets each entry of the audit trail as it is written, in order: tried again for five minutes, then dropped."""

    name: Name = Field(description="its name in logs and metrics; unique", examples=["chat"])
    url: str = Field(
        min_length=1,
        repr=False,
        description="where it is posted to; it is shown nowhere, for a chat's url is a secret",
        examples=["${CHAT_URL:-http://127.0.0.1:9095/hook}"],
    )
    kind: Literal["webhook", "slack"] = Field(
        "webhook",
        description="webhook: the entry as JSON, with `id` and `instance`. slack: a line of text, as Slack, Mattermost "
        "and others take it",
    )
    events: tuple[EventName, ...] = Field(
        (),
        description="which entries, by what `proxyctl history` calls them, * stands for anything in it; empty: all",
        examples=["[revert, rearm, rollout-*]"],
    )
    timeout: SomeTime = Field(5.0, description="of one try; slower counts as failed")

    def wants(self, action: str) -> bool:
        """Whether it is told of this."""
        return not self.events or any(fnmatchcase(action, pattern) for pattern in self.events)
