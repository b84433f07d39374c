//! Somebody who scribbles: a process writes whatever it likes into a region, at full speed, while another one uses everything in it that is
//! to be had among peers that are not trusted.
//!
//! `SHMKIT_SCRIBBLE_SECONDS` says for how long, other than for some seconds.

mod common;

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use shmkit::{
    Array, BytePipe, ByteReceiver, ByteSender, ChannelOptions, Event, Pipe, QueueOptions, Receiver, RegionOptions,
    Semaphore, Sender, SharedArray, Shm, UntrustedEnd, UntrustedEvent, UntrustedQueue, UntrustedRegion,
    UntrustedSemaphore,
};

use common::{Child, Parent, Party, Random, Stage, fork, now_ns, party, prompt, receive_fd, roles, send_fd, until};

roles!(party, victim, burdened);

/// The longest that a call may take that was to take a millisecond, on a machine that does other things as well, in ticks of the [metronome].
const BOUND: u64 = 500;

/// How often the metronome has ticked.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// How long the waits are to be.
const MOMENT: Duration = Duration::from_millis(1);

/// How long one region is scribbled on.
const ROUND: Duration = Duration::from_millis(30);

/// The size of the region.
const SIZE: usize = 1 << 16;

fn duration() -> Duration {
    let seconds = std::env::var("SHMKIT_SCRIBBLE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(Duration::from_millis(1500), Duration::from_secs)
}

// The scribbler.

/// A region's file, mapped by one who knows nothing of the library.
struct Prey {
    base: *mut u8,
    len: usize,
}

impl Prey {
    fn map(file: &File) -> Self {
        let len = file.metadata().expect("its size").len() as usize;
        // SAFETY: a new mapping; nothing else is touched.
        let base = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base: base.cast(), len }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(8 * index + 8 <= self.len);
        // SAFETY: inside the mapping, by the assertion, and aligned; nobody here has another reference to it.
        unsafe { &*self.base.add(8 * index).cast() }
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        // SAFETY: ours, and nobody uses it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Scribbles over each region whose file comes over the socket, until the next one comes.
fn scribble(socket: &UnixStream) {
    let mut random = Random::new();
    loop {
        let file = File::from(receive_fd(socket.as_fd()));
        let prey = Prey::map(&file);
        let words = prey.len / 8;
        // The table of participants with all before it, the directory with all that is in it, or everything.
        let table = (384 + 16 * 72) / 8;
        let (area, at_full_speed): (Range<usize>, _) = match random.below(6) {
            0 => (0..table, true),
            1 => (table..words / 3, true),
            2 => (0..words, true),
            // Slowly: so others come further before they meet with it.
            _ => (table - 64..words / 3, false),
        };
        let tokens = [384 / 8, 384 / 8 + 1];
        while !has_come(socket) {
            // In one place for a while: others meet with several changes that belong together.
            let start = area.start + random.below((area.end - area.start) as u64) as usize;
            let window = (start..(start + 32).min(area.end)).len() as u64;
            for _ in 0..200 {
                let index = start + random.below(window) as usize;
                let word = prey.word(index);
                let old = word.load(Relaxed);
                word.store(
                    match random.below(16) {
                        0 => 0,
                        1 => random.below(u64::MAX),
                        2 => old ^ (1 << random.below(64)),
                        3 => old.wrapping_add(8 << random.below(10)),
                        4 => old.wrapping_sub(1 + random.below(64)),
                        5 => 1 << 31,
                        6 => u64::MAX << random.below(33),
                        // Of one who takes part, of nobody, and as if it slept.
                        7 => prey.word(tokens[random.below(2) as usize]).load(Relaxed),
                        8 => (random.below(1 << 36) << 28) | 1,
                        9 => old | 1,
                        // A place before, or the same: directories that lead back, rings that do not end.
                        10 => (index as u64 * 8).saturating_sub(random.below(512)),
                        11 => (random.below(64) << 36) | (random.below(16) << 32) | random.below(300),
                        // What counts messages and bytes, in a header that is right otherwise.
                        12 => old ^ (1 << random.below(12)),
                        13 => old | 0x3f,
                        14 => (old & !0xffff_ffff) | random.below(1 << 13),
                        _ => old.wrapping_add(1),
                    },
                    Relaxed,
                );
                if !at_full_speed {
                    random.pause(Duration::from_micros(100));
                }
            }
            if random.below(200) == 0 {
                // SAFETY: no memory of ours is touched. What was there is zero then.
                unsafe {
                    let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                    libc::fallocate(file.as_raw_fd(), hole, 4096 * random.below(16) as libc::off_t, 4096);
                }
            }
        }
    }
}

fn has_come(socket: &UnixStream) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd that lives over the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

// The one who uses the region.

/// Ticks every 10 milliseconds while this process runs: what stands still because all of the process was stopped, or the machine, does not hang.
fn metronome() {
    loop {
        thread::sleep(Duration::from_millis(10));
        TICKS.fetch_add(1, Relaxed);
    }
}

/// What a thread of the victim does again and again; each call is to end soon.
struct Clock {
    longest: Duration,
    calls: u64,
}

impl Clock {
    /// Makes a call, which may give whatever it gives.
    fn time<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let (start, tick) = (Instant::now(), TICKS.load(Relaxed));
        let result = call();
        let (took, ticks) = (start.elapsed(), TICKS.load(Relaxed) - tick);
        assert!(ticks < BOUND, "a call took {took:?}, and {ticks} ticks");
        self.longest = self.longest.max(took);
        self.calls += 1;
        result
    }
}

type Way = (UntrustedEnd<Sender<[u64; 3]>>, UntrustedEnd<Receiver<[u64; 3]>>);
type Bytes = (UntrustedEnd<ByteSender>, UntrustedEnd<ByteReceiver>);
type Act<'a> = Box<dyn FnMut(&mut Clock) + Send + 'a>;

/// A region, and one of each that is to be had there.
struct Furniture {
    region: UntrustedRegion,
    semaphore: Shm<UntrustedSemaphore>,
    events: [Shm<UntrustedEvent>; 2],
    array: SharedArray<u32>,
    fixed: Shm<Array<[u8; 24], 40>>,
    way: Way,
    pipe: [UntrustedEnd<Pipe<[u8; 30]>>; 2],
    bytes: Bytes,
    frames: [UntrustedEnd<BytePipe>; 2],
    queue: UntrustedQueue<[u64; 2]>,
}

impl Furniture {
    fn new() -> Self {
        let region = RegionOptions::new().participants(16).anonymous_untrusted(SIZE).expect("a region");
        let semaphore = Semaphore::bounded(1, 1000).expect("a bound");
        let event = |name, event| region.insert(name, UntrustedEvent::from(event)).expect("room");
        let mut channels = ChannelOptions::new();
        channels.successors(true).capacity(30);
        let way = channels.create_in_untrusted(&region, "way").expect("room");
        let pipe = channels.create_in_untrusted(&region, "pipe").expect("room");
        channels.capacity(2000);
        let bytes = channels.create_in_untrusted(&region, "bytes").expect("room");
        let frames = channels.create_in_untrusted(&region, "frames").expect("room");
        Self {
            semaphore: region.insert("semaphore", UntrustedSemaphore::from(semaphore)).expect("room"),
            events: [event("event", Event::new()), event("auto", Event::auto_reset())],
            array: region.insert_array("array", 1000).expect("room"),
            fixed: region.insert("fixed", Array::default()).expect("room"),
            way: (way, UntrustedEnd::open_in(&region, "way").expect("the other end")),
            pipe: [pipe, UntrustedEnd::open_in(&region, "pipe").expect("the other end")],
            bytes: (bytes, UntrustedEnd::open_in(&region, "bytes").expect("the other end")),
            frames: [frames, UntrustedEnd::open_in(&region, "frames").expect("the other end")],
            queue: QueueOptions::new().capacity(30).create_in_untrusted(&region, "queue").expect("room"),
            region,
        }
    }

    /// Uses all of it for a while, all ways at once; says how long the longest call of each way took, and how many there were.
    fn use_for(self, time: Duration) -> [Clock; 6] {
        let Self { region, semaphore, events, array, fixed, mut way, mut pipe, mut bytes, mut frames, queue } = self;
        let end = Instant::now() + time;
        thread::scope(|scope| {
            let acts: [Act<'_>; 6] = [
                Box::new(|clock| open_and_look(&region, clock)),
                Box::new(|clock| {
                    permit(&semaphore, clock);
                    events.iter().for_each(|event| signal(event, clock));
                }),
                Box::new(|clock| copy(&array, &fixed, clock)),
                Box::new(|clock| message(&mut way, &mut pipe, clock)),
                Box::new(|clock| frame(&mut bytes, &mut frames, clock)),
                Box::new(|clock| pass(&queue, clock)),
            ];
            let again_and_again = |mut act: Act<'_>| {
                let mut clock = Clock { longest: Duration::ZERO, calls: 0 };
                while Instant::now() < end {
                    act(&mut clock);
                }
                clock
            };
            let threads = acts.map(|act| scope.spawn(move || again_and_again(act)));
            threads.map(|thread| thread.join().expect("no panic"))
        })
    }
}

/// Opens everything, and looks at everything.
fn open_and_look(region: &UntrustedRegion, clock: &mut Clock) {
    drop(clock.time(|| region.objects()));
    drop(clock.time(|| region.participants()));
    drop(clock.time(|| UntrustedRegion::from_fd(region.as_fd().try_clone_to_owned().expect("a descriptor"))));
    drop(clock.time(|| region.get::<UntrustedEvent>("event")));
    drop(clock.time(|| region.get_array::<u32>("array", 1000)));
    drop(clock.time(|| UntrustedEnd::<Sender<[u64; 3]>>::open_in(region, "way")));
    drop(clock.time(|| UntrustedEnd::<BytePipe>::succeed_in(region, "frames")));
    drop(clock.time(|| UntrustedQueue::<[u64; 2]>::open_in(region, "queue")));
    // A lock that is kept by somebody is waited for, for a second.
    drop(clock.time(|| region.insert("another", AtomicU64::new(7))));
}

fn permit(semaphore: &UntrustedSemaphore, clock: &mut Clock) {
    let _ = clock.time(|| semaphore.try_acquire());
    let _ = clock.time(|| semaphore.release_many(3));
    drop(clock.time(|| semaphore.acquire_timeout(MOMENT)));
    drop(clock.time(|| semaphore.acquire_many_timeout(2, MOMENT)));
}

fn signal(event: &UntrustedEvent, clock: &mut Clock) {
    drop(clock.time(|| event.wait_timeout(MOMENT)));
    clock.time(|| event.set());
    clock.time(|| event.try_wait());
    clock.time(|| event.reset());
}

fn copy(array: &SharedArray<u32>, fixed: &Array<[u8; 24], 40>, clock: &mut Clock) {
    let values = clock.time(|| array.to_vec());
    assert_eq!(values.len(), 1000);
    clock.time(|| array.copy_from_slice(&values)).expect("as long");
    clock.time(|| array.fetch_add(7, 1, Relaxed)).expect("in range");
    clock.time(|| fixed.fill([3; 24]));
    assert_eq!(clock.time(|| fixed.to_vec()).len(), 40);
}

fn message((sender, receiver): &mut Way, [one, other]: &mut [UntrustedEnd<Pipe<[u8; 30]>>; 2], clock: &mut Clock) {
    drop(clock.time(|| sender.try_send([1; 3])));
    drop(clock.time(|| sender.try_send_slice(&[[2; 3]; 9])));
    drop(clock.time(|| receiver.try_recv_slice(&mut [[0; 3]; 7])));
    drop(clock.time(|| receiver.recv_timeout(MOMENT)));
    drop(clock.time(|| receiver.poll(MOMENT)));
    drop(clock.time(|| sender.send_timeout([4; 3], MOMENT)));
    clock.time(|| sender.is_closed() && receiver.is_closed());
    drop(clock.time(|| one.send_timeout([0; 30], MOMENT)));
    drop(clock.time(|| other.recv_timeout(MOMENT)));
    drop(clock.time(|| other.try_send([0; 30])));
    drop(clock.time(|| one.try_recv()));
}

fn frame((sender, receiver): &mut Bytes, [one, other]: &mut [UntrustedEnd<BytePipe>; 2], clock: &mut Clock) {
    for len in [0, 1, 50, 900, 2000, 10_000, 8, 0, 600, 3] {
        drop(clock.time(|| sender.try_send(&vec![7; len])));
        drop(clock.time(|| receiver.try_recv()));
        drop(clock.time(|| sender.send_timeout(&vec![8; len], MOMENT)));
        drop(clock.time(|| receiver.recv_timeout(MOMENT)));
        drop(clock.time(|| receiver.recv_into_timeout(&mut [0; 1000], MOMENT)));
        drop(clock.time(|| receiver.poll(MOMENT)));
        drop(clock.time(|| one.send_timeout(&vec![9; len], MOMENT)));
        drop(clock.time(|| other.recv_timeout(MOMENT)));
    }
}

fn pass(queue: &UntrustedQueue<[u64; 2]>, clock: &mut Clock) {
    drop(clock.time(|| queue.send_timeout([1, 2], MOMENT)));
    drop(clock.time(|| queue.try_send([1, 2])));
    drop(clock.time(|| queue.recv_timeout(MOMENT)));
    drop(clock.time(|| queue.try_recv()));
    clock.time(|| (queue.len(), queue.is_closed()));
}

/// The memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let sizes = std::fs::read_to_string("/proc/self/statm").expect("a size");
    4096 * sizes.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
}

// Uses one region after the other while a child of its own scribbles on it, and waits for the mutex of the stage meanwhile.
fn victim(parent: &mut Parent) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let _scribbler = fork(move || scribble(&theirs));
    let stage = Stage::open(parent.argument(0));
    let end = Instant::now() + duration();
    let mut before = 0;
    thread::spawn(metronome);
    thread::scope(|scope| {
        let locker = scope.spawn(|| format!("{} {}", stage.mutex.lock().is_err(), now_ns()));
        for round in 0.. {
            if Instant::now() > end && round > 15 && locker.is_finished() {
                break;
            }
            let furniture = Furniture::new();
            send_fd(ours.as_fd(), furniture.region.as_fd());
            let clocks = furniture.use_for(ROUND);
            let told: Vec<_> = clocks.iter().map(|clock| format!("{} in {:?}", clock.calls, clock.longest)).collect();
            parent.say(told.join(", "));
            if round == 6 {
                before = resident();
                parent.say("go");
            }
        }
        parent.say("end");
        parent.say(locker.join().expect("no panic"));
    });
    parent.say(resident().saturating_sub(before));
}

/// Hears of round after round until `last` is said.
fn hear_until(victim: &mut Child, last: &str) {
    loop {
        match victim.hear() {
            line if line == last => return,
            line => println!("{line}"),
        }
    }
}

#[test]
fn whatever_a_peer_scribbles_nobody_crashes_hangs_grows_or_hears_late_of_deaths_elsewhere() {
    let stage = Stage::create();
    let mut owner = Party::join(&stage);
    assert_eq!(owner.ask("lock"), "ok");
    let mut victim = Child::spawn("victim", &[stage.name()]);
    hear_until(&mut victim, "go");
    // So nobody else is there who could tell of the death.
    let _name = stage.leave();

    let killed = owner.kill();

    hear_until(&mut victim, "end");
    assert_news(&victim.hear(), killed);
    let growth: u64 = victim.hear().parse().expect("a number");
    assert!(growth < 16 << 20, "the memory has grown by {growth} bytes");
    victim.finish();
}

/// With one more, as many regions as one keeper looks after.
const REGIONS: usize = 59;

/// The most participants that there can be in one.
const MOST: usize = 4096;

/// Says in all tables that everybody has just died, again and again.
fn cry_wolf(regions: &[UntrustedRegion]) {
    let file = |region: &UntrustedRegion| File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
    let prey: Vec<_> = regions.iter().map(|region| Prey::map(&file(region))).collect();
    let (roster, tokens) = ((256 + 64) / 8, 384 / 8);
    for round in 1_u64.. {
        for prey in &prey {
            for index in 1..MOST {
                // Liveness: the kernel has seen it die. Process id: that of the first process of all, which has not.
                prey.word(tokens + MOST + 8 * index).store((1 << 32) | 0xc000_0001, Relaxed);
                prey.word(tokens + index).store((round << 40) | ((index as u64) << 28), Relaxed);
            }
            prey.word(roster).fetch_add(1, Relaxed);
        }
    }
}

// Has many regions open in which somebody cries wolf, and waits for the mutex of the stage.
fn burdened(parent: &mut Parent) {
    let hostile = || RegionOptions::new().participants(MOST as u32).anonymous_untrusted(64).expect("a region");
    let regions: Vec<_> = (0..REGIONS).map(|_| hostile()).collect();
    let stage = Stage::open(parent.argument(0));
    let _wolf = fork(|| cry_wolf(&regions));
    until("all to be said dead", || regions.iter().all(|region| region.participants().len() > MOST / 2));
    parent.say("go");
    parent.say(format!("{} {}", stage.mutex.lock().is_err(), now_ns()));
}

#[test]
fn news_of_a_death_comes_at_once_however_many_are_said_to_have_died_in_hostile_regions() {
    let stage = Stage::create();
    let mut owner = Party::join(&stage);
    assert_eq!(owner.ask("lock"), "ok");
    let mut burdened = Child::spawn("burdened", &[stage.name()]);
    burdened.expect("go");
    burdened.until_asleep();
    // So nobody else is there who could tell of the death.
    let _name = stage.leave();

    let killed = owner.kill();

    assert_news(&burdened.hear(), killed);
    burdened.finish();
}

/// Whether an answer says that the lock came from a dead, soon after it was killed.
#[track_caller]
fn assert_news(answer: &str, killed: u64) {
    let (poisoned, at) = answer.split_once(' ').expect("two parts");
    assert_eq!(poisoned, "true");
    let took = Duration::from_nanos(at.parse::<u64>().expect("a time").saturating_sub(killed));
    println!("the news of a death in another region took {took:?}");
    assert!(took < prompt(), "the news of a death in another region took {took:?}");
}
