//! Waiting for any of several things, in one process: primitives of the test's own, and other processes by their absence.

#![cfg(not(ipc_loom))]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use shmkit_core::wait::{Armed, FutexWord, MAX_SOURCES, Source, wake_all};
use shmkit_core::{Deadline, Error, Region, wait_any};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// Ready when the word is not 0. Counts what it is told, the arming for others to see.
struct Flag<'a> {
    word: &'a AtomicU32,
    armed: &'a AtomicU32,
    disarmed: u32,
    is_unsettled: bool,
}

impl<'a> Flag<'a> {
    fn new(word: &'a AtomicU32, armed: &'a AtomicU32) -> Self {
        Self { word, armed, disarmed: 0, is_unsettled: false }
    }
}

impl Source for Flag<'_> {
    fn word(&self) -> &dyn FutexWord {
        self.word
    }

    fn is_ready(&mut self) -> bool {
        self.word.load(Acquire) != 0
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.armed.fetch_add(1, Relaxed);
        Ok(Armed::at(0).unsettled(self.is_unsettled))
    }

    fn disarm(&mut self, _may_be_woken: bool) {
        self.disarmed += 1;
    }
}

/// Has one thing to say.
struct Broken(AtomicU32);

impl Source for Broken {
    fn word(&self) -> &dyn FutexWord {
        &self.0
    }

    fn is_ready(&mut self) -> bool {
        false
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        Err(Error::Corrupted { what: "test", found: 7 })
    }

    fn disarm(&mut self, _may_be_woken: bool) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Panics when it is to be armed.
struct Panicking(AtomicU32);

impl Source for Panicking {
    fn word(&self) -> &dyn FutexWord {
        &self.0
    }

    fn is_ready(&mut self) -> bool {
        false
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        panic!("as the test wants it")
    }

    fn disarm(&mut self, _may_be_woken: bool) {}
}

fn raise(word: &AtomicU32) {
    word.store(1, Release);
    wake_all(word);
}

fn refs<'a, S: Source>(sources: &'a mut [S]) -> Vec<&'a mut (dyn Source + 'a)> {
    sources.iter_mut().map(|source| source as &mut dyn Source).collect()
}

#[test]
fn what_is_ready_is_found_without_a_sleep_and_the_first_comes_first() {
    let (words, armed) = ([0, 1, 1].map(AtomicU32::new), AtomicU32::new(0));
    let mut flags = words.each_ref().map(|word| Flag::new(word, &armed));

    assert_eq!(wait_any(&mut refs(&mut flags), None).expect("one is ready"), Some(1));
    assert_eq!(wait_any(&mut refs(&mut flags[..2]), Deadline::after(Duration::ZERO)).expect("one is"), Some(1));
    assert_eq!((armed.load(Relaxed), flags.map(|flag| flag.disarmed)), (0, [0; 3]));
}

#[test]
fn whichever_comes_first_ends_the_wait_in_a_region_in_another_and_in_none() {
    let regions = [(); 2].map(|()| Region::anonymous(4096).expect("a region"));
    let inside = regions.each_ref().map(|region| region.insert("word", AtomicU32::new(0)).expect("room"));
    let outside = AtomicU32::new(0);
    let words: [&AtomicU32; 3] = [&inside[0], &inside[1], &outside];

    for (index, word) in words.into_iter().enumerate() {
        let armed = AtomicU32::new(0);
        thread::scope(|scope| {
            let mut flags = words.map(|word| Flag::new(word, &armed));
            let waiter = scope.spawn(move || {
                let ready = wait_any(&mut refs(&mut flags), Deadline::after(LONG)).expect("tokens");
                (ready, flags.map(|flag| flag.disarmed))
            });
            while armed.load(Relaxed) < 3 {
                thread::yield_now();
            }
            raise(word);
            let (ready, disarmed) = waiter.join().expect("no panic");
            assert_eq!(ready, Some(index));
            assert_eq!(disarmed, [1; 3]);
        });
        word.store(0, Relaxed);
    }
}

#[test]
fn as_many_sources_as_there_can_be_each_in_a_region_of_its_own_and_no_more() {
    let regions: Vec<Region> = (0..MAX_SOURCES).map(|_| Region::anonymous(4096).expect("a region")).collect();
    let insert = |region: &Region| region.insert("word", AtomicU32::new(0)).expect("room");
    let words: Vec<_> = regions.iter().map(insert).collect();
    let armed = AtomicU32::new(0);
    let mut flags: Vec<Flag<'_>> = words.iter().map(|word| Flag::new(word, &armed)).collect();

    thread::scope(|scope| {
        let flags = &mut flags;
        let waiter = scope.spawn(move || wait_any(&mut refs(flags), Deadline::after(LONG)));
        raise(&words[MAX_SOURCES - 1]);
        assert_eq!(waiter.join().expect("no panic").expect("tokens"), Some(MAX_SOURCES - 1));
    });

    flags.push(Flag::new(&words[0], &armed));
    let refused = wait_any(&mut refs(&mut flags), None);
    assert!(matches!(refused, Err(Error::TooManySources { asked: 65, max: 64 })), "{refused:?}");
}

#[test]
fn a_deadline_ends_the_wait_and_not_before_also_with_a_nap_before_each_sleep() {
    let region = Region::anonymous(4096).expect("a region");
    let inside = region.insert("word", AtomicU32::new(0)).expect("room");
    let (outside, armed) = (AtomicU32::new(0), AtomicU32::new(0));
    for is_unsettled in [false, true] {
        let mut flags = [&*inside, &outside].map(|word| Flag::new(word, &armed));
        flags[1].is_unsettled = is_unsettled;
        let start = Instant::now();

        assert_eq!(wait_any(&mut refs(&mut flags), Deadline::after(SHORT)).expect("tokens"), None);

        assert!(start.elapsed() >= SHORT && start.elapsed() < LONG, "{:?}", start.elapsed());
        assert_eq!(flags.map(|flag| flag.disarmed), [1; 2]);
    }
}

#[test]
fn without_sources_there_is_nothing_to_wait_for() {
    assert_eq!(wait_any(&mut [], None).expect("nothing fails"), None);
}

#[test]
fn what_is_wrong_with_one_source_ends_the_wait_and_all_are_disarmed() {
    let (word, armed) = (AtomicU32::new(0), AtomicU32::new(0));
    let (mut flag, mut broken) = (Flag::new(&word, &armed), Broken(AtomicU32::new(0)));

    let ended = wait_any(&mut [&mut flag, &mut broken], None);

    assert!(matches!(ended, Err(Error::Corrupted { what: "test", found: 7 })), "{ended:?}");
    assert_eq!((armed.load(Relaxed), flag.disarmed, broken.0.load(Relaxed)), (1, 1, 1));
}

#[test]
fn the_same_word_can_be_waited_for_twice() {
    let region = Region::anonymous(4096).expect("a region");
    let word = region.insert("word", AtomicU32::new(0)).expect("room");
    let armed = AtomicU32::new(0);
    let mut flags = [Flag::new(&word, &armed), Flag::new(&word, &armed)];

    thread::scope(|scope| {
        let flags = &mut flags;
        let waiter = scope.spawn(move || wait_any(&mut refs(flags), Deadline::after(LONG)));
        word.fetch_update(AcqRel, Acquire, |_| Some(1)).expect("always");
        wake_all(&*word);
        assert_eq!(waiter.join().expect("no panic").expect("tokens"), Some(0));
    });
}

#[test]
fn this_process_is_a_participant_by_its_id_and_no_peer_of_its_own() {
    let region = Region::anonymous(4096).expect("a region");

    let own = region.peer(std::process::id()).expect("it takes part");

    assert!(own.is_alive());
    assert!(!own.wait_timeout(Duration::from_millis(1)).expect("a token"));
    assert_eq!(own.info(), &region.participants()[0]);
    assert!(region.peers().is_empty());
    // The first process of the namespace has nothing to do with it.
    assert!(region.peer(0).is_none());
}

/// A wake-up that was meant for another one may have been spent on the thread.
#[test]
fn a_panic_in_one_source_leaves_no_other_armed() {
    let (word, armed) = (AtomicU32::new(0), AtomicU32::new(0));
    let mut flag = Flag::new(&word, &armed);

    let ended = catch_unwind(AssertUnwindSafe(|| {
        wait_any(&mut [&mut flag, &mut Panicking(AtomicU32::new(0))], Deadline::after(LONG))
    }));

    assert!(ended.is_err());
    assert_eq!((armed.load(Relaxed), flag.disarmed), (1, 1));
}
