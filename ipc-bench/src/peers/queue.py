"""multiprocessing.Queue: so many processes put numbers, and as many get them.

Arguments: the capacity, how many of each, and the CPUs of the processes, producers first.
For each line with a number that comes, each puts, or gets, as many; when all are done, a line goes back.
"""

import multiprocessing
import os
import sys


def work(produces, queue, orders, cpu):
    os.sched_setaffinity(0, {cpu})
    while True:
        turns = orders.recv()
        if produces:
            for turn in range(turns):
                queue.put(turn)
        else:
            for _ in range(turns):
                if queue.get() >= turns:
                    sys.exit("a number that nobody has put")
        orders.send(turns)


def main():
    capacity, each, *cpus = map(int, sys.argv[1:])
    context = multiprocessing.get_context("fork")
    queue = context.Queue(capacity)
    workers = []
    for index, cpu in enumerate(cpus):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(index < each, queue, theirs, cpu), daemon=True)
        process.start()
        theirs.close()
        workers.append(ours)
    # The end of the input is the end of this process, and with it of the others.
    for line in sys.stdin:
        for worker in workers:
            worker.send(int(line))
        for worker in workers:
            worker.recv()
        print("done", flush=True)


if __name__ == "__main__":
    main()
