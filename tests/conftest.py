"""
Fixtures of the black-box tests. Each is a factory; what it made is stopped and checked at the end of the test (module: of the module).

    gate(...)          -> lib.gate.Gate        worker(...)          -> lib.worker.Worker
    module_gate(...)   -> the same, lives for the module; use it from a module-scoped fixture of your own
    module_worker(...) -> the same
At the end every gate gets SIGTERM and must exit 0 without a sanitizer report.
"""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib.gate import BINARY, Gate  # noqa: E402
from lib.worker import Worker  # noqa: E402


def pytest_report_header(config):
    return f"tollgate: {BINARY}{'' if BINARY.exists() else ' (missing)'}"


def _gates():
    made = []

    def make(**kw):
        if not BINARY.exists():
            pytest.fail(f"{BINARY} is missing: build it, or name one in TOLLGATE_BIN")
        g = Gate(**kw, start=False) if "start" not in kw else Gate(**kw)
        made.append(g)
        if "start" not in kw:
            g.start(kw.get("wait", True))
        return g
    yield make
    faults = []
    for g in made:
        try:
            g.stop()
        except AssertionError as e:
            faults.append(str(e))
        finally:
            g.remove()
    assert not faults, "\n".join(faults)


def _workers():
    made = []

    def make(**kw):
        w = Worker(**kw)
        made.append(w)
        return w
    yield make
    for w in made:
        w.close()


@pytest.fixture
def gate(worker):  # after the workers are made, before they go: streams can still end while the gate drains
    yield from _gates()


@pytest.fixture
def worker():
    yield from _workers()


@pytest.fixture(scope="module")
def module_gate(module_worker):
    yield from _gates()


@pytest.fixture(scope="module")
def module_worker():
    yield from _workers()
