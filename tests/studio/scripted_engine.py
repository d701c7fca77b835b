"""An engine of a few lines for what the real one should never do: die, hang, speak nonsense.

Run as ``python scripted_engine.py [version] [behaviour…]``. It has no model and computes nothing;
tests of what the engine *answers* use the real one.
"""

import os
import signal
import sys
import time

from secateur.engine import events, protocol


def main() -> None:
    version = int(sys.argv[1]) if len(sys.argv) > 1 else protocol.VERSION
    flags = set(sys.argv[2:])
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    decoder = protocol.Decoder()

    def send(header):
        out.write(protocol.encode(protocol.Message(header)))

    def reply(number, result):
        send({"type": "reply", "id": number, "result": result})

    def event(job, value):
        send({"type": "event", "job": job, "event": value.to_json()})

    if "babble" in flags:
        out.write(b"Loading weights, please wait ...\n")
    jobs = 0
    while data := os.read(0, 1 << 16):
        for message in decoder.feed(data):
            header = message.header
            number, method, params = header["id"], header["method"], header["params"]
            if method == "hello":
                reply(
                    number, {"protocol": version, "device": "cpu", "threads": 3, "pid": os.getpid()}
                )
            elif method == "echo":
                reply(number, params)
            elif method == "refuse":
                send(
                    {
                        "type": "reply",
                        "id": number,
                        "error": {"message": "no such layer", "bad_input": True},
                    }
                )
            elif method == "die":
                print("RuntimeError: out of luck", file=sys.stderr, flush=True)
                os._exit(3)
            elif method == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif method == "start":
                jobs += 1
                # An event before its reply, and one of a job that nobody asked for.
                event(jobs, events.Started("work", 3))
                event(jobs + 100, events.Log("late news of an old job"))
                reply(number, {"job": jobs})
                event(jobs, events.Progress(1, 3))
                if params["job"] == "quick":
                    event(jobs, events.Finished({"answer": 42}))
                    event(jobs, events.Log("after the end"))
                elif params["job"] == "hang":
                    time.sleep(3600)
            elif method == "cancel":
                reply(number, {})
                event(params["job"], events.Cancelled())


main()
