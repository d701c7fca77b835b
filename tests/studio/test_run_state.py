from secateur.engine import events
from secateur.studio.state.run_state import RunState, advance


def play(*happened, state=None):
    state = state or RunState(kind="prune", title="Run 1", state="running")
    for event in happened:
        state = advance(state, event, "12:00:00")
    return state


def test_a_whole_run():
    state = play(
        events.Started("resnet18 · AGP", 4),
        events.Progress(1, 4, "epoch 1 of 4", 9.0),
        events.MaskChanged(10, {"a": 0.25, "b": 0.5}, dropped=1204, regrown=3),
        events.Metric(10, {"loss": 0.5, "accuracy": 0.9}),
        events.LayerDone("a", {"requested": 0.5, "achieved": 0.5}),
    )
    assert (state.state, state.title, state.fraction, state.text) == (
        "running", "Run 1", 0.25, "epoch 1 of 4",
    )  # fmt: skip
    assert state.seconds_left == 9.0
    assert state.sparsity == {"a": 0.5, "b": 0.5}
    assert state.metrics == ((10, {"loss": 0.5, "accuracy": 0.9}),)
    assert state.changes == ((10, 1204, 3),)
    texts = [text for _, text in state.log]
    assert "masks: 1,204 weights dropped, 3 regrown" in texts
    assert "a at 50.0 %" in texts
    done = play(events.Finished({}), state=state)
    assert (done.state, done.fraction, done.seconds_left, done.active) == ("done", 1.0, None, False)


def test_ends_that_are_not_success():
    failed = play(events.Failed("no memory", detail="Traceback"))
    assert (failed.state, failed.error, failed.detail) == ("failed", "no memory", "Traceback")
    assert play(events.Cancelled()).state == "cancelled"
    assert failed.log[-1] == ("12:00:00", "no memory")


def test_a_very_long_run_stays_small_and_keeps_its_newest_figures():
    state = play(*(events.Metric(n, {"loss": 1.0}) for n in range(5000)))
    steps = [step for step, _ in state.metrics]
    assert len(steps) <= 1200
    assert steps[-100:] == list(range(4900, 5000))
    assert steps == sorted(steps)
    assert steps[0] == 0
    logged = play(*(events.Log(str(n)) for n in range(1000)))
    assert len(logged.log) <= 400
    assert logged.log[-1][1] == "999"


def test_states_are_values():
    before = RunState(state="running")
    after = advance(before, events.MaskChanged(1, {"a": 0.5}))
    assert before.sparsity == {}
    assert after.sparsity == {"a": 0.5}
    assert RunState().sparsity is not RunState().sparsity
