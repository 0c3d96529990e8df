"""The reference page of the configuration file, made from the model.

`python -m config.reference` writes it beside this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

from config.describe import Key, Section, keys, sections
from config.notifications import EXAMPLE, MEANINGS, Receiver

REFERENCE_FILE = Path(__file__).with_name("REFERENCE.md")

_HEAD = """\
# Configuration reference

Made from `config/model.py` by `python -m config.reference`; do not edit it by hand.

- **Form**: YAML 1.2, at most 1 MiB of UTF-8. `off`, `on`, `yes` and `no` are strings. Unknown and repeated keys are
  errors. `proxyctl check FILE` lists everything wrong with a file at once, as `file:line:column: message`.
- **Editor**: `crossfade.schema.json` is the JSON Schema; name it in the first line,
  `# yaml-language-server: $schema=PATH`.
- **Environment**: `${VAR}` and `${VAR:-default}` in values; a variable that is not set and has no default is an error.
  Unquoted, the value has the type that it would have when written there: `workers: ${WORKERS:-2}`. `$$` is a dollar
  sign. Inside `{...}` and `[...]` it must stand in quotes.
- **duration**: `250ms`, `5s`, `1m`, `2h`, `7d`, `1h30m`; always with a unit.
- **size**: `512B`, `64KiB`, `1MiB`, `2GiB`, or `kB`, `MB`, `GB` in powers of ten; always with a unit.
- **share**: `5%` or `0.05`.
- **name**: `a`-`z`, `0`-`9`, `-`, `_`, starts with a letter, at most 63 characters.
- **address**: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; port 0 is any free port.
- **source**, where a value of an event is read: `json:/pointer` (RFC 6901), `line:series`,
  `line:measurement` or `line:tag.NAME` (of the first point in InfluxDB's line protocol), `header:NAME`,
  `cookie:NAME`, `query:NAME`, `path:NAME` (a `{NAME}` of the route's path), or `client` (its address).
- **path**: exact `/a/b`, with parameters `/a/{id}` (whole segments), or a prefix `/a/*` (takes `/a` too).
- **Relative paths** in the file are relative to the file.
"""


_NOTIFIED = """\
A receiver of the kind `webhook` gets JSON by POST, one entry each, and answers 2xx:

```json
{example}
```

`id` names the entry (the same with every try, in `Idempotency-Key` as well), `at` is when it was written, in UTC. The
epochs are equal where the routing did not change. `before` and `after` are the positions of `route`, or what else was
changed; `route`, both, `reason` and `evidence` may be empty. What `evidence` has depends on `action`, and new members
may come. A receiver of the kind `slack` gets `{{"text": "..."}}` with most of that in a line.

| event | what happened |
|---|---|
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, *(line for section in sections() for line in _section(section))])


def _section(section: Section) -> Iterator[str]:
    yield f"## `{section.path}`" if section.path else "## Top level"
    yield ""
    yield cleandoc(section.model.__doc__ or "")
    yield ""
    yield "| key | type | default | meaning | example |"
    yield "|---|---|---|---|---|"
    yield from (_row(key) for key in keys(section.model))
    yield ""
    if section.model is Receiver:
        yield from _notified()


def _notified() -> Iterator[str]:
    """What is posted, and the names of what is."""
    yield from _NOTIFIED.format(example=EXAMPLE).splitlines()
    yield from (f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items())
    yield ""


def _row(key: Key) -> str:
    default = "required" if key.required else f"`{key.default}`" if key.default else "none"
    cells = (f"`{key.name}`", key.type, default, key.meaning, f"`{key.name}: {key.example}`" if key.example else "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    REFERENCE_FILE.write_text(reference(), encoding="utf-8")
