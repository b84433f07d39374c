//! Messages: what carries them, and what a team does with them.
//!
//! A candidate is a [`Carrier`]: it has lanes, each with a sender and a receiver for one kind of message. What
//! the members do is an [`Act`], the same for all candidates: one message there and back ([`RoundTrip`]), or as
//! many as go from one half of the members to the other ([`Stream`]). Every message is numbered, and every
//! receiver looks at the numbers: nothing is measured that loses or reorders anything.
//!
//! [`Cast`] brings the two together, for processes and, in
//! [`Threads`](crate::peers::threads::Threads), for threads.

use std::hint;
use std::io;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use crate::peers::threads::Threaded;
use crate::shared::Line;
use crate::team::{MOST, Place, Play, Seat};

/// What can be sent.
pub trait Message {
    /// Writes `number` into all of it that tells messages apart.
    fn stamp(&mut self, number: u64);

    /// Reads it back.
    fn number(&self) -> u64;
}

impl Message for u64 {
    #[inline(always)]
    fn stamp(&mut self, number: u64) {
        *self = number;
    }

    #[inline(always)]
    fn number(&self) -> u64 {
        *self
    }
}

/// A record of 48 bytes: with a header it fits into a line.
pub type Note = [u8; 48];

impl Message for Note {
    #[inline(always)]
    fn stamp(&mut self, number: u64) {
        self.as_mut_slice().stamp(number);
    }

    #[inline(always)]
    fn number(&self) -> u64 {
        self.as_slice().number()
    }
}

/// A frame of bytes: numbered in its first eight and, unless they are the same, in its last eight.
impl Message for [u8] {
    #[inline(always)]
    fn stamp(&mut self, number: u64) {
        let bytes = number.to_ne_bytes();
        *self.first_chunk_mut().expect("eight bytes at least") = bytes;
        *self.last_chunk_mut().expect("eight bytes at least") = bytes;
    }

    #[inline(always)]
    fn number(&self) -> u64 {
        let first = u64::from_ne_bytes(*self.first_chunk().expect("eight bytes at least"));
        let last = u64::from_ne_bytes(*self.last_chunk().expect("eight bytes at least"));
        // No number that is ever stamped, where the frame is of two halves.
        if first == last { first } else { u64::MAX }
    }
}

/// A batch of messages that are sent by one call.
impl Message for [u64] {
    #[inline(always)]
    fn stamp(&mut self, number: u64) {
        for (message, index) in self.iter_mut().zip(0..) {
            *message = number + index;
        }
    }

    #[inline(always)]
    fn number(&self) -> u64 {
        let first = self[0];
        let wrong = self.iter().zip(first..).fold(0, |wrong, (message, expected)| wrong | (message ^ expected));
        if wrong == 0 { first } else { u64::MAX }
    }
}

/// A kind of message, and where one is kept while it is made or looked at.
pub trait Kind: 'static {
    /// What is sent.
    type Message: Message + ?Sized;

    /// Lends a message of zero bytes.
    fn lend(act: impl FnOnce(&mut Self::Message));
}

/// Messages of a fixed type.
pub struct Typed<M>(PhantomData<M>);

impl Kind for Typed<u64> {
    type Message = u64;

    fn lend(act: impl FnOnce(&mut u64)) {
        act(&mut 0);
    }
}

impl Kind for Typed<Note> {
    type Message = Note;

    fn lend(act: impl FnOnce(&mut Note)) {
        act(&mut [0; 48]);
    }
}

/// Frames of `SIZE` bytes.
pub struct Frame<const SIZE: usize>;

impl<const SIZE: usize> Kind for Frame<SIZE> {
    type Message = [u8];

    fn lend(act: impl FnOnce(&mut [u8])) {
        act(&mut vec![0; SIZE]);
    }
}

/// Batches of `COUNT` numbers.
pub struct Batch<const COUNT: usize>;

impl<const COUNT: usize> Kind for Batch<COUNT> {
    type Message = [u64];

    fn lend(act: impl FnOnce(&mut [u64])) {
        act(&mut [0; COUNT]);
    }
}

/// One end, which sends.
pub trait Sending<M: ?Sized>: 'static {
    /// Sends a message, and waits for room if there is none. Always inlined where a message is small, as what it calls is in code of users; so is
    /// [`receive`](Receiving::receive).
    ///
    /// # Panics
    /// If the candidate reports an error that no measured case can cause.
    fn send(&mut self, message: &M);
}

/// The other end, which receives.
pub trait Receiving<M: ?Sized>: 'static {
    /// Waits for a message that is as long as `message`, and copies it there.
    ///
    /// # Panics
    /// If the candidate reports an error that no measured case can cause.
    fn receive(&mut self, message: &mut M);
}

/// Waits before it looks again, where looking is the only way to wait.
///
/// How long decides how fast a stream is: who looks often takes away the line that the other side writes to,
/// once a message; who looks seldom finds many. So such candidates are given what was found to be best for them.
#[inline(always)]
pub fn pause<const PAUSES: u32>() {
    for _ in 0..PAUSES {
        hint::spin_loop();
    }
}

/// Carries messages of one kind along lanes of one direction each: lane 0 from the first members to the
/// others, lane 1 from member 1 to member 0.
pub trait Carrier<M: ?Sized>: 'static {
    /// Sends along a lane.
    type Sender: Sending<M>;
    /// Receives along a lane.
    type Receiver: Receiving<M>;

    /// Gets a sender, once for each member that sends. May wait for the receiver of the lane.
    ///
    /// # Errors
    /// Those of getting it.
    fn sender(&self, lane: usize) -> io::Result<Self::Sender>;

    /// Gets a receiver, once for each member that receives. May wait for the sender of the lane.
    ///
    /// # Errors
    /// Those of getting it.
    fn receiver(&self, lane: usize) -> io::Result<Self::Receiver>;
}

/// What the members of a team do with messages of kind `K` that `C` carries.
pub trait Act<K: Kind, C>: 'static {
    /// As [`Play::IS_LATENCY`].
    const IS_LATENCY: bool = false;

    /// What a member has for it.
    type Role: 'static;

    /// Gets what the member of `seat` has.
    ///
    /// # Errors
    /// Those of the carrier.
    fn role(carrier: &C, seat: Seat) -> io::Result<Self::Role>;

    /// Does `turns` turns.
    fn act(role: &mut Self::Role, turns: u64);
}

/// One message goes from member 0 to member 1, who sends what it got back; a turn is there and back.
pub struct RoundTrip;

/// Both ends of a member of a [`RoundTrip`].
pub struct Ends<S, R> {
    sender: S,
    receiver: R,
    begins: bool,
}

impl<K: Kind, C: Carrier<K::Message>> Act<K, C> for RoundTrip {
    const IS_LATENCY: bool = true;

    type Role = Ends<C::Sender, C::Receiver>;

    fn role(carrier: &C, seat: Seat) -> io::Result<Self::Role> {
        let begins = seat.member == 0;
        // In the same order of lanes on both sides, where one waits for the other.
        let (sender, receiver) = if begins {
            let sender = carrier.sender(0)?;
            (sender, carrier.receiver(1)?)
        } else {
            let receiver = carrier.receiver(0)?;
            (carrier.sender(1)?, receiver)
        };
        Ok(Ends { sender, receiver, begins })
    }

    fn act(role: &mut Self::Role, turns: u64) {
        let Ends { sender, receiver, begins } = role;
        if *begins {
            K::lend(|message| {
                for turn in 0..turns {
                    message.stamp(turn);
                    sender.send(message);
                    receiver.receive(message);
                    assert_eq!(message.number(), turn, "what was sent comes back");
                }
            });
        } else {
            K::lend(|message| {
                for _ in 0..turns {
                    receiver.receive(message);
                    sender.send(message);
                }
            });
        }
    }
}

/// The first half of the members send as fast as they can, the other half receive; a turn is a message of each.
pub struct Stream;

/// What a member of a [`Stream`] has.
pub enum OneEnd<S, R> {
    /// One of the first half.
    Sends(S),
    /// One of the other half, and whether all messages come to it, in order.
    Receives(R, bool),
}

impl<K: Kind, C: Carrier<K::Message>> Act<K, C> for Stream {
    type Role = OneEnd<C::Sender, C::Receiver>;

    fn role(carrier: &C, seat: Seat) -> io::Result<Self::Role> {
        if seat.member < seat.members / 2 {
            carrier.sender(0).map(OneEnd::Sends)
        } else {
            carrier.receiver(0).map(|receiver| OneEnd::Receives(receiver, seat.members == 2))
        }
    }

    fn act(role: &mut Self::Role, turns: u64) {
        K::lend(|message| match role {
            OneEnd::Sends(sender) => {
                for turn in 0..turns {
                    message.stamp(turn);
                    sender.send(message);
                }
            }
            OneEnd::Receives(receiver, true) => {
                for turn in 0..turns {
                    receiver.receive(message);
                    assert_eq!(message.number(), turn, "messages come in order");
                }
            }
            OneEnd::Receives(receiver, false) => {
                for _ in 0..turns {
                    receiver.receive(message);
                    assert!(message.number() < turns, "messages come whole");
                }
            }
        });
    }
}

/// A carrier, and the roles that members have got so far.
pub struct Cast<A: Act<K, C>, K: Kind, C> {
    carrier: C,
    // On lines of their own: threads write to them in every turn.
    roles: [Line<Mutex<Option<A::Role>>>; MOST],
}

impl<A: Act<K, C>, K: Kind, C> Cast<A, K, C> {
    fn with(carrier: C) -> Self {
        Cast { carrier, roles: [const { Line(Mutex::new(None)) }; MOST] }
    }

    /// Gives whoever sits there a role, unless it has one, and lets it do `turns` turns.
    fn act(&self, seat: Seat, turns: u64) {
        let mut role = self.roles[seat.member].0.lock().unwrap_or_else(PoisonError::into_inner);
        let role = role.get_or_insert_with(|| A::role(&self.carrier, seat).expect("the ends of a carrier"));
        A::act(role, turns);
    }
}

impl<A: Act<K, C>, K: Kind, C: Place> Place for Cast<A, K, C> {
    fn create(members: usize) -> io::Result<Self> {
        Ok(Self::with(C::create(members)?))
    }

    fn address(&self) -> String {
        self.carrier.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Ok(Self::with(C::attach(address)?))
    }
}

impl<A: Act<K, C>, K: Kind, C: Place> Play for Cast<A, K, C> {
    const IS_LATENCY: bool = A::IS_LATENCY;

    fn prepare(&self, seat: Seat) {
        self.act(seat, 0);
    }

    fn play(&self, seat: Seat, turns: u64) {
        self.act(seat, turns);
    }
}

impl<A, K, C> Threaded for Cast<A, K, C>
where
    A: Act<K, C, Role: Send>,
    K: Kind,
    C: Default + Sync + Send + 'static,
{
    const IS_LATENCY: bool = A::IS_LATENCY;

    fn create() -> Self {
        Self::with(C::default())
    }

    fn play(&self, seat: Seat, turns: u64) {
        self.act(seat, turns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_that_was_stamped_is_read_back() {
        let (mut frame, mut batch) = ([0u8; 100], [0u64; 8]);
        frame.as_mut_slice().stamp(7);
        batch.as_mut_slice().stamp(7);
        assert_eq!((frame.as_slice().number(), batch.as_slice().number()), (7, 7));
    }

    #[test]
    fn frame_of_two_halves_has_no_number_of_either() {
        let mut frame = [0u8; 100];
        frame.as_mut_slice().stamp(7);
        frame[99] ^= 1;
        assert_eq!(frame.as_slice().number(), u64::MAX);
    }

    #[test]
    fn batch_out_of_order_has_no_number() {
        let mut batch = [0u64; 8];
        batch.as_mut_slice().stamp(7);
        batch.swap(3, 4);
        assert_eq!(batch.as_slice().number(), u64::MAX);
    }
}
