"""multiprocessing: what becomes of this process when another one is killed while it holds, waits or writes.

Argument: a bound in seconds. A line goes out for each: what, when, the outcome, microseconds, and a text, with tabs between.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time

BOUND = float(sys.argv[1])
CONTEXT = multiprocessing.get_context("fork")


def fall(act, here, ready):
    act(here)
    while True:
        signal.pause()


def row(what, when, act, survive, later=False):
    """`act` is what the victim does, and calls its argument when it is there; `survive` returns None or a text."""
    here = CONTEXT.Event()
    victim = CONTEXT.Process(target=fall, args=(act, here.set, None), daemon=True)
    victim.start()
    here.wait()
    time.sleep(0.05)
    known = []

    def ask():
        try:
            text = survive()
        except (EOFError, OSError, threading.BrokenBarrierError) as error:
            text = type(error).__name__
        known.append((time.monotonic(), text))

    survivor = threading.Thread(target=ask, daemon=True)
    if not later:
        survivor.start()
        time.sleep(0.02)
    since = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    if later:
        victim.join()
        since = time.monotonic()
        survivor.start()
    survivor.join(BOUND)
    if known:
        at, text = known[0]
        outcome = "told" if text else "recovered"
        line = (what, when, outcome, f"{(at - since) * 1e6:.0f}", text or "")
    else:
        line = (what, when, "hangs", "0", "")
    print(*line, sep="\t", flush=True)


def holding(lock):
    def act(here):
        lock.acquire()
        here()

    def survive():
        lock.acquire()

    return act, survive


def main():
    row("multiprocessing.Lock", "holding", *holding(CONTEXT.Lock()))
    row("multiprocessing.Semaphore", "holding", *holding(CONTEXT.Semaphore(1)))

    event = CONTEXT.Event()
    row("multiprocessing.Event", "waiting", lambda here: (here(), event.wait()), event.set, later=True)

    condition = CONTEXT.Condition()

    def wait(here):
        with condition:
            here()
            condition.wait()

    def notify():
        with condition:
            condition.notify()

    row("multiprocessing.Condition, who notifies", "waiting", wait, notify, later=True)

    barrier = CONTEXT.Barrier(3)
    row("multiprocessing.Barrier", "waiting", lambda here: (here(), barrier.wait()), barrier.wait)

    reader, writer = CONTEXT.Pipe(duplex=False)

    def write(here):
        reader.close()
        here()
        while True:
            writer.send(7)

    def read():
        writer.close()
        while True:
            reader.recv()

    row("multiprocessing.Pipe", "writing", write, read)

    queue = CONTEXT.Queue()

    def put(here):
        here()
        while True:
            queue.put(bytes(4096))

    def get():
        while True:
            queue.get()

    row("multiprocessing.Queue, who gets", "writing", put, get)
    # Not by the usual way, which waits for threads that may hang.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
