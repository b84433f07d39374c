// Boost.Interprocess: so many turns of one of its primitives, in anonymous memory that processes share.
//
// Argument: mutex, semaphore or sharable. For each line with a number that comes, so many turns are done, and a line with the
// nanoseconds that they took goes back. Argument killed, a kind and a bound in milliseconds: a child holds, or waits, and is
// killed; the line that goes back says whether this process goes on, and after how many nanoseconds.

#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/sync/interprocess_condition.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/interprocess_semaphore.hpp>
#include <boost/interprocess/sync/interprocess_sharable_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/interprocess/sync/sharable_lock.hpp>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <new>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace boost::interprocess;
using Clock = std::chrono::steady_clock;

struct Shared {
    interprocess_mutex mutex;
    interprocess_semaphore semaphore{1};
    interprocess_sharable_mutex sharable;
    volatile std::uint64_t value = 0;
    volatile bool held = false;
};

static std::int64_t nanoseconds_since(Clock::time_point begin) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
}

template <class Turn> static void serve(Turn turn) {
    std::uint64_t turns;
    while (std::cin >> turns) {
        auto begin = Clock::now();
        for (std::uint64_t index = 0; index < turns; ++index) {
            turn();
        }
        std::cout << nanoseconds_since(begin) << std::endl;
    }
}

// `hold` never gives back what `take` then waits for.
template <class Hold, class Take> static int killed(Shared &shared, int bound, Hold hold, Take take) {
    pid_t victim = fork();
    if (victim == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        hold();
        shared.held = true;
        for (;;) {
            pause();
        }
    }
    while (!shared.held) {
        std::this_thread::yield();
    }
    std::thread([&] {
        take();
        auto now = Clock::now().time_since_epoch();
        std::cout << std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() << std::endl;
        std::_Exit(0);
    }).detach();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    auto now = Clock::now().time_since_epoch();
    std::cout << std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() << std::endl;
    kill(victim, SIGKILL);
    waitpid(victim, nullptr, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(bound));
    std::_Exit(0);
}

int main(int count, char **arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    mapped_region region = anonymous_shared_memory(sizeof(Shared));
    Shared &shared = *new (region.get_address()) Shared;
    std::string kind = count > 1 ? arguments[1] : "";
    if (kind == "mutex") {
        serve([&] {
            scoped_lock<interprocess_mutex> guard(shared.mutex);
            shared.value = shared.value;
        });
    } else if (kind == "semaphore") {
        serve([&] {
            shared.semaphore.wait();
            shared.semaphore.post();
        });
    } else if (kind == "sharable") {
        serve([&] {
            sharable_lock<interprocess_sharable_mutex> guard(shared.sharable);
            (void)shared.value;
        });
    } else if (kind == "killed" && count > 3) {
        int bound = std::atoi(arguments[3]);
        std::string what = arguments[2];
        if (what == "mutex") {
            return killed(shared, bound, [&] { shared.mutex.lock(); }, [&] { shared.mutex.lock(); });
        }
        if (what == "semaphore") {
            return killed(shared, bound, [&] { shared.semaphore.wait(); }, [&] { shared.semaphore.wait(); });
        }
        return killed(shared, bound, [&] { shared.sharable.lock(); }, [&] { shared.sharable.lock(); });
    } else {
        return 2;
    }
}
