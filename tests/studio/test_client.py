import sys
from pathlib import Path

import psutil
import pytest

from secateur.engine import events
from secateur.studio.state.client import EngineClient, engine_command

SCRIPT = str(Path(__file__).with_name("scripted_engine.py"))


@pytest.fixture
def make(qtbot):
    clients = []

    def build(*arguments, command=None):
        client = EngineClient(command or [sys.executable, SCRIPT, *map(str, arguments)])
        clients.append(client)
        client.start()
        return client

    yield build
    for client in clients:
        pid = client.pid
        client.shutdown()
        assert not (pid and psutil.pid_exists(pid))


def until_ready(qtbot, client):
    qtbot.waitUntil(lambda: client.state == "ready", timeout=10_000)


def test_the_greeting_makes_it_ready_and_questions_asked_before_wait(make, qtbot):
    client = make()
    assert client.state == "starting"
    answers = []
    client.request("echo", {"word": "früh"}, lambda result, arrays: answers.append(result))
    qtbot.waitUntil(lambda: bool(answers), timeout=10_000)
    assert answers == [{"word": "früh"}]
    assert client.state == "ready"
    assert client.hello["threads"] == 3


def test_an_error_reply_reaches_on_error_only(make, qtbot):
    client = make()
    errors, answers = [], []
    client.request("refuse", {}, lambda *a: answers.append(a), errors.append)
    qtbot.waitUntil(lambda: bool(errors), timeout=10_000)
    assert (errors, answers) == (["no such layer"], [])


def test_another_protocol_version_is_refused_in_words(make, qtbot):
    client = make(99)
    with qtbot.waitSignal(client.died, timeout=10_000) as died:
        pass
    assert "protocol 99" in died.args[0]
    assert "same version" in died.args[0]
    assert client.state == "failed"
    assert client.pid == 0


def test_a_stream_that_is_not_ours_is_refused(make, qtbot):
    client = make(1, "babble")
    with qtbot.waitSignal(client.died, timeout=10_000) as died:
        pass
    assert "Loading weights" in died.args[0]


def test_a_command_that_does_not_exist_says_so(make, qtbot):
    client = EngineClient(["/nonexistent/engine", "engine"])
    reasons = []
    client.died.connect(reasons.append)
    client.start()
    qtbot.waitUntil(lambda: bool(reasons), timeout=5000)
    assert "could not be started: /nonexistent/engine" in reasons[0]
    assert client.state == "failed"
    errors = []
    client.request("echo", {}, lambda *a: None, errors.append)
    qtbot.waitUntil(lambda: bool(errors), timeout=2000)
    assert errors == ["The engine is not running."]


@pytest.mark.parametrize(
    ("method", "reason"),
    [("die", "exit code 3: RuntimeError: out of luck"), ("kill", "SIGKILL")],
)
def test_a_death_gives_its_reason_and_fails_what_was_asked(make, qtbot, method, reason):
    client = make()
    until_ready(qtbot, client)
    errors = []
    with qtbot.waitSignal(client.died, timeout=10_000) as died:
        client.request(method, {}, lambda *a: None, errors.append)
    assert reason in died.args[0]
    assert errors == [died.args[0]]
    client.restart()
    until_ready(qtbot, client)


def job_events(client, kind):
    seen, started = [], []
    client.job_event.connect(lambda job, event: seen.append((job, event)))
    client.start_job(kind, {}, started.append)
    return seen, started


def test_events_of_a_job_come_in_order_and_those_of_others_are_dropped(make, qtbot):
    client = make()
    until_ready(qtbot, client)
    seen, started = job_events(client, "quick")
    qtbot.waitUntil(lambda: any(event.terminal for _, event in seen), timeout=5000)
    answers = []
    client.request("echo", {}, lambda *a: answers.append(a))
    qtbot.waitUntil(lambda: bool(answers), timeout=5000)
    assert started == [1]
    assert [type(event) for _, event in seen] == [
        events.Started, events.Progress, events.Finished,
    ]  # fmt: skip
    assert seen[-1][1].result == {"answer": 42}


def test_a_cancel_that_is_heard_leaves_the_engine_alone(make, qtbot):
    client = make()
    client.cancel_deadline_ms = 300
    until_ready(qtbot, client)
    pid = client.pid
    seen, started = job_events(client, "slow")
    qtbot.waitUntil(lambda: bool(started), timeout=5000)
    client.cancel(1)
    qtbot.waitUntil(lambda: any(isinstance(e, events.Cancelled) for _, e in seen), timeout=5000)
    qtbot.wait(500)
    assert client.pid == pid
    assert client.state == "ready"


def test_an_engine_that_hangs_is_killed_at_the_deadline(make, qtbot):
    client = make()
    client.cancel_deadline_ms = 200
    until_ready(qtbot, client)
    pid = client.pid
    _, started = job_events(client, "hang")
    qtbot.waitUntil(lambda: bool(started), timeout=5000)
    with qtbot.waitSignal(client.died, timeout=5000) as died:
        client.cancel(1)
    assert "did not stop within 0.2 s" in died.args[0]
    assert not psutil.pid_exists(pid)


def test_shutdown_kills_an_engine_that_ignores_its_closed_input(make, qtbot):
    client = make()
    until_ready(qtbot, client)
    pid = client.pid
    _, started = job_events(client, "hang")
    qtbot.waitUntil(lambda: bool(started), timeout=5000)
    client.shutdown(wait_ms=100)
    assert not psutil.pid_exists(pid)
    assert client.state == "stopped"


def test_the_command_can_be_another_machines(monkeypatch):
    monkeypatch.setenv("SECATEUR_ENGINE", "ssh 'big host' secateur engine")
    assert engine_command() == ["ssh", "big host", "secateur", "engine"]
    monkeypatch.delenv("SECATEUR_ENGINE")
    assert engine_command() == [sys.executable, "-m", "secateur.engine", "engine"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert engine_command() == [sys.executable, "engine"]
