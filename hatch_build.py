"""Compiles the hot modules of a wheel with mypyc: the same sources, for a third less CPU time per event.

What `proxyctl` exports lies in `deploy/`, which a wheel has not: it gets these files below `proxy/cli/exported`.

A checkout is never compiled: `pip install --editable` runs the sources as they stand. `CROSSFADE_PURE=1`
makes a wheel of plain Python, for machines without a C compiler.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileHook(BuildHookInterface[Any]):
    """Adds compiled modules to a wheel, beside their sources. Config: `modules`, paths from the root, and `exported`,
    paths from `deploy/`.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the install is editable or a plain wheel is asked for."""
        if version == "editable":
            return
        for name in self.config["exported"]:
            build_data["force_include"][str(Path(self.root, "deploy", name))] = f"proxy/cli/exported/{name}"
        if os.environ.get("CROSSFADE_PURE") == "1":
            return
        if lacking := missing():
            raise RuntimeError(f"no {lacking}; install it, or set CROSSFADE_PURE=1 for a slower wheel")
        self._output = tempfile.mkdtemp(prefix="crossfade-build-")
        try:
            compiled = compile_modules(Path(self.root), self.config["modules"], Path(self._output))
        except BaseException:  # `finalize` is not called then
            shutil.rmtree(self._output)
            raise
        for path in compiled:
            build_data["force_include"][str(path)] = str(path.relative_to(self._output))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written: what went into it is not needed any more."""
        shutil.rmtree(getattr(self, "_output", ""), ignore_errors=True)


def missing() -> str:
    """What compiling lacks on this machine; empty when it lacks nothing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"C compiler ({compiler})"
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return "" if headers.exists() else f"Python headers ({headers})"


def compile_modules(root: Path, modules: list[str], output: Path) -> list[Path]:
    """Compile `modules` into `output`; the extension modules, at their places below it."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    before = Path.cwd()
    work = output / ".work"
    work.mkdir()
    options = ["--cache-dir", str(work / "cache")]
    os.chdir(root)  # mypy finds modules, and its configuration, from where it stands
    try:
        extensions = mypycify(
            [*options, *modules],
            opt_level="3",
            debug_level="0",
            multi_file=True,
            target_dir=str(work),
        )
        command = build_ext(Distribution({"name": "crossfade", "ext_modules": extensions}))
        command.build_lib, command.build_temp = str(output), str(work)
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    shutil.rmtree(work)
    return sorted(path for path in output.rglob("*") if path.is_file())
