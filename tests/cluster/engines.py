"""What pytest does about engines: tests of what an engine does not have are skipped by name, and
faults of the deployment (stores.py) are part of the run.

The conftest of a folder whose tests run on several engines imports these hooks."""

import time

import pytest
from _pytest.runner import runtestprotocol

from stores import ENGINE, Store

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_protocol", "pytest_sessionfinish",
           "pytest_terminal_summary"]

said = []  # lines for the end of the run


def pytest_collection_modifyitems(items):
    for item in items:
        mark = item.get_closest_marker("embedded")
        if mark is not None and ENGINE != "embedded":
            item.add_marker(pytest.mark.skip(reason=f"{ENGINE}: {mark.args[0]}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """A test that met a failover may have been too slow for what it asserts: then it has one
    more try. What failovers lose or keep is not decided here, but by histories."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    began = time.monotonic()
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports) and Store.faults is not None and \
            Store.faults.met(began):
        text = next(report for report in reports if report.failed).longreprtext
        lines = [line for line in text.splitlines() if line.startswith("E ")]
        said.append(f"met a failover, run again: {item.nodeid}: {' '.join(lines)[:300]}")
        item._initrequest()  # pylint: disable=protected-access
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session):
    faults = Store.end()
    if faults is None:
        return
    said.append(f"{ENGINE}: {faults.counts}")
    wrong = [f"faults ended with {faults.error!r}"] if faults.error else []
    wrong += [f"not once: {kind}" for kind in faults.missing()]
    said.extend(f"FAILED {ENGINE}: {text}" for text in wrong)
    if wrong:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    while said:
        terminalreporter.line(said.pop(0))
