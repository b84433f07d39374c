//! Running models: every order, every place to die at.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use loom::thread::{self, JoinHandle};

use super::model::{Attachment, Process};

/// Runs `model` in every order with at most `preemptions` preemptions, or fewer if `LOOM_MAX_PREEMPTIONS` says so.
///
/// There must be more than one: a model whose threads never meet has proven nothing.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    assert!(count_orders(preemptions, model) > 1, "the threads of this model never meet");
}

/// Runs `model`, whose threads come one after the other.
pub fn follow(model: impl Fn() + Send + Sync + 'static) {
    assert_eq!(count_orders(1, model), 1, "more than one order: this is to be explored");
}

/// Runs `model` in every order; says how many those were.
fn count_orders(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = Some(builder.preemption_bound.map_or(preemptions, |bound| bound.min(preemptions)));
    let orders = Arc::new(AtomicUsize::new(0));
    let of_model = Arc::clone(&orders);
    builder.check(move || {
        of_model.fetch_add(1, Relaxed);
        model();
    });
    orders.load(Relaxed)
}

/// Explores `model` with each crash point as the one to die at, as long as there are any. It returns the point where its victim
/// died, if that came so far. Each of `points` must have been among them, and some of the cases must have more than one order.
pub fn explore_deaths(
    preemptions: usize,
    points: &[&'static str],
    model: impl Fn(i64) -> Option<&'static str> + Send + Sync + 'static,
) {
    let model = Arc::new(model);
    let visited = Arc::new(Mutex::new(BTreeSet::new()));
    let mut orders = 0;
    let mut cases = 0;
    for at in 1.. {
        let before = Arc::new(Mutex::new(false));
        let (of_model, of_visited, of_before) = (Arc::clone(&model), Arc::clone(&visited), Arc::clone(&before));
        cases += 1;
        orders += count_orders(preemptions, move || {
            if let Some(point) = of_model(at) {
                of_visited.lock().unwrap().insert(point);
                *of_before.lock().unwrap() = true;
            }
        });
        if !*before.lock().unwrap() {
            break;
        }
    }
    assert!(orders > cases, "the threads of this model never meet");
    let visited = visited.lock().unwrap();
    for point in points {
        assert!(visited.contains(point), "nobody died at {point}, only at {visited:?}");
    }
}

/// As many processes as are asked for, all in one region, which they have joined one after the other.
pub fn processes<const N: usize>() -> (Arc<Attachment>, [Process; N]) {
    let region = Attachment::new(N);
    let processes = std::array::from_fn(|i| Process::join(&region, i as u64 + 1));
    (region, processes)
}

/// Starts the keeper of `process`.
pub fn keeper(process: &Process) -> JoinHandle<()> {
    let process = process.clone();
    thread::spawn(move || {
        process.act();
        process.keep();
    })
}

/// Ends the model: every survivor has come to its end, and what is left to do makes no difference.
pub fn end(region: &Attachment, threads: impl IntoIterator<Item = JoinHandle<()>>) {
    loom::skip_branch();
    region.end();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Where somebody died, once its thread has been joined.
pub type Place = Arc<Mutex<Option<&'static str>>>;

/// Starts a thread that acts for `process` and dies at the crash point number `at`, from 1; 0: it lives.
pub fn spawn_mortal(process: &Process, at: i64, life: impl FnOnce() + 'static) -> (JoinHandle<()>, Place) {
    let place = Place::default();
    let (of_thread, process) = (Arc::clone(&place), process.clone());
    let thread = thread::spawn(move || {
        let died = process.live_until(at, life);
        *of_thread.lock().unwrap() = died;
    });
    (thread, place)
}

/// The same with something that it shares with others.
pub fn spawn_mortal_with<T: 'static>(
    process: &Process,
    at: i64,
    shared: &Arc<T>,
    life: impl FnOnce(&T) + 'static,
) -> (JoinHandle<()>, Place) {
    let shared = Arc::clone(shared);
    spawn_mortal(process, at, move || life(&shared))
}

/// Starts a thread that acts for `process`.
pub fn spawn(process: &Process, life: impl FnOnce() + 'static) -> JoinHandle<()> {
    let process = process.clone();
    thread::spawn(move || {
        process.act();
        life();
    })
}

/// The same with something that it shares with others.
pub fn spawn_with<T: 'static>(process: &Process, shared: &Arc<T>, life: impl FnOnce(&T) + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    spawn(process, move || life(&shared))
}
