"""Where programs may run on this machine: the rungs of a ladder, the safest first.

    bubblewrap  namespaces of their own (no network, no other process, an empty file system), and the jail inside
    landlock    the jail alone: Landlock, seccomp, limits, no capabilities; no privilege needed, works inside containers
    container   Docker or Podman, where an image is named: for machines without the two above

The first that works is taken, unless one is named; a named one that does not work is a NoSandbox (exit 7), never another one. Each
warden shows that its jail holds before it is given a program. There is no rung without a jail.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from etude.failures import NoSandbox
from etude.sandbox import jail

Name = Literal["bubblewrap", "landlock", "container"]
NAMES: tuple[Name, ...] = ("bubblewrap", "landlock", "container")
PACKAGE = Path(__file__).resolve().parent.parent
"""etude's own folder."""
BOX_MB = 64
"""Size of the file system in memory that programs write in, inside bubblewrap and containers."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A way to start wardens. `program`: its executable (bwrap, docker), "" for none; `image`: a container's; `node`: JavaScript's
    interpreter inside, "" for none."""

    name: Name
    program: str = ""
    image: str = ""
    node: str = ""

    def command(self, container: str = "") -> list[str]:
        """The command that starts a warden; `container`: a name for it, where it is one."""
        if self.name == "bubblewrap":
            return bubblewrap(self.program, self.node)
        if self.name == "container":
            return engine(self.program, self.image, container)
        return interpreter(sys.executable, PACKAGE.parent, files=True)

    @property
    def described(self) -> str:
        """As signatures name it."""
        return f"{self.name}({self.image})" if self.image else self.name


def interpreter(python: str, home: Path, files: bool) -> list[str]:
    """A Python with the standard library alone that serves as a warden; `home` holds the folder `etude`."""
    code = (
        f"import sys; sys.path.insert(0, {str(home)!r}); from etude.sandbox import warden; del sys.path[0]; "
        f"warden.serve({'True' if files else 'False'})"
    )
    return [python, "-P", "-s", "-S", "-c", code]


ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}
"""All that a warden's environment has (and LD_LIBRARY_PATH, without which some interpreters do not start): no key, no token. Sets are
ordered alike each time, so that a program has the same verdict each time."""


def environment(rung: Rung) -> dict[str, str]:
    """The environment in which a warden's command is started; a container's client needs to find its engine."""
    if rung.name == "container":
        return {key: value for key, value in os.environ.items() if key in CLIENT or key.startswith(("DOCKER_", "CONTAINER_", "XDG_"))}
    kept = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    return {**ENVIRONMENT, **kept}


CLIENT = ("PATH", "HOME", "LANG", "TMPDIR")
"""What a container's client may need of the environment, beside its own variables; nothing of it goes into the container."""


def bubblewrap(program: str, node: str) -> list[str]:
    """A warden inside namespaces of its own, which sees the interpreter, system libraries and an empty folder in memory."""
    paths = {"/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", sys.prefix, sys.base_prefix, str(PACKAGE)}
    paths |= {str(Path(sys.executable).parent), *([os.path.dirname(os.path.realpath(node))] if node else [])}
    paths |= {path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")}
    bound = [part for path in sorted(paths) if os.path.exists(path) and path != "/" for part in ("--ro-bind", path, path)]
    variables = [part for key, value in environment(Rung("landlock")).items() for part in ("--setenv", key, value)]
    walls = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL", "--hostname", "jail"]
    folders = ["--proc", "/proc", "--dev", "/dev", "--size", str(BOX_MB << 20), "--tmpfs", "/box", "--chdir", "/box"]
    return [program, *walls, *variables, *bound, *folders, "--", *interpreter(sys.executable, PACKAGE.parent, files=True)]


def engine(program: str, image: str, name: str) -> list[str]:
    """A warden inside a container without network, capabilities or a writable file system but a small one in memory."""
    walls = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "256"]
    walls += ["--memory", "4g", "--user", "65534:65534", "--ipc", "none", "--log-driver", "none"]
    folders = ["--tmpfs", f"/box:rw,noexec,nosuid,size={BOX_MB}m,mode=1777", "--workdir", "/box"]
    folders += ["--volume", f"{PACKAGE / 'sandbox'}:/etude-home/etude/sandbox:ro"]
    variables = [part for key, value in ENVIRONMENT.items() for part in ("--env", f"{key}={value}")]
    inside = interpreter("python3", Path("/etude-home"), files=False)
    return [program, "run", "--rm", "--interactive", "--name", name, *walls, *folders, *variables, "--entrypoint", "", image, *inside]


def found(name: Name, image: str | None = None, engine_name: str | None = None) -> tuple[Rung | None, str]:
    """(the rung, "") if its parts are here, else (None, why not); whether it works is for `trial` to say."""
    node = os.path.realpath(path) if (path := shutil.which("node") or shutil.which("nodejs")) else ""
    if name == "container":
        if not image:
            return None, "not configured: name an image with Python 3.11 or later (`image` of the metric, or ETUDE_SANDBOX_IMAGE)"
        engines = (engine_name,) if engine_name else ("docker", "podman")
        program = next((path for one in engines if (path := shutil.which(one))), "")
        return (Rung(name, program, image), "") if program else (None, f"there is no {' or '.join(engines)} on the PATH")
    if why := jail.refusal():
        return None, why
    if name == "landlock":
        return Rung(name, node=node), ""
    program = shutil.which("bwrap") or ""
    return (Rung(name, program, node=node), "") if program else (None, "there is no bwrap on the PATH (the package bubblewrap)")


@functools.cache
def trial(rung: Rung) -> str:
    """Start a warden and let it try its jail: "" if it holds, else why not. Remembered for the life of this process."""
    from etude.sandbox.runner import Warden

    try:
        Warden(rung).close()
    except NoSandbox as error:
        return str(error)
    return ""


def rungs(image: str | None = None, engine_name: str | None = None) -> list[tuple[str, bool, str]]:
    """(name, available, why not) of each rung, the safest first; each is tried, which takes about a tenth of a second."""
    rows: list[tuple[str, bool, str]] = []
    for name in NAMES:
        rung, why = found(name, image or os.environ.get("ETUDE_SANDBOX_IMAGE"), engine_name)
        why = trial(rung) if rung else why
        rows.append((name, not why, why))
    return rows


def javascript() -> str:
    """The node that JavaScript would run with, "" for none."""
    rung, _ = found("landlock")
    return rung.node if rung else ""


def choose(wanted: Name | Literal["auto"] = "auto", image: str | None = None, engine_name: str | None = None) -> Rung:
    """The rung that is asked for, or the first that works.

    Raises NoSandbox (exit 7), with what is wrong with each, where there is none: generated code is never run without a jail.
    """
    image = image or os.environ.get("ETUDE_SANDBOX_IMAGE")
    wrong = []
    for name in NAMES if wanted == "auto" else (wanted,):
        rung, why = found(name, image, engine_name)
        why = trial(rung) if rung else why
        if rung and not why:
            return replace(rung, node="node") if name == "container" else rung
        wrong.append(f"{name}: {why}")
    raise NoSandbox(
        f"generated code needs a jail, and this machine ({platform.system()} {platform.machine()}) offers "
        f"{'none' if wanted == 'auto' else 'not the one that is asked for'}: " + "; ".join(wrong) + ". `etude doctor` shows the ladder; "
        "the answers are kept, so `etude score` can judge them on another machine"
    )


def stop(rung: Rung, container: str) -> None:
    """End a container by its name; a killed client leaves it running."""
    if rung.name == "container":
        subprocess.run([rung.program, "kill", container], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=20)
