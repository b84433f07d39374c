//! Channels whose other users are not trusted: those that copy, and whose waits have a bound.
//!
//! They are the same channels, and the same algorithms. What is missing is what looks into shared memory in place, and what waits until something happens that a
//! hostile peer need not let happen.
//!
//! # What hostile peers can come by
//!
//! The places of an end, those of a queue's ring, and all sizes are private numbers, checked once against the size of the object, or anew whenever something is read that they
//! depend on. So a peer garbles messages and counts, and gets [`Corrupted`](shmkit_core::Error::Corrupted) reported where that shows. What it claims of the length of a frame
//! is not believed beyond a limit.

use core::fmt;
use core::time::Duration;

use bytemuck::Pod;
use shmkit_core::wait::{Armed, FutexWord, Source};
use shmkit_core::{Described, Error, UntrustedRegion};

use crate::bytes::{BytePipe, ByteReceiver, ByteSender};
use crate::endpoint::Endpoint;
use crate::endpoint::sealed::Sealed;
use crate::error::{OpenError, RecvError, SendError};
use crate::pipe::Pipe;
use crate::queue::Queue;
use crate::receiver::Receiver;
use crate::sender::Sender;

/// How long a frame may be if nothing else is said.
const LONGEST: usize = 1 << 20;

/// An end of a channel in an [`UntrustedRegion`]: `UntrustedEnd<Sender<T>>`, `UntrustedEnd<BytePipe>` and so on.
///
/// It does what the end does that it is named after, as far as that is safe with hostile peers. They can garble, lose and invent messages, and close the channel.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{ChannelOptions, Pipe, UntrustedEnd};
/// use shmkit_core::UntrustedRegion;
/// use std::os::fd::AsFd;
/// use std::time::Duration;
///
/// const PATIENCE: Duration = Duration::from_millis(100);
///
/// // The one who offers a service:
/// let region = UntrustedRegion::anonymous(1 << 16)?;
/// let mut server = ChannelOptions::new().create_in_untrusted::<Pipe<[u32; 2]>>(&region, "sums")?;
/// let descriptor = region.as_fd().try_clone_to_owned()?;
///
/// // The other one, who has received the descriptor and does not trust the first either:
/// let region = UntrustedRegion::from_fd(descriptor)?;
/// let mut client = UntrustedEnd::<Pipe<[u32; 2]>>::open_in(&region, "sums")?;
/// client.try_send([2, 3])?;
///
/// // Back in the first:
/// let [a, b] = server.recv_timeout(PATIENCE)?;
/// server.send_timeout([a.wrapping_add(b), 0], PATIENCE)?;
///
/// assert_eq!(client.recv_timeout(PATIENCE)?, [5, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Frames are copied; there is no look at them in place, and no room to write them in place:
///
/// ```compile_fail,E0599
/// # use shmkit_channel::{ByteReceiver, UntrustedEnd};
/// fn look(end: &mut UntrustedEnd<ByteReceiver>) {
///     let _ = end.try_peek();
/// }
/// ```
///
/// ```compile_fail,E0599
/// # use shmkit_channel::{ByteSender, UntrustedEnd};
/// fn reserve(end: &mut UntrustedEnd<ByteSender>) {
///     let _ = end.try_reserve(10);
/// }
/// ```
///
/// All waits have a bound, and the trusting end inside is not to be had:
///
/// ```compile_fail,E0599
/// # use shmkit_channel::{Receiver, UntrustedEnd};
/// fn wait(end: &mut UntrustedEnd<Receiver<u64>>) {
///     let _ = end.recv();
/// }
/// ```
///
/// ```compile_fail,E0308
/// # use shmkit_channel::{Endpoint, Receiver};
/// # use shmkit_core::UntrustedRegion;
/// fn open(region: &UntrustedRegion) {
///     let _ = Receiver::<u64>::open_in(region, "channel");
/// }
/// ```
pub struct UntrustedEnd<E> {
    end: E,
    /// What was found in the place of its owner, if that is not this process any more.
    usurper: Option<u64>,
}

/// A [`Queue`] in an [`UntrustedRegion`].
///
/// It does what a queue does, as far as that is safe with hostile peers. They can garble, lose and invent messages, keep everybody's turns, and close it.
///
/// # Examples
///
/// ```
/// use shmkit_channel::{QueueOptions, RecvError, UntrustedQueue};
/// use shmkit_core::UntrustedRegion;
/// use std::time::Duration;
///
/// let region = UntrustedRegion::anonymous(1 << 16)?;
/// let jobs = QueueOptions::new().create_in_untrusted::<u64>(&region, "jobs")?;
/// jobs.try_send(17)?;
/// assert_eq!(UntrustedQueue::<u64>::open_in(&region, "jobs")?.try_recv()?, 17);
/// assert!(matches!(jobs.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0599
/// # use shmkit_channel::UntrustedQueue;
/// fn wait(queue: &UntrustedQueue<u64>) {
///     let _ = queue.recv();
/// }
/// ```
pub struct UntrustedQueue<T: Pod + Described>(Queue<T>);

impl<E: Endpoint> UntrustedEnd<E> {
    pub(crate) fn of(end: Result<E, OpenError>) -> Result<Self, OpenError> {
        // Before anything else is done with it: also one who waits for frames takes those in that come in parts.
        end.map(|mut end| {
            end.set_longest(LONGEST);
            Self { end, usurper: None }
        })
    }

    /// Opens the other end of a channel that was [put into the region](crate::ChannelOptions::create_in_untrusted).
    ///
    /// # Blocking
    ///
    /// Not at all; to find the place of a sender takes longer the more there is in the channel.
    ///
    /// # Errors
    ///
    /// As for [`Endpoint::open_in`].
    pub fn open_in(region: &UntrustedRegion, name: &str) -> Result<Self, OpenError> {
        // SAFETY: the end is not used but through what this returns.
        Self::of(E::open_in(unsafe { region.as_region() }, name))
    }

    /// Takes the place of the process that had put a channel into the region, and is dead.
    ///
    /// # Errors
    ///
    /// As for [`Endpoint::succeed_in`].
    pub fn succeed_in(region: &UntrustedRegion, name: &str) -> Result<Self, OpenError> {
        // SAFETY: as above.
        Self::of(E::succeed_in(unsafe { region.as_region() }, name))
    }
}

/// What ends of all kinds can do.
macro_rules! end {
    ([$($parameter:tt)*] $end:ty) => {
        impl<$($parameter)*> UntrustedEnd<$end> {
            /// Whether this end was closed, or nobody is at the other one, by all that can be seen. May be outdated when it returns.
            pub fn is_closed(&self) -> bool {
                self.end.is_closed()
            }

            /// Closes this end. Does nothing if it is closed already.
            pub fn close(&mut self) {
                self.end.close();
            }
        }
    };
}

/// What ends can do that send messages.
macro_rules! sending {
    ([$($parameter:tt)*] $end:ty, $message:ty, $back:ty, $give_back:expr) => {
        impl<$($parameter)*> UntrustedEnd<$end> {
            /// Sends a message if there is room for it.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn try_send(&mut self, message: $message) -> Result<(), SendError<$back>> {
                match self.check() {
                    Ok(()) => self.end.try_send(message),
                    Err(error) => Err(SendError::Failed { message: $give_back(message), error }),
                }
            }

            /// Sends a message, waiting for room for at most `timeout`.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn send_timeout(&mut self, message: $message, timeout: Duration) -> Result<(), SendError<$back>> {
                self.end.send_timeout(message, timeout)
            }
        }
    };
}

/// What ends can do that receive messages.
macro_rules! receiving {
    ([$($parameter:tt)*] $end:ty, $message:ty) => {
        impl<$($parameter)*> UntrustedEnd<$end> {
            /// Receives a message if there is one.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn try_recv(&mut self) -> Result<$message, RecvError> {
                self.check()?;
                self.receiver().try_recv()
            }

            /// Receives a message, waiting for it for at most `timeout`.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn recv_timeout(&mut self, timeout: Duration) -> Result<$message, RecvError> {
                self.receiver().recv_timeout(timeout)
            }

            /// Waits until there is a message, for at most `timeout`; says whether there is one.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
                self.receiver().poll(timeout)
            }
        }
    };
}

/// What ends can do that receive frames.
macro_rules! frames {
    ($end:ty) => {
        impl UntrustedEnd<$end> {
            /// Receives a frame into the beginning of `buffer`, if there is one; says how long it is.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
                self.check()?;
                self.receiver().try_recv_into(buffer)
            }

            /// Receives a frame into the beginning of `buffer`, waiting for it for at most `timeout`; says how long it is.
            ///
            /// # Errors
            ///
            /// As the method of the same name where peers are trusted.
            pub fn recv_into_timeout(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
                self.receiver().recv_into_timeout(buffer, timeout)
            }

            /// Sets how long a frame may be, in bytes: a mebibyte unless this says something else. One that is said to be longer is
            /// [`Corrupted`](Error::Corrupted), and no memory is taken for it.
            pub fn set_longest(&mut self, longest: usize) {
                Sealed::set_longest(&mut self.end, longest);
            }
        }
    };
}

end!([T: Pod + Described] Sender<T>);
end!([T: Pod + Described] Receiver<T>);
end!([T: Pod + Described] Pipe<T>);
end!([] ByteSender);
end!([] ByteReceiver);
end!([] BytePipe);

sending!([T: Pod + Described] Sender<T>, T, T, core::convert::identity);
sending!([T: Pod + Described] Pipe<T>, T, T, core::convert::identity);
sending!([] ByteSender, &[u8], (), nothing);
sending!([] BytePipe, &[u8], (), nothing);

/// What comes back of a frame that was not sent.
fn nothing(_frame: &[u8]) {}

receiving!([T: Pod + Described] Receiver<T>, T);
receiving!([T: Pod + Described] Pipe<T>, T);
receiving!([] ByteReceiver, Vec<u8>);
receiving!([] BytePipe, Vec<u8>);

frames!(ByteReceiver);
frames!(BytePipe);

impl<T: Pod + Described> UntrustedEnd<Sender<T>> {
    /// See [`Sender::try_send_slice`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send_slice(&mut self, messages: &[T]) -> Result<usize, SendError<()>> {
        self.check().map_err(|error| SendError::Failed { message: (), error })?;
        self.end.try_send_slice(messages)
    }

    /// See [`Sender::capacity`].
    pub fn capacity(&self) -> u64 {
        self.end.capacity()
    }
}

impl<T: Pod + Described> UntrustedEnd<Receiver<T>> {
    /// See [`Receiver::try_recv_slice`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_slice(&mut self, messages: &mut [T]) -> Result<usize, RecvError> {
        self.check()?;
        self.end.try_recv_slice(messages)
    }

    /// See [`Receiver::capacity`].
    pub fn capacity(&self) -> u64 {
        self.end.capacity()
    }

    fn receiver(&mut self) -> &mut Receiver<T> {
        &mut self.end
    }
}

impl<T: Pod + Described> UntrustedEnd<Pipe<T>> {
    /// Takes the pipe apart, for two threads. Each half closes its own way when it is dropped.
    pub fn split(self) -> (UntrustedEnd<Sender<T>>, UntrustedEnd<Receiver<T>>) {
        let of = UntrustedEnd { end: (), usurper: self.usurper };
        let (sender, receiver) = self.end.split();
        (of.half(sender), of.half(receiver))
    }

    fn receiver(&mut self) -> &mut Receiver<T> {
        self.end.receiver()
    }
}

impl UntrustedEnd<ByteSender> {
    /// See [`ByteSender::capacity`].
    pub fn capacity(&self) -> u64 {
        self.end.capacity()
    }
}

impl UntrustedEnd<ByteReceiver> {
    /// See [`ByteReceiver::capacity`].
    pub fn capacity(&self) -> u64 {
        self.end.capacity()
    }

    fn receiver(&mut self) -> &mut ByteReceiver {
        &mut self.end
    }
}

impl UntrustedEnd<BytePipe> {
    /// Takes the pipe apart, for two threads. Each half closes its own way when it is dropped.
    pub fn split(self) -> (UntrustedEnd<ByteSender>, UntrustedEnd<ByteReceiver>) {
        let of = UntrustedEnd { end: (), usurper: self.usurper };
        let (sender, receiver) = self.end.split();
        (of.half(sender), of.half(receiver))
    }

    fn receiver(&mut self) -> &mut ByteReceiver {
        self.end.receiver()
    }
}

impl<E> UntrustedEnd<E> {
    /// Refuses what does not wait if a wait for several things has found out that the end is another's. That wait takes it for ready from then on, so
    /// whoever was sent here by it is told why.
    fn check(&self) -> Result<(), Error> {
        self.usurper.map_or(Ok(()), |found| Err(Error::Corrupted { what: "owner of an end of a channel", found }))
    }

    /// A half of the same.
    fn half<H>(&self, half: H) -> UntrustedEnd<H> {
        UntrustedEnd { end: half, usurper: self.usurper }
    }
}

/// Ready when the end is, or cannot be used any more. A hostile peer can make it ready without a cause, which costs a look, and cannot disturb the others that
/// are waited for.
impl<E: Source> Source for UntrustedEnd<E> {
    fn word(&self) -> &dyn FutexWord {
        self.end.word()
    }

    fn is_ready(&mut self) -> bool {
        self.usurper.is_some() || self.end.is_ready()
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        match self.end.arm() {
            // An error would end the wait for all.
            Err(Error::Corrupted { found, .. }) => {
                self.usurper = Some(found);
                Ok(Armed::at(0))
            }
            armed => armed,
        }
    }

    fn disarm(&mut self, may_be_woken: bool) {
        self.end.disarm(may_be_woken);
    }
}

impl<E: fmt::Debug> fmt::Debug for UntrustedEnd<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntrustedEnd").field(&self.end).finish()
    }
}

impl<T: Pod + Described> UntrustedQueue<T> {
    pub(crate) fn of(queue: Queue<T>) -> Self {
        Self(queue)
    }

    /// Opens a queue that was [put into the region](crate::QueueOptions::create_in_untrusted).
    ///
    /// # Errors
    ///
    /// As for [`Queue::open_in`].
    pub fn open_in(region: &UntrustedRegion, name: &str) -> Result<Self, OpenError> {
        // SAFETY: the queue is not used but through what this returns.
        Queue::open_in(unsafe { region.as_region() }, name).map(Self)
    }

    /// See [`Queue::try_send`].
    ///
    /// # Blocking
    ///
    /// For 100 milliseconds at most, while another one is sending or a hostile peer says so.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&self, message: T) -> Result<(), SendError<T>> {
        self.0.try_send(message)
    }

    /// See [`Queue::send_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.0.send_timeout(message, timeout)
    }

    /// See [`Queue::try_recv`].
    ///
    /// # Blocking
    ///
    /// As for [`try_send`](Self::try_send).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.0.try_recv()
    }

    /// See [`Queue::recv_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.0.recv_timeout(timeout)
    }

    /// See [`Queue::len`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// See [`Queue::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// See [`Queue::capacity`].
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// See [`Queue::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T: Pod + Described> Clone for UntrustedQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Pod + Described> fmt::Debug for UntrustedQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UntrustedQueue").field(&self.0).finish()
    }
}
