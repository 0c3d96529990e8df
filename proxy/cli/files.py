"""Files that commands write: never over what somebody has, unless --force says so."""

from __future__ import annotations

import os

from proxy.cli.failure import FAILED, USAGE, Failure


def write_file(file: str, text: str, *, force: bool) -> None:
    """Write a new file, or with `force` put it whole in the place of another."""
    written = f"{file}.new" if force else file
    try:
        with open(written, "w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
        if force:
            os.replace(written, file)
    except FileExistsError:
        raise Failure(
            USAGE, f"{file} exists and is left as it is", hint="--force overwrites it, -o FILE writes another"
        ) from None
    except OSError as error:
        raise Failure(FAILED, f"cannot write {file}: {error.strerror}") from None


def write_files(directory: str, texts: dict[str, str], *, force: bool) -> list[str]:
    """Write these, by name, into a directory, which is made if need be; where they are now.

    All or none as far as what exists already is concerned.
    """
    paths = {os.path.join(directory, name): text for name, text in texts.items()}
    there = [path for path in paths if os.path.lexists(path)]
    if there and not force:
        raise Failure(
            USAGE,
            f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'}: nothing is written",
            hint="--force overwrites, another DIR holds both",
        )
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise Failure(FAILED, f"cannot make {directory}: {error.strerror}") from None
    for path, text in paths.items():
        write_file(path, text, force=force)
    return list(paths)
