//! What works only between the threads of a process, in a team of processes: the first member does it
//! all, with a thread for each of the others.

use std::io;
use std::thread;

use crate::pin::pin_to;
use crate::team::{Place, Play, Seat};

/// What the threads of one process do.
pub trait Threaded: Sync + 'static {
    /// Makes what `members` threads use.
    fn create(members: usize) -> Self;

    /// Does `turns` turns as `member`.
    fn play(&self, member: usize, turns: u64);
}

/// A team in which only the first process has anything to do. The start of its threads counts.
pub struct Threads<T>(T);

impl<T: Threaded> Place for Threads<T> {
    fn create(members: usize) -> io::Result<Self> {
        Ok(Threads(T::create(members)))
    }

    /// The number of members: all that there is to know.
    fn address(&self) -> String {
        crate::team::MOST.to_string()
    }

    fn attach(address: &str) -> io::Result<Self> {
        let members = address.parse().map_err(io::Error::other)?;
        Self::create(members)
    }
}

impl<T: Threaded> Play for Threads<T> {
    fn play(&self, seat: Seat, turns: u64) {
        if seat.member > 0 {
            return;
        }
        thread::scope(|scope| {
            for member in 1..seat.members {
                scope.spawn(move || {
                    let _pinned = pin_to(seat.cpus[member % 2]).expect("pinning to an allowed CPU");
                    self.0.play(member, turns);
                });
            }
            self.0.play(0, turns);
        });
    }
}
