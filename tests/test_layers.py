"""House rules that a compiler does not know: includes point one way, banned functions do not occur, no file grows past 800 lines.

The rules are functions over text, so that each is first shown to catch what it forbids.
"""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# A header may be included from its own or a later layer. Layers of one number may include one another.
LAYER = {"base": 0, "config": 1, "net": 2, "http": 3, "policy": 4, "pool": 5, "store": 5, "audit": 6, "gate": 7, "api": 7, "jobs": 7, "cli": 8}
ANYWHERE = "tables"
GENERATED = {"migrations.inc", "web.inc"}  # made by meson.build from files beside the one that includes it
ALONE = {"engine": {"base", "engine"}}  # a program of its own
BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "strtok", "gets", "alloca", "system", "popen", "atoi"]
MAX_LINES = 800
CODE = {".c", ".h", ".def", ".cc", ".cpp", ".hpp"}


def code_files():
    files = sorted(p for p in SRC.rglob("*") if p.suffix in CODE)
    assert len(files) > 20, "the sources were not found"
    return files


def strip(text):
    """Without comments and the contents of strings and characters; line ends stay."""
    def keep_lines(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found[0] * 2
        return "\n" * found.count("\n") or " "
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', keep_lines, text, flags=re.S)


def includes(text):
    return [t for t in re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', text, flags=re.M) if t not in GENERATED]


def include_faults(path, text):
    """path: of the file below src/, as a string."""
    faults = []
    parts = path.split("/")
    own = parts[0] if len(parts) > 1 else None
    for target in includes(text):
        other = target.split("/")[0] if "/" in target else None
        if other is None or ".." in target.split("/"):
            faults.append(f"{path}: {target}: write the path from src/")
        elif other == ANYWHERE or own is None:
            continue
        elif own in ALONE:
            if other not in ALONE[own]:
                faults.append(f"{path}: {own} may not include {target}")
        elif own == ANYWHERE:
            faults.append(f"{path}: tables include nothing")
        elif own not in LAYER or other not in LAYER:
            faults.append(f"{path}: {target}: a layer that DESIGN does not have")
        elif LAYER[other] > LAYER[own]:
            faults.append(f"{path}: {own} may not include {target}")
    return faults


def banned_uses(text):
    return re.findall(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(", strip(text))


def test_the_rules_catch_what_they_forbid():
    assert include_faults("base/x.c", '#include "base/buf.h"\n#include "tables/errors.def"\n#include <stdio.h>\n') == []
    assert include_faults("gate/x.c", '#include "api/y.h"\n') == []
    assert include_faults("api/x.c", '#include "gate/y.h"\n') == []
    assert include_faults("main.c", '#include "cli/cli.h"\n') == []
    assert include_faults("engine/x.c", '#include "base/buf.h"\n') == []
    assert len(include_faults("base/x.c", '#include "http/h1.h"\n')) == 1
    assert len(include_faults("net/x.h", '  #  include "policy/key.h"\n')) == 1
    assert len(include_faults("gate/x.c", '#include "cli/cli.h"\n')) == 1
    assert len(include_faults("engine/x.c", '#include "config/config.h"\n')) == 1
    assert len(include_faults("base/x.c", '#include "buf.h"\n#include "../http/h1.h"\n')) == 2
    assert len(include_faults("misc/x.c", '#include "base/buf.h"\n')) == 1
    assert len(include_faults("tables/x.def", '#include "base/buf.h"\n')) == 1
    for name in BANNED:
        assert banned_uses(f"int f(void) {{ {name} (a); }}") == [name]
    assert banned_uses('/* strcpy(a) */ puts("system(1)"); // gets(x)\n snprintf(a, 1, ""); x->system(1); my_gets(1); char c = \'"\'; ') == []
    assert banned_uses("char c = '\"'; gets(x); char d = '\"';") == ["gets"]


def test_includes_point_one_way():
    faults = [f for p in code_files() for f in include_faults(p.relative_to(SRC).as_posix(), p.read_text())]
    assert not faults, "\n".join(faults)


def test_included_files_exist():
    missing = [f"{p.relative_to(ROOT)}: {i}" for p in code_files() for i in includes(p.read_text()) if not (SRC / i).is_file()]
    assert not missing, "\n".join(missing)


def test_no_banned_function():
    uses = [f"{p.relative_to(ROOT)}: {name}" for p in code_files() for name in banned_uses(p.read_text())]
    assert not uses, "\n".join(uses)


def test_files_stay_short():
    tests = [p for p in (ROOT / "tests").rglob("*") if p.suffix in {".c", ".h", ".py"}]
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in code_files() + tests}
    long = [f"{name}: {n} lines" for name, n in lengths.items() if n > MAX_LINES]
    assert not long, "\n".join(long)


def test_every_source_says_what_it_is():
    silent = [str(p.relative_to(ROOT)) for p in code_files() if p.suffix in {".c", ".cc", ".cpp"} and not p.read_text().startswith(("/*", "//"))]
    bare = [str(p.relative_to(ROOT)) for p in code_files() if p.suffix == ".h" and not p.read_text().startswith("#pragma once\n")]
    assert not silent + bare, "\n".join(silent + bare)
