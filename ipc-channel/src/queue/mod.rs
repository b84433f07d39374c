//! Queues: many producers, many consumers.
//!
//! Two locks around a ring: one producer at a time puts messages in, one consumer at a time takes them out, and the two do not
//! disturb each other. Each message is sent by one store and received by one store, so whoever takes a lock over from a dead finds the ring as
//! it was before that store, or as it was after.
//!
//! * `layout.rs`: what lies in shared memory, and who writes it;
//! * `turn.rs`: the lock of one side;
//! * `sleepers.rs`: the words that those sleep on for whom the queue is full or empty, or the lock taken;
//! * `algorithm.rs`: sending, receiving, waiting, closing.
//!
//! # A kill at each point
//!
//! | killed | what is left | what the others do |
//! |---|---|---|
//! | before it has the lock, or asleep | nothing; maybe a wake-up that it took along | the death wakes all |
//! | in `send`, before the header | bytes that no header counts | the next producer takes the lock over and writes over them |
//! | in `send`, between header and `sent` | the message is sent, `sent` is behind | consumers receive it; the next producer mends `sent` by the header |
//! | in `send`, before the unlock | the message is sent | the next producer takes the lock over |
//! | in `recv`, before `received` | nothing has changed | the next consumer takes the lock over and receives the same message |
//! | in `recv`, after `received` | the message was received | it died with its receiver |
//! | after the unlock, before it tells anybody | somebody may be asleep beside a message, or beside room | the death wakes all |
//! | in `close`, after the state | the queue is closed | the same |
//!
//! A process that is stopped (SIGSTOP) between lock and unlock keeps its side of the queue to itself until it goes on. These are some dozens of
//! instructions, and the copy.

mod algorithm;
mod layout;
#[cfg(not(ipc_loom))]
mod options;
mod sleepers;
mod turn;

use core::fmt;
use core::slice;
use core::time::Duration;
use std::time::Instant;

use bytemuck::Pod;
use shmkit_core::{Deadline, Described, Error, Tailed};

use self::algorithm::Obstacle;
use self::layout::{Head, Ring};
use self::sleepers::Awake;
use crate::ends::Ended;
use crate::error::{RecvError, SendError};

#[cfg(not(ipc_loom))]
pub use self::options::QueueOptions;

/// How long an operation that does not wait for messages or room waits for its turn, if somebody is stopped in the middle of theirs.
const TURN: Duration = Duration::from_millis(100);

/// A bounded queue for messages of type `T`, with any number of producers and consumers in any processes and threads.
///
/// A handle is neither a producer nor a consumer: whoever has one sends and receives. Clones denote the same queue, and a forked child may go on using
/// those that it inherits. Each message is received once, by one of those who receive; what one thread sends is received in that order.
///
/// # What a death means
///
/// A queue has no owners. That a producer or a consumer dies is not the end of it, even if nobody else is left: who wants an end
/// [closes](Self::close) it. A message is sent when `send` has returned, and received when `recv` has returned; a process that is killed within
/// either has done it or not, and nothing in between. What a consumer has received before it was killed is lost with it. If that
/// must not happen unnoticed, receive with [`recv_with`](Self::recv_with), and note down who has what.
///
/// # Examples
///
/// ```
/// use shmkit_channel::Queue;
///
/// # let name = format!("shmkit-doc-queue-{}", std::process::id());
/// # let name = name.as_str();
/// let jobs = Queue::<u64>::create(name, 100)?;
///
/// // In any other process:
/// let queue = Queue::<u64>::open(name)?;
/// queue.send(17)?;
/// queue.send_slice(&[18, 19])?;
/// queue.close()?;
///
/// // Wherever there is something to do:
/// assert_eq!(jobs.recv()?, 17);
/// assert_eq!(jobs.iter().sum::<u64>(), 18 + 19);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue<T: Pod + Described> {
    ring: Ring<T>,
}

impl<T: Pod + Described> Queue<T> {
    fn of(shared: Tailed<Head<T>>) -> Result<Self, Error> {
        Ring::new(shared).map(|ring| Self { ring })
    }

    /// What of it lies in shared memory.
    #[cfg(all(feature = "serde", not(ipc_loom)))]
    fn shared(&self) -> &Tailed<Head<T>> {
        &self.ring.shared
    }

    /// A queue for models.
    #[cfg(ipc_loom)]
    pub fn model(capacity: u64) -> Self {
        let bytes = Head::<T>::bytes(capacity).expect("a small one");
        Self::of(Tailed::new(Head::new(capacity), bytes)).expect("a sound one")
    }

    /// Sends a message.
    ///
    /// # Blocking
    ///
    /// While the queue is full: first looking for some microseconds where that pays (see [`spin`](mod@shmkit_core::spin)), then asleep.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the message was sent whole or not at all.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] if the queue is closed; [`SendError::Failed`].
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.ring.put_at_once(&message) {
            Ok(()) => Ok(()),
            Err(obstacle) => self.send_despite(obstacle, message, None),
        }
    }

    /// Sends a message, waiting for room for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and those of [`send`](Self::send).
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        match self.ring.put_at_once(&message) {
            Ok(()) => Ok(()),
            Err(obstacle) => self.send_despite(obstacle, message, Deadline::after(timeout)),
        }
    }

    /// Sends a message, waiting for room until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendError<T>> {
        self.send_timeout(message, deadline.saturating_duration_since(Instant::now()))
    }

    /// Sends a message if there is room for it.
    ///
    /// # Blocking
    ///
    /// While another one is just sending; for 100 milliseconds at most, if that one is stopped in the middle of it.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], and those of [`send`](Self::send).
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        match self.ring.put_at_once(&message) {
            Ok(()) => Ok(()),
            Err(Obstacle::NotReady) => Err(SendError::Full(message)),
            Err(Obstacle::Other) => self.try_send_slowly(message),
        }
    }

    /// Sends messages, one after the other. Those of others may come in between.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send), until all have been sent.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in this has sent some of them, from the first on.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), with the number of messages that have been sent.
    pub fn send_slice(&self, messages: &[T]) -> Result<(), SendError<usize>> {
        let mut sent = 0;
        while sent < messages.len() {
            let rest = &messages[sent..];
            let done = match self.ring.put(rest, None) {
                Ok(0) => self.ring.put_when_ready(rest, None),
                done => done,
            };
            sent += done.map_err(|ended| SendError::ended(sent, ended))?;
        }
        Ok(())
    }

    /// Sends as many of the messages as there is room for, from the first on; says how many.
    ///
    /// # Blocking
    ///
    /// As [`try_send`](Self::try_send).
    ///
    /// # Crash safety
    ///
    /// As for [`send_slice`](Self::send_slice).
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if there is no room for any; those of [`send`](Self::send). No message has been sent then.
    pub fn try_send_slice(&self, messages: &[T]) -> Result<usize, SendError<()>> {
        if messages.is_empty() {
            return Ok(0);
        }
        match self.ring.put(messages, Deadline::after(TURN)) {
            Ok(0) | Err(Ended::TimedOut) => Err(SendError::Full(())),
            Ok(sent) => Ok(sent),
            Err(ended) => Err(SendError::ended((), ended)),
        }
    }

    /// Receives a message.
    ///
    /// # Blocking
    ///
    /// While there is none: first looking for some microseconds where that pays (see [`spin`](mod@shmkit_core::spin)), then asleep.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the message was received, or another one receives it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] if the queue is closed and empty; [`RecvError::Failed`].
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        match self.ring.take_at_once() {
            Ok(message) => Ok(message),
            Err(obstacle) => self.recv_despite(obstacle, None),
        }
    }

    /// Receives a message, waiting for it for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`], and those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        match self.ring.take_at_once() {
            Ok(message) => Ok(message),
            Err(obstacle) => self.recv_despite(obstacle, Deadline::after(timeout)),
        }
    }

    /// Receives a message, waiting for it until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Receives a message if there is one.
    ///
    /// # Blocking
    ///
    /// While another one is just receiving; for 100 milliseconds at most, if that one is stopped in the middle of it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<T, RecvError> {
        // Those who ask again and again do not disturb each other.
        if !self.ring.may_receive() {
            self.ring.found_none();
            return Err(RecvError::Empty);
        }
        match self.ring.take_at_once() {
            Ok(message) => Ok(message),
            Err(Obstacle::NotReady) => Err(RecvError::Empty),
            Err(Obstacle::Other) => self.try_recv_slowly(),
        }
    }

    /// Receives as many messages as there are and fit into `messages`, at least one; says how many. A process killed in this has received all
    /// of them or none.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv), until there is one; not at all if `messages` is empty.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    pub fn recv_slice(&self, messages: &mut [T]) -> Result<usize, RecvError> {
        if messages.is_empty() {
            return Ok(0);
        }
        match self.ring.take(messages, None)? {
            0 => Ok(self.ring.take_when_ready(messages, None)?),
            count => Ok(count),
        }
    }

    /// Receives as many messages as there are and fit into `messages`, without waiting for any; says how many. A process killed in this has received
    /// all of them or none.
    ///
    /// # Blocking
    ///
    /// As [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    ///
    /// [`RecvError::Empty`], and those of [`recv`](Self::recv).
    pub fn try_recv_slice(&self, messages: &mut [T]) -> Result<usize, RecvError> {
        if messages.is_empty() {
            return Ok(0);
        }
        if !self.ring.may_receive() {
            return Err(RecvError::Empty);
        }
        match self.ring.take(messages, Deadline::after(TURN)) {
            Ok(0) | Err(Ended::TimedOut) => Err(RecvError::Empty),
            Ok(count) => Ok(count),
            Err(ended) => Err(ended.into()),
        }
    }

    /// Receives a message, after `note` has seen it. It is received when `note` returns.
    ///
    /// So what `note` does with it is done before anybody could lose it: a consumer that notes down in shared memory what it has got leaves,
    /// whenever it is killed, its message in the queue, or in the note, or in both.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv). As long as `note` runs, others wait who want to receive. It must not use the queue itself.
    ///
    /// # Crash safety
    ///
    /// A process that is killed in `note` has not received the message; another one does. So does another one after a panic in it.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv); [`Error::Forked`] in a child that is forked in `note` and returns from it: the message is its parent's.
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_channel::QueueOptions;
    /// use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    ///
    /// let jobs = QueueOptions::new().anonymous::<u64>()?;
    /// // Somewhere in shared memory: the job that this consumer has.
    /// let desk = AtomicU64::new(0);
    ///
    /// # jobs.send(42)?;
    /// let job = jobs.recv_with(|job| {
    ///     desk.store(*job, SeqCst);
    ///     *job
    /// })?;
    /// assert_eq!((job, desk.into_inner()), (42, 42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_with<R>(&self, note: impl FnOnce(&T) -> R) -> Result<R, RecvError> {
        let mut message = T::zeroed();
        let (taking, awake) = match self.ring.begin_to_take(slice::from_mut(&mut message), None)? {
            Some(taking) => (taking, Awake::NOBODY),
            None => self.ring.begin_when_ready(slice::from_mut(&mut message), None)?,
        };
        let noted = note(&message);
        taking.finish()?;
        awake.has_acted();
        Ok(noted)
    }

    /// Receives until the queue is closed and empty, or cannot be used any more. Several may do so at once.
    pub fn iter(&self) -> QueueIter<'_, T> {
        QueueIter { queue: self }
    }

    /// How many messages there are. May be outdated when it returns.
    pub fn len(&self) -> usize {
        self.ring.len() as usize
    }

    /// Whether there is no message. May be outdated when it returns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages have been received since the queue was made, modulo 2^32 times the size of the ring.
    ///
    /// The n-th message that was sent, counted from 0, has been received if and only if this is more than n. So where all who send know the number of
    /// what they send, as one who sends alone does, a note of a consumer that was killed in [`recv_with`](Self::recv_with) can be told from
    /// one of a message that it had really received. Who sees a message counted sees what its consumer has noted of it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`].
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_channel::QueueOptions;
    ///
    /// let jobs = QueueOptions::new().anonymous::<u64>()?;
    /// jobs.send_slice(&[10, 11, 12])?;
    /// jobs.recv()?;
    /// assert_eq!(jobs.received()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn received(&self) -> Result<u64, Error> {
        self.ring.count_received()
    }

    /// How many messages fit in.
    pub fn capacity(&self) -> usize {
        self.ring.capacity() as usize
    }

    /// Closes the queue, for ever and for all: nobody can send any more. What has been sent can still be received; whoever receives learns that nothing
    /// will follow. Does nothing if it is closed already.
    ///
    /// # Blocking
    ///
    /// While another one is just sending.
    ///
    /// # Crash safety
    ///
    /// The process may be killed at any point: the queue is closed, and all know, or not.
    ///
    /// # Errors
    ///
    /// Those of [`Site::of`](shmkit_core::wait::Site::of), in a forked child; [`Error::Forked`] in one that a signal handler forked meanwhile.
    pub fn close(&self) -> Result<(), Error> {
        self.ring.close()
    }

    /// Whether the queue is closed. What was sent before can still be received.
    pub fn is_closed(&self) -> bool {
        self.ring.shared.is_closed()
    }

    #[cold]
    fn send_despite(&self, obstacle: Obstacle, message: T, deadline: Option<Deadline>) -> Result<(), SendError<T>> {
        let messages = slice::from_ref(&message);
        let sent = match obstacle {
            Obstacle::NotReady => Ok(0),
            Obstacle::Other => self.ring.put(messages, deadline),
        };
        let sent = if let Ok(0) = sent { self.ring.put_when_ready(messages, deadline) } else { sent };
        sent.map(drop).map_err(|ended| SendError::ended(message, ended))
    }

    #[cold]
    fn try_send_slowly(&self, message: T) -> Result<(), SendError<T>> {
        match self.ring.put(slice::from_ref(&message), Deadline::after(TURN)) {
            Ok(0) | Err(Ended::TimedOut) => Err(SendError::Full(message)),
            Ok(_) => Ok(()),
            Err(ended) => Err(SendError::ended(message, ended)),
        }
    }

    #[cold]
    fn recv_despite(&self, obstacle: Obstacle, deadline: Option<Deadline>) -> Result<T, RecvError> {
        let mut message = T::zeroed();
        let messages = slice::from_mut(&mut message);
        let received = match obstacle {
            Obstacle::NotReady => 0,
            Obstacle::Other => self.ring.take(messages, deadline)?,
        };
        if received == 0 {
            self.ring.take_when_ready(messages, deadline)?;
        }
        Ok(message)
    }

    #[cold]
    fn try_recv_slowly(&self) -> Result<T, RecvError> {
        let mut message = T::zeroed();
        match self.ring.take(slice::from_mut(&mut message), Deadline::after(TURN)) {
            Ok(0) | Err(Ended::TimedOut) => Err(RecvError::Empty),
            Ok(_) => Ok(message),
            Err(ended) => Err(ended.into()),
        }
    }
}

/// Only [on its way](shmkit_core::transfer) to another process, which then has a handle to the same queue.
#[cfg(all(feature = "serde", not(ipc_loom)))]
impl<T: Pod + Described> serde::Serialize for Queue<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shared().serialize(serializer)
    }
}

/// Only where it has come from another process.
#[cfg(all(feature = "serde", not(ipc_loom)))]
impl<'de, T: Pod + Described> serde::Deserialize<'de> for Queue<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shared = Tailed::deserialize(deserializer)?;
        Self::of(shared).map_err(|error| serde::de::Error::custom(shmkit_core::transfer::refuse(error)))
    }
}

impl<T: Pod + Described> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone() }
    }
}

impl<T: Pod + Described> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// The messages of a [`Queue`], as they come.
#[derive(Debug)]
pub struct QueueIter<'a, T: Pod + Described> {
    queue: &'a Queue<T>,
}

impl<T: Pod + Described> Iterator for QueueIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.recv().ok()
    }
}

impl<'a, T: Pod + Described> IntoIterator for &'a Queue<T> {
    type Item = T;
    type IntoIter = QueueIter<'a, T>;

    fn into_iter(self) -> QueueIter<'a, T> {
        self.iter()
    }
}
