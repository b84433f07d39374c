"""multiprocessing.Pool: squares of so many numbers.

Arguments: how many workers, how many numbers, and the size of chunks, 0 for the default.
For each line that comes, a map is made, and a line with its microseconds goes back.
"""

import multiprocessing
import sys
import time


def square(number):
    return number * number


def main():
    workers, tasks, chunk = map(int, sys.argv[1:])
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        # The end of the input is the end of this process, and of the workers.
        for _ in sys.stdin:
            begin = time.perf_counter()
            squares = pool.map(square, range(tasks), chunk or None)
            took = time.perf_counter() - begin
            if squares != [number * number for number in range(tasks)]:
                sys.exit("wrong squares")
            print(took * 1e6, flush=True)


if __name__ == "__main__":
    main()
