//! The pipes of the soak: each has one sender and one receiver at a time, and whoever finds an end of a dead takes it.
//!
//! Messages are numbered and carry a sum of their bytes. A sender notes a number before it sends, so its successor goes on behind it,
//! whether that was sent or not. A receiver notes a number after it has received it, so its successor knows what must not come again, but not
//! whether the next one came. So a number may be missing for each death.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use shmkit::{ChannelOptions, Endpoint, Error, OpenError, Receiver, RecvError, SendError, Sender, ShmSafe};

use super::Random;
use super::acts::{Violation, failed};
use super::world::World;

/// How many pipes there are.
pub const LINES: usize = 3;

/// How many messages fit into each: little, so that senders wait, too.
const CAPACITY: u64 = 10;

/// How long to wait for what may never come.
const PATIENCE: Duration = Duration::from_millis(20);

/// A message: its number, what it is filled with, and the sum of both.
type Message = [u64; 6];

/// What is known of a pipe.
#[repr(C)]
#[derive(Debug, ShmSafe)]
pub struct Log {
    /// The last number that somebody was about to send. Written by the sender.
    sent: AtomicU64,
    /// The last number that was received. Written by the receiver.
    received: AtomicU64,
    /// How many owners its ends had had when that number was received. Written by the receiver.
    owners_then: AtomicU64,
    /// How many have had one of its ends. Written by each.
    owners: AtomicU64,
}

impl Log {
    pub(super) fn new() -> Self {
        let [sent, received, owners_then, owners] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { sent, received, owners_then, owners }
    }

    /// What must hold in the end.
    pub(super) fn balance(&self) -> Result<(), Violation> {
        let (sent, received) = (self.sent.load(SeqCst), self.received.load(SeqCst));
        if received > sent {
            return Err(format!("{sent} messages were sent, {received} received"));
        }
        Ok(())
    }
}

/// The ends that a worker has. They are kept as long as it lives: an end that is dropped is closed for all.
#[derive(Debug, Default)]
pub struct Lines {
    senders: [Option<Sender<Message>>; LINES],
    receivers: [Option<Receiver<Message>>; LINES],
}

fn message(number: u64) -> Message {
    let mut message = [number; 6];
    (1..5).for_each(|at| message[at] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32));
    message[5] = message[..5].iter().fold(0, |sum, word| sum.wrapping_mul(31).wrapping_add(*word));
    message
}

/// Opens an end, and makes the pipe if there is none yet; `None` if another one has the end.
fn open<E: Endpoint>(world: &World, line: usize) -> Result<Option<E>, Violation> {
    let (region, name) = (&world.region, format!("line-{line}"));
    let opened = match E::open_in(region, &name) {
        Err(OpenError::Failed(Error::NoSuchObject { .. })) => {
            ChannelOptions::new().capacity(CAPACITY).successors(true).create_in(region, &name)
        }
        opened => opened,
    };
    match opened {
        Ok(end) => Ok(Some(end)),
        // Of two who make it at once, one does.
        Err(OpenError::Taken | OpenError::Failed(Error::ObjectExists { .. })) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Lines {
    /// Sends a few messages through one of the pipes, if this worker has its sender or nobody has.
    pub(super) fn send(&mut self, world: &World, random: &mut Random) -> Result<(), Violation> {
        let line = random.below(LINES as u64) as usize;
        let log = &world.lines[line];
        let slot = &mut self.senders[line];
        if slot.is_none() {
            *slot = open(world, line)?;
            log.owners.fetch_add(u64::from(slot.is_some()), SeqCst);
        }
        let Some(sender) = slot else { return Ok(()) };
        for _ in 0..1 + random.below(20) {
            let number = log.sent.load(SeqCst) + 1;
            log.sent.store(number, SeqCst);
            match sender.send_timeout(message(number), random.time(PATIENCE)) {
                Ok(()) => {}
                Err(SendError::TimedOut(_) | SendError::Disconnected(_)) => {
                    // It was not sent, and nobody else sends.
                    log.sent.store(number - 1, SeqCst);
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Receives a few messages from one of the pipes, if this worker has its receiver or nobody has.
    pub(super) fn receive(&mut self, world: &World, random: &mut Random) -> Result<(), Violation> {
        let line = random.below(LINES as u64) as usize;
        let log = &world.lines[line];
        let slot = &mut self.receivers[line];
        if slot.is_none() {
            *slot = open(world, line)?;
            log.owners.fetch_add(u64::from(slot.is_some()), SeqCst);
        }
        let Some(receiver) = slot else { return Ok(()) };
        for _ in 0..1 + random.below(20) {
            let received = match receiver.recv_timeout(random.time(PATIENCE)) {
                Ok(received) => received,
                Err(RecvError::TimedOut | RecvError::Disconnected) => return Ok(()),
                Err(error) => return Err(failed(error)),
            };
            let (number, last) = (received[0], log.received.load(SeqCst));
            if received != message(number) {
                return Err(format!("a torn message in line {line}: {received:?}"));
            }
            if number <= last || number > log.sent.load(SeqCst) {
                return Err(format!("message {number} of line {line} comes after {last}"));
            }
            let owners = log.owners.load(SeqCst);
            let (missing, deaths) = (number - last - 1, owners - log.owners_then.load(SeqCst));
            if missing > deaths {
                return Err(format!(
                    "message {number} of line {line} comes after {last}, with {deaths} deaths in between"
                ));
            }
            log.received.store(number, SeqCst);
            log.owners_then.store(owners, SeqCst);
        }
        Ok(())
    }
}
