//! The condition variable with the mutex.

use core::time::Duration;
use std::sync::Arc;

use shmkit_core::crash_point;
use shmkit_core::shim::explore::{end, explore, explore_deaths, keeper, processes, spawn_mortal_with, spawn_with};
use shmkit_core::shim::futex;
use shmkit_core::wait::Site;
use shmkit_sync::{Condvar, LockError, Mutex, MutexGuard};

/// How many there are of something, and who tells of changes.
struct Stock {
    left: Mutex<u32>,
    changed: Condvar,
}

impl Stock {
    fn new() -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(0), changed: Condvar::new() })
    }

    /// Locks; what the dead have left is sound here.
    fn lock(&self) -> MutexGuard<'_, u32> {
        self.left.lock().or_else(LockError::into_guard).unwrap()
    }

    fn add(&self, count: u32) {
        *self.lock() += count;
    }

    /// Adds one at a time, and tells of each.
    fn produce(&self, times: u32, tell: fn(&Condvar)) {
        (0..times).for_each(|_| {
            self.add(1);
            tell(&self.changed);
        });
    }

    /// Waits until there are `count`, also if a death comes in between.
    fn wait_for(&self, count: u32) -> MutexGuard<'_, u32> {
        let mut guard = self.lock();
        loop {
            match self.changed.wait_while(guard, |left| *left < count) {
                Ok(guard) => return guard,
                Err(LockError::Poisoned { guard: held, .. }) => guard = held,
                Err(error) => panic!("{error}"),
            }
            self.left.clear_poison();
        }
    }

    fn take(&self) {
        *self.wait_for(1) -= 1;
    }
}

#[test]
fn a_notification_after_the_change_reaches_the_one_who_waits() {
    explore(3, || {
        let (_region, [consumer, producer]) = processes();
        let stock = Stock::new();
        let producing = spawn_with(&producer, &stock, |stock| stock.produce(2, Condvar::notify_one));
        consumer.act();
        (0..2).for_each(|_| stock.take());
        producing.join().unwrap();
    });
}

/// Two take one each, of which somebody tells.
fn two_take_what_is_told_of(tell: fn(&Condvar)) {
    explore(2, move || {
        let (_region, [consumer, other, producer]) = processes();
        let stock = Stock::new();
        let producing = spawn_with(&producer, &stock, move |stock| stock.produce(2, tell));
        let consuming = spawn_with(&other, &stock, Stock::take);
        consumer.act();
        stock.take();
        [producing, consuming].into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn two_notifications_of_one_reach_both_who_wait() {
    two_take_what_is_told_of(Condvar::notify_one);
}

#[test]
fn a_notification_of_all_reaches_all_who_wait_now_and_those_who_come_later() {
    two_take_what_is_told_of(Condvar::notify_all);
}

/// The second one sets WAITING again before the first one, who has missed the notification by that, goes to sleep.
#[test]
fn a_notification_of_all_reaches_one_who_is_just_going_to_sleep_though_another_comes_to_wait() {
    explore(3, || {
        let (_region, [first, second, producer]) = processes();
        let stock = Stock::new();
        let producing = spawn_with(&producer, &stock, |stock| stock.produce(1, Condvar::notify_all));
        let waiting = spawn_with(&second, &stock, |stock| drop(stock.wait_for(2)));
        first.act();
        drop(stock.wait_for(1));
        stock.add(1);
        stock.changed.notify_all();
        [producing, waiting].into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// One who was notified, but does not say that its time was over, passes the notification on, as it should.
#[test]
fn a_waiter_that_times_out_swallows_no_notification() {
    explore(2, || {
        let (_region, [producer, timed, patient]) = processes();
        let stock = Stock::new();
        let threads = [
            spawn_with(&timed, &stock, move |stock| {
                let waited = stock.changed.wait_timeout(stock.lock(), Duration::ZERO).unwrap();
                let (guard, outcome) = waited;
                drop(guard);
                if !outcome.timed_out() {
                    stock.changed.notify_one();
                }
            }),
            spawn_with(&patient, &stock, Stock::take),
        ];
        producer.act();
        stock.add(1);
        stock.changed.notify_one();
        futex::expire();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_timed_wait_ends_though_nobody_notifies_and_holds_the_mutex_again() {
    explore(3, || {
        let (_region, [waiter, other]) = processes();
        let stock = Stock::new();
        let locking = spawn_with(&other, &stock, move |stock| {
            stock.add(0);
            futex::expire();
            stock.add(0);
        });
        waiter.act();
        let waited = stock.changed.wait_timeout_while(stock.lock(), Duration::ZERO, |left| *left == 0);
        let (guard, outcome) = waited.unwrap();
        assert!(outcome.timed_out() && *guard == 0);
        assert!(matches!(stock.left.try_lock(), Err(LockError::WouldBlock)));
        drop(guard);
        locking.join().unwrap();
    });
}

/// The notification may go to the one who dies; what it had been woken for is still there.
#[test]
fn the_notification_of_a_waiter_who_dies_reaches_the_other() {
    let points = [
        "condvar.wait.after_mark",
        "condvar.wait.after_unlock",
        "condvar.wait.after_wait",
        "condvar.notify_one.before_wake",
        "condvar.notify_one.after_wake",
    ];
    explore_deaths(1, &points, |at| {
        let (region, [survivor, victim, producer]) = processes();
        let stock = Stock::new();
        let keeper = keeper(&survivor);
        // Whoever finds something leaves it there and passes the news on.
        let (waiting, place) = spawn_mortal_with(&victim, at, &stock, move |stock| {
            drop(stock.wait_for(1));
            stock.changed.notify_one();
        });
        let producing = spawn_with(&producer, &stock, |stock| stock.produce(1, Condvar::notify_one));
        survivor.act();
        drop(stock.wait_for(1));
        // In case it was this one who was notified.
        stock.changed.notify_one();
        [waiting, producing].into_iter().for_each(|thread| thread.join().unwrap());
        end(&region, [keeper]);
        *place.lock().unwrap()
    });
}

/// It makes the condition true and dies while it tells; or it dies before, of which the condition asks, too.
#[test]
fn the_death_of_a_notifier_anywhere_ends_the_wait() {
    for all in [false, true] {
        let points = if all {
            ["producer.before_lock", "condvar.notify_all.before_wake", "condvar.notify_all.after_wake"]
        } else {
            ["producer.before_lock", "condvar.notify_one.before_wake", "condvar.notify_one.after_wake"]
        };
        explore_deaths(2, &points, move |at| {
            let (region, [survivor, victim]) = processes();
            let stock = Stock::new();
            let keeper = keeper(&survivor);
            let token = victim.token();
            let (producing, place) = spawn_mortal_with(&victim, at, &stock, move |stock| {
                crash_point!("producer.before_lock");
                stock.add(1);
                if all { stock.changed.notify_all() } else { stock.changed.notify_one() }
            });
            survivor.act();
            let site = Site::of(&stock.changed).unwrap();
            let waited = stock.changed.wait_while(stock.lock(), |left| *left == 0 && site.is_alive(token));
            let guard = waited.or_else(LockError::into_guard).unwrap();
            drop(guard);
            producing.join().unwrap();
            end(&region, [keeper]);
            *place.lock().unwrap()
        });
    }
}
