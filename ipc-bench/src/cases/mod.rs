//! The measured cases: each returns raw numbers per round and the conditions they were taken under.

pub mod array;
pub mod contention;
pub mod kill;
pub mod memory;
pub mod mutex;
pub mod open;
pub mod snapshot;

use std::io;
use std::process;

use crate::child::Orders;
use crate::soak::worker;
use crate::solo::Solo;
use crate::team::{self, Game};

/// The cases of one thread.
pub const SOLOS: &[&Solo] = &[&mutex::UNCONTENDED, &snapshot::READ];

/// The cases of several processes.
pub const GAMES: &[&Game] = &[];

/// Does what a child is for and ends the process, if it is a child; returns at once if not.
///
/// To be called first in `main`, before any thread is started.
pub fn run_role_if_child() {
    let done = match Orders::receive() {
        Ok(None) => return,
        Ok(Some(orders)) => run(&orders),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("shmkit-bench child: {error}");
            process::exit(1);
        }
    }
}

fn run(orders: &Orders) -> io::Result<()> {
    match orders.role() {
        contention::WORKER => contention::work_as_told(orders),
        kill::WAITER => kill::wait_as_told(orders),
        kill::VICTIM => kill::fall_as_told(orders),
        open::NEWCOMER => open::come_as_told(orders),
        worker::WORKER => worker::work_as_told(orders),
        open::JANITOR => open::clean_as_told(orders),
        team::MEMBER => {
            let name = orders.text("case")?;
            let case = GAMES.iter().find(|case| case.name == name).ok_or(io::ErrorKind::InvalidInput)?;
            case.play_as_told(orders)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a role that this binary does not have")),
    }
}

/// Finds the contender that a child was told to work with.
fn named<'a, C>(all: &'a [C], orders: &Orders, name: impl Fn(&C) -> &str) -> io::Result<&'a C> {
    let wanted = orders.text("lock")?;
    all.iter().find(|contender| name(contender) == wanted).ok_or_else(|| {
        let message = format!("no lock {wanted:?} in this case");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}
