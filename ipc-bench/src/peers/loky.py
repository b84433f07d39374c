"""loky's reusable executor: squares of so many numbers.

Arguments: how many workers, how many numbers, and the size of chunks, 0 for the default.
For each line that comes, a map is made, and a line with its microseconds goes back.
"""

import sys
import time

from loky import get_reusable_executor


def square(number):
    return number * number


def main():
    workers, tasks, chunk = map(int, sys.argv[1:])
    executor = get_reusable_executor(max_workers=workers, timeout=None)
    for _ in sys.stdin:
        begin = time.perf_counter()
        # Its own default is 1.
        squares = list(executor.map(square, range(tasks), chunksize=chunk or 1))
        took = time.perf_counter() - begin
        if squares != [number * number for number in range(tasks)]:
            sys.exit("wrong squares")
        print(took * 1e6, flush=True)
    executor.shutdown(kill_workers=True)


if __name__ == "__main__":
    main()
