//! The pipes of the soak, for messages of one size and for frames: each has one sender and one receiver at a time, and whoever finds an end of a
//! dead takes it.
//!
//! Messages are numbered, and all that is in one follows from its number. A sender notes a number before it sends, so its successor goes on behind it,
//! whether that was sent or not. A receiver notes a number after it has received it, so its successor knows what must not come again, but not
//! whether the next one came. So a number may be missing for each death.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use shmkit::{
    ByteReceiver, ByteSender, ChannelOptions, Endpoint, Error, OpenError, Receiver, RecvError, SendError, Sender,
    ShmSafe,
};

use super::Random;
use super::acts::{Violation, failed};
use super::world::World;

/// How many pipes there are of each kind.
const OF_EACH: usize = 3;

/// How many there are.
pub const LINES: usize = 2 * OF_EACH;

/// How many messages fit into one: little, so that senders wait, too.
const CAPACITY: u64 = 10;

/// The size of one for frames, in bytes, and the longest frame.
const FRAME_CAPACITY: u64 = 2048;
const LONGEST: u64 = 3 * FRAME_CAPACITY;

/// How long to wait for what may never come.
const PATIENCE: Duration = Duration::from_millis(20);

/// A message: its number, which of the senders has sent it, what it is filled with, and the sum of all.
type Message = [u64; 6];

/// The number of a message, and which of the senders has sent it.
type Label = [u64; 2];

/// What is known of a pipe.
#[repr(C)]
#[derive(Debug, ShmSafe)]
pub struct Log {
    /// The last number that somebody was about to send. Written by the sender.
    sent: AtomicU64,
    /// The last number that was received. Written by the receiver.
    received: AtomicU64,
    /// Which of the senders had sent that. Written by the receiver.
    sender_then: AtomicU64,
    /// How many receivers there had been then. Written by the receiver.
    receivers_then: AtomicU64,
    /// How many senders there have been. Written by each.
    senders: AtomicU64,
    /// How many receivers there have been. Written by each.
    receivers: AtomicU64,
}

impl Log {
    pub(super) fn new() -> Self {
        let [sent, received, sender_then, receivers_then, senders, receivers] =
            std::array::from_fn(|_| AtomicU64::new(0));
        Self { sent, received, sender_then, receivers_then, senders, receivers }
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

fn message([number, sender]: Label) -> Message {
    let mut message = [number, sender, 0, 0, 0, 0];
    (2..5).for_each(|at| message[at] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32));
    message[5] = message[..5].iter().fold(0, |sum, word| sum.wrapping_mul(31).wrapping_add(*word));
    message
}

/// The label, and as many bytes behind it as follow from it.
fn frame(label: Label) -> Vec<u8> {
    let mut random = Random::new(label[0]);
    let len = size_of::<Label>() + random.below(LONGEST) as usize;
    let mut frame: Vec<u8> = label.iter().flat_map(|word| word.to_le_bytes()).collect();
    frame.resize_with(len, || random.below(256) as u8);
    frame
}

/// An end that sends what goes by a label.
trait Sends: Endpoint {
    /// Sends it; says whether it was sent.
    fn send(&mut self, label: Label, patience: Duration) -> Result<bool, Violation>;
}

/// An end that receives such.
trait Receives: Endpoint {
    /// Receives one, whole, and says its label; `None` if none comes.
    fn receive(&mut self, patience: Duration) -> Result<Option<Label>, Violation>;
}

fn is_sent<T>(sent: Result<(), SendError<T>>) -> Result<bool, Violation> {
    match sent {
        Ok(()) => Ok(true),
        Err(SendError::TimedOut(_) | SendError::Disconnected(_)) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn received<T>(received: Result<T, RecvError>) -> Result<Option<T>, Violation> {
    match received {
        Ok(message) => Ok(Some(message)),
        Err(RecvError::TimedOut | RecvError::Disconnected) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Sends for Sender<Message> {
    fn send(&mut self, label: Label, patience: Duration) -> Result<bool, Violation> {
        is_sent(self.send_timeout(message(label), patience))
    }
}

impl Receives for Receiver<Message> {
    fn receive(&mut self, patience: Duration) -> Result<Option<Label>, Violation> {
        match received(self.recv_timeout(patience))? {
            Some(whole) if whole == message([whole[0], whole[1]]) => Ok(Some([whole[0], whole[1]])),
            Some(torn) => Err(format!("a torn message: {torn:?}")),
            None => Ok(None),
        }
    }
}

impl Sends for ByteSender {
    fn send(&mut self, label: Label, patience: Duration) -> Result<bool, Violation> {
        is_sent(self.send_timeout(&frame(label), patience))
    }
}

impl Receives for ByteReceiver {
    fn receive(&mut self, patience: Duration) -> Result<Option<Label>, Violation> {
        let Some(whole) = received(self.recv_timeout(patience))? else {
            return Ok(None);
        };
        let word = |at| whole.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word));
        let label = [word(0), word(8)];
        if whole == frame(label) { Ok(Some(label)) } else { Err(format!("a torn frame of {} bytes", whole.len())) }
    }
}

/// Opens an end, and makes the pipe if there is none yet; `None` if another one has the end.
fn open<E: Endpoint>(world: &World, line: usize, capacity: u64) -> Result<Option<E>, Violation> {
    let (region, name) = (&world.region, format!("line-{line}"));
    let opened = match E::open_in(region, &name) {
        Err(OpenError::Failed(Error::NoSuchObject { .. })) => {
            ChannelOptions::new().capacity(capacity).successors(true).create_in(region, &name)
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

/// An end, and the how-manieth owner of it this worker is.
type Slot<E> = Option<(E, u64)>;

/// The ends that a worker has. They are kept as long as it lives: an end that is dropped is closed for all.
#[derive(Debug, Default)]
pub struct Lines {
    senders: [Slot<Sender<Message>>; OF_EACH],
    receivers: [Slot<Receiver<Message>>; OF_EACH],
    frame_senders: [Slot<ByteSender>; OF_EACH],
    frame_receivers: [Slot<ByteReceiver>; OF_EACH],
}

impl Lines {
    /// Sends a few messages through one of the pipes, if this worker has its sender or nobody has.
    pub(super) fn send(&mut self, world: &World, random: &mut Random) -> Result<(), Violation> {
        let line = random.below(OF_EACH as u64) as usize;
        if random.below(2) == 0 {
            send_some(&mut self.senders[line], world, line, CAPACITY, random)
        } else {
            send_some(&mut self.frame_senders[line], world, OF_EACH + line, FRAME_CAPACITY, random)
        }
    }

    /// Receives a few messages from one of the pipes, if this worker has its receiver or nobody has.
    pub(super) fn receive(&mut self, world: &World, random: &mut Random) -> Result<(), Violation> {
        let line = random.below(OF_EACH as u64) as usize;
        if random.below(2) == 0 {
            receive_some(&mut self.receivers[line], world, line, CAPACITY, random)
        } else {
            receive_some(&mut self.frame_receivers[line], world, OF_EACH + line, FRAME_CAPACITY, random)
        }
    }
}

/// Opens the end in `slot` if it is empty, and counts it among its `owners`.
fn fill<'a, E: Endpoint>(
    slot: &'a mut Slot<E>,
    world: &World,
    line: usize,
    capacity: u64,
    owners: &AtomicU64,
) -> Result<Option<&'a mut (E, u64)>, Violation> {
    if slot.is_none() {
        *slot = open(world, line, capacity)?.map(|end| (end, owners.fetch_add(1, SeqCst) + 1));
    }
    Ok(slot.as_mut())
}

fn send_some<S: Sends>(
    slot: &mut Slot<S>,
    world: &World,
    line: usize,
    capacity: u64,
    random: &mut Random,
) -> Result<(), Violation> {
    let log = &world.lines[line];
    let Some((sender, me)) = fill(slot, world, line, capacity, &log.senders)? else { return Ok(()) };
    for _ in 0..1 + random.below(20) {
        let number = log.sent.load(SeqCst) + 1;
        log.sent.store(number, SeqCst);
        if !sender.send([number, *me], random.time(PATIENCE))? {
            // It was not sent, and nobody else sends.
            log.sent.store(number - 1, SeqCst);
            break;
        }
    }
    Ok(())
}

fn receive_some<R: Receives>(
    slot: &mut Slot<R>,
    world: &World,
    line: usize,
    capacity: u64,
    random: &mut Random,
) -> Result<(), Violation> {
    let log = &world.lines[line];
    let Some((receiver, me)) = fill(slot, world, line, capacity, &log.receivers)? else { return Ok(()) };
    for _ in 0..1 + random.below(20) {
        let Some([number, sender]) = receiver.receive(random.time(PATIENCE))? else { break };
        let last = log.received.load(SeqCst);
        if number <= last || number > log.sent.load(SeqCst) {
            return Err(format!("message {number} of line {line} comes after {last}"));
        }
        let deaths_of_senders = sender.saturating_sub(log.sender_then.load(SeqCst));
        let deaths_of_receivers = *me - log.receivers_then.load(SeqCst);
        let (missing, deaths) = (number - last - 1, deaths_of_senders + deaths_of_receivers);
        if missing > deaths {
            return Err(format!("message {number} of line {line} comes after {last}, with {deaths} deaths in between"));
        }
        log.received.store(number, SeqCst);
        log.sender_then.store(sender, SeqCst);
        log.receivers_then.store(*me, SeqCst);
    }
    Ok(())
}
