//! Making a region, of 4 KiB up to what `/dev/shm` permits.
//!
//! The names are removed by a janitor, a process that outlives this one, whatever ends it.

use std::ffi::CString;
use std::io;
use std::ptr;
use std::time::{Duration, Instant};

use shmkit::Region;

use crate::figure::{Comparison, Figure, Figures, SUBJECT};
use crate::janitor::{self, Janitor};
#[cfg(feature = "peers")]
use crate::peers::shared_memory;
use crate::pin::{self, Pinned};
use crate::proc;
use crate::stats::{self, Candidate, Plan};

/// The name of the case.
pub const NAME: &str = "region/create";

/// The sizes, those of them that there is room for.
pub const SIZES: [(&str, usize); 7] = [
    ("4 KiB", 4 << 10),
    ("64 KiB", 64 << 10),
    ("1 MiB", 1 << 20),
    ("16 MiB", 16 << 20),
    ("256 MiB", 256 << 20),
    ("1 GiB", 1 << 30),
    ("4 GiB", 4 << 30),
];

/// The name of the bare calls in results.
pub const BARE: &str = "shm_open, fallocate, mmap";

/// What must be left besides.
const HEADROOM: u64 = 256 << 20;
/// What a sample makes, unless one region is larger.
const AT_ONCE: usize = 64 << 20;

const ROWS: &[Comparison] = &[
    Comparison::listed(BARE),
    #[cfg(feature = "peers")]
    Comparison::listed(shared_memory::NAME),
];

/// How to run the case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rounds; each takes one sample of every candidate.
    pub plan: Plan,
    /// How many regions a sample makes, one after the other; large ones less often.
    pub turns: u32,
    /// No larger ones than that.
    pub most: usize,
}

/// Makes and removes regions of all sizes that there is room for.
///
/// # Errors
/// Those of making regions and of starting the janitor; `InvalidInput` for too few rounds.
pub fn run(settings: &Settings) -> io::Result<Figures> {
    stats::check_rounds(settings.plan.rounds)?;
    let scene = Scene::prepare()?;
    let mut figures = Vec::new();
    let is_possible = |size: usize| size <= settings.most && scene.has_room_for(size);
    for (label, size) in SIZES.into_iter().filter(|&(_, size)| is_possible(size)) {
        let all = stats::interleave(&settings.plan, scene.candidates(size, settings.turns))?;
        figures.push(Figure::of_rounds(format!("make and remove a region, {label}"), "us", all, ROWS));
    }
    let conditions = format!(
        "named, in /dev/shm; {} MiB are free; ours and the bare calls reserve the memory; the process has another region open, so its keeper runs; nothing is written to \
         the memory by the process; {} regions per sample, large ones less often, in a thread pinned to CPU {}",
        scene.room >> 20,
        settings.turns,
        scene.cpu
    );
    Ok(Figures { figures, conditions })
}

/// What all candidates need. The calling thread is pinned as long as it lives.
pub struct Scene {
    names: [String; 3],
    room: u64,
    cpu: usize,
    // Dropped before the janitor is.
    _pinned: Pinned,
    _other: Region,
    _janitor: Janitor,
}

impl Scene {
    /// Starts the janitor and the keeper, and pins the calling thread.
    ///
    /// # Errors
    /// Those of starting them.
    pub fn prepare() -> io::Result<Self> {
        let names = ["ours", "bare", "peer"].map(|whose| janitor::own_name(format_args!("create-{whose}")));
        let janitor = Janitor::start(&names)?;
        // Before the thread is pinned: its keeper serves later cases, too.
        let other = Region::anonymous(1).map_err(io::Error::other)?;
        let cpu = pin::Pair::choose()?.first;
        let pinned = pin::pin_to(cpu)?;
        let room = room()?.min(proc::memory_available()?);
        Ok(Scene { names, room, cpu, _pinned: pinned, _other: other, _janitor: janitor })
    }

    /// Whether a region of that size may be made, with all else that goes on.
    pub fn has_room_for(&self, size: usize) -> bool {
        size as u64 + HEADROOM <= self.room
    }

    /// All candidates, which make `turns` regions per sample, large ones less often, and say how many microseconds one takes.
    pub fn candidates(&self, size: usize, turns: u32) -> Vec<Candidate<'_, f64>> {
        let [ours, bare, peer] = &self.names;
        let turns = turns.min((AT_ONCE / size) as u32).max(1);
        #[cfg(not(feature = "peers"))]
        let _ = peer;
        vec![
            candidate(BARE, turns, move || make_bare(bare, size)),
            candidate(SUBJECT, turns, move || {
                Region::create(ours, size).map(drop).map_err(io::Error::other)?;
                Region::unlink(ours).map_err(io::Error::other)
            }),
            #[cfg(feature = "peers")]
            candidate(shared_memory::NAME, turns, move || shared_memory::create(peer, size)),
        ]
    }
}

fn candidate<'a>(name: &'static str, turns: u32, make: impl Fn() -> io::Result<()> + 'a) -> Candidate<'a, f64> {
    Candidate::new(name, move || {
        let mut total = Duration::ZERO;
        for _ in 0..turns {
            let begin = Instant::now();
            make()?;
            total += begin.elapsed();
        }
        Ok(total.as_secs_f64() * 1e6 / f64::from(turns))
    })
}

/// How much is free in `/dev/shm`, in bytes.
fn room() -> io::Result<u64> {
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string, and `found` is writable and large enough; the kernel fills it when it returns 0.
    let found = unsafe {
        if libc::statvfs(c"/dev/shm".as_ptr(), found.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        found.assume_init()
    };
    Ok(found.f_bavail * found.f_frsize)
}

/// The least that a named region takes, with its memory reserved: or whoever writes to it later may be killed.
fn make_bare(name: &str, size: usize) -> io::Result<()> {
    let name = CString::new(format!("/{name}"))?;
    let check = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: the name is a C string; the mapping is a new one at an address of the kernel's choice, and unmapped as it was
    // mapped; the descriptor is closed once.
    unsafe {
        let file = libc::shm_open(name.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, 0o600);
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        let reserved = libc::posix_fallocate(file, 0, size as libc::off_t);
        let reserved = if reserved == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(reserved)) };
        let made = reserved.and_then(|()| {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(ptr::null_mut(), size, protection, libc::MAP_SHARED, file, 0);
            if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { check(libc::munmap(start, size)) }
        });
        libc::close(file);
        made.and(check(libc::shm_unlink(name.as_ptr())))
    }
}
