//! Sending and receiving: each side under its lock, and asleep while there is nothing to do.

use core::slice;

use bytemuck::Pod;
use shmkit_core::spin::{spin, spin_briefly};
use shmkit_core::wait::Site;
use shmkit_core::{Deadline, Described, Error, crash_point};

use super::layout::{Position, Ring};
use super::sleepers::{Awake, Sleepers};
use super::turn::Turn;
use crate::ends::Ended;

/// Who waits.
#[derive(Clone, Copy, Debug)]
enum Side {
    Producers,
    Consumers,
}

/// Why a message was not sent or received at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Obstacle {
    /// The queue is full, or there is no message.
    NotReady,
    /// Something that those find out about who take all steps: it is another one's turn, the queue is closed, there is garbage, this is a child that was
    /// forked meanwhile.
    Other,
}

impl From<Error> for Obstacle {
    #[inline]
    fn from(_: Error) -> Self {
        Self::Other
    }
}

/// Messages that have been copied out and not been received yet. If it is dropped, they stay where they are.
pub(super) struct Taking<'a, T: Pod + Described> {
    ring: &'a Ring<T>,
    turn: Turn<'a>,
    /// Where the next message is after that.
    received: Position,
    count: usize,
}

impl<T: Pod + Described> Taking<'_, T> {
    /// Receives them; says how many. In a child that was forked meanwhile they are its parent's.
    #[inline]
    pub(super) fn finish(self) -> Result<usize, Ended> {
        let Self { ring, turn, received, count } = self;
        crash_point!("queue.recv.before_received");
        turn.check()?;
        ring.set_received(received);
        crash_point!("queue.recv.after_received");
        drop(turn);
        crash_point!("queue.recv.after_unlock");
        ring.shared.producers_asleep.tell(count as u32);
        Ok(count)
    }
}

/// How much room a spinning producer waits for.
const ROOM: u32 = 128;

/// From which look on any room will do: about half of those that there are before a sleep.
const LATE: u32 = 256;

/// For how many pauses a consumer that follows closely stays behind: about a tenth of a microsecond, in which a producer sends some ten messages.
const BEHIND: u32 = 4;

/// How often one who waits may come too late before it sleeps.
const LOST_RACES: u32 = 10;

impl<T: Pod + Described> Ring<T> {
    /// Sends as many of the messages as there is room for, from the first on; says how many. Waits for its turn until `deadline`. The end is
    /// [`Ended::Gone`] if the queue is closed.
    #[inline]
    pub(super) fn put(&self, messages: &[T], deadline: Option<Deadline>) -> Result<usize, Ended> {
        let head = &*self.shared;
        let turn = Turn::take(&head.producers, deadline)?;
        if head.is_closed() {
            return Err(Ended::Gone);
        }
        if turn.is_after_death() {
            self.mend(&turn)?;
        }
        let mut sent = self.sent()?;
        let mut rest = messages;
        while !rest.is_empty() {
            turn.check()?;
            let room = match self.room(sent, &turn) {
                Ok(room) => room,
                Err(error) if rest.len() == messages.len() => return Err(error.into()),
                // What is wrong will still be so at the next call.
                Err(_) => 0,
            };
            if room == 0 {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(Self::left(sent).min(room) as usize));
            self.store(sent, now);
            crash_point!("queue.send.after_copy");
            turn.check()?;
            self.publish(sent, now.len() as u32);
            crash_point!("queue.send.after_header");
            turn.check()?;
            sent = self.advance(sent, now.len() as u32);
            self.set_sent(sent);
            crash_point!("queue.send.after_sent");
            rest = later;
        }
        drop(turn);
        let done = messages.len() - rest.len();
        if done > 0 {
            crash_point!("queue.send.after_unlock");
            head.consumers_asleep.tell(done as u32);
        }
        Ok(done)
    }

    /// Sends a message if nothing is in the way. As [`put`](Self::put), with fewer steps.
    #[inline]
    pub(super) fn put_at_once(&self, message: &T) -> Result<(), Obstacle> {
        let head = &*self.shared;
        let turn = Turn::take_at_once(&head.producers).ok_or(Obstacle::Other)?;
        let sent = self.sent()?;
        if head.is_closed() {
            return Err(Obstacle::Other);
        }
        turn.check()?;
        self.has_room(sent, &turn)?;
        self.prepare(sent, &turn);
        self.store(sent, slice::from_ref(message));
        crash_point!("queue.send.after_copy");
        turn.check()?;
        self.publish(sent, 1);
        crash_point!("queue.send.after_header");
        turn.check()?;
        self.set_sent(self.advance(sent, 1));
        crash_point!("queue.send.after_sent");
        drop(turn);
        crash_point!("queue.send.after_unlock");
        head.consumers_asleep.tell(1);
        Ok(())
    }

    /// Makes `sent` what the headers say.
    #[cold]
    fn mend(&self, turn: &Turn) -> Result<(), Error> {
        let sent = self.really_sent()?;
        crash_point!("queue.send.before_mending");
        turn.check()?;
        self.set_sent(sent);
        crash_point!("queue.send.after_mending");
        Ok(())
    }

    /// Copies out as many messages as there are and fit into `messages`; they are received when that is [finished](Taking::finish). `None` if
    /// there are none. The end is [`Ended::Gone`] if there are none and the queue is closed.
    #[inline]
    pub(super) fn begin_to_take(
        &self,
        messages: &mut [T],
        deadline: Option<Deadline>,
    ) -> Result<Option<Taking<'_, T>>, Ended> {
        let head = &*self.shared;
        let turn = Turn::take(&head.consumers, deadline)?;
        let mut received = self.received()?;
        let mut count = 0;
        while count < messages.len() {
            // Before the look for messages: if it was closed then, this one sees the last.
            let is_closed = count == 0 && head.is_closed();
            let more = match self.available(received) {
                Ok(0) if is_closed => return Err(Ended::Gone),
                Ok(more) => more,
                Err(error) if count == 0 => return Err(error.into()),
                // What is wrong will still be so at the next call.
                Err(_) => 0,
            };
            if more == 0 {
                break;
            }
            let more = (messages.len() - count).min(more as usize);
            self.load(received, &mut messages[count..count + more]);
            received = self.advance(received, more as u32);
            count += more;
        }
        Ok((count > 0).then_some(Taking { ring: self, turn, received, count }))
    }

    /// Receives a message if nothing is in the way. As [`take`](Self::take), with fewer steps.
    #[inline]
    pub(super) fn take_at_once(&self) -> Result<T, Obstacle> {
        let head = &*self.shared;
        let turn = Turn::take_at_once(&head.consumers).ok_or(Obstacle::Other)?;
        let received = self.received()?;
        let available = self.available(received)?;
        if self.follows_closely(received, available) {
            let _ = spin_briefly(BEHIND, || None::<()>);
        }
        if available == 0 {
            self.found_none();
            // What was sent before it was closed may not have been seen.
            return Err(if head.is_closed() { Obstacle::Other } else { Obstacle::NotReady });
        }
        let mut message = T::zeroed();
        self.load(received, slice::from_mut(&mut message));
        crash_point!("queue.recv.after_copy");
        turn.check()?;
        self.set_received(self.advance(received, 1));
        crash_point!("queue.recv.after_received");
        drop(turn);
        crash_point!("queue.recv.after_unlock");
        head.producers_asleep.tell(1);
        Ok(message)
    }

    /// Receives as many messages as there are and fit into `messages`; says how many. The end is as above.
    #[inline]
    pub(super) fn take(&self, messages: &mut [T], deadline: Option<Deadline>) -> Result<usize, Ended> {
        self.begin_to_take(messages, deadline)?.map_or(Ok(0), Taking::finish)
    }

    /// Sends some of the messages, at least one, as soon as there is room.
    #[cold]
    pub(super) fn put_when_ready(&self, messages: &[T], deadline: Option<Deadline>) -> Result<usize, Ended> {
        let (done, awake) = self.wait(Side::Producers, deadline, || {
            let done = self.put(messages, deadline)?;
            Ok((done > 0).then_some(done))
        })?;
        awake.has_acted();
        Ok(done)
    }

    /// Begins to take messages, at least one, as soon as there are any. What comes along is to be told when that is finished.
    #[cold]
    pub(super) fn begin_when_ready(
        &self,
        messages: &mut [T],
        deadline: Option<Deadline>,
    ) -> Result<(Taking<'_, T>, Awake<'_>), Ended> {
        self.wait(Side::Consumers, deadline, || self.begin_to_take(messages, deadline))
    }

    /// Receives messages, at least one, as soon as there are any.
    #[cold]
    pub(super) fn take_when_ready(&self, messages: &mut [T], deadline: Option<Deadline>) -> Result<usize, Ended> {
        let (taking, awake) = self.begin_when_ready(messages, deadline)?;
        let count = taking.finish()?;
        awake.has_acted();
        Ok(count)
    }

    /// Attempts again whenever that may be of use, until it gives something.
    fn wait<R>(
        &self,
        side: Side,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut() -> Result<Option<R>, Ended>,
    ) -> Result<(R, Awake<'_>), Ended> {
        for _ in 0..LOST_RACES {
            let mut looks = 0;
            let look = || {
                looks += 1;
                self.is_worth_while(side, looks).then_some(())
            };
            if spin(look).is_none() {
                break;
            }
            if let Some(done) = attempt()? {
                return Ok((done, Awake::NOBODY));
            }
        }
        let attempt = |_: &Site| if self.may_act(side) { attempt() } else { Ok(None) };
        let (done, awake) = self.sleepers(side).wait(&*self.shared, deadline, attempt)?;
        Ok((done, awake))
    }

    /// Whether to stop spinning, at this look (from 1). A producer that is faster than the consumers lets some room come about: if it took each place
    /// as soon as that is free, every message would cost both sides the transfer of a line. So does every look, so it makes few.
    fn is_worth_while(&self, side: Side, look: u32) -> bool {
        match side {
            Side::Producers => {
                let room = ROOM.min(self.capacity().div_ceil(4));
                look % room.div_ceil(4) == 0 && self.may_send(if look < LATE { room } else { 1 })
            }
            Side::Consumers => self.may_receive(),
        }
    }

    fn may_act(&self, side: Side) -> bool {
        match side {
            Side::Producers => self.may_send(1),
            Side::Consumers => self.may_receive(),
        }
    }

    fn sleepers(&self, side: Side) -> &Sleepers {
        match side {
            Side::Producers => &self.shared.producers_asleep,
            Side::Consumers => &self.shared.consumers_asleep,
        }
    }

    /// Ends the sending and tells everybody.
    pub(super) fn close(&self) -> Result<(), Error> {
        let head = &*self.shared;
        match Turn::take(&head.producers, None) {
            Ok(turn) => {
                if turn.is_after_death() {
                    // Nobody will come who would do it later. What cannot be mended does not matter any more.
                    let _ = self.mend(&turn);
                }
                turn.check()?;
                head.close();
                crash_point!("queue.close.after_state");
            }
            Err(Ended::Failed(error)) => return Err(error),
            // There was no deadline.
            Err(Ended::TimedOut | Ended::Gone) => {}
        }
        crash_point!("queue.close.after_unlock");
        for sleepers in [&head.producers_asleep, &head.consumers_asleep] {
            sleepers.tell_all();
        }
        Ok(())
    }
}
