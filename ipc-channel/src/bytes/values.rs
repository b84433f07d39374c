//! Values of any type that serde knows, one to a frame, encoded by postcard.

use core::fmt;
use core::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::in_place::Peek;
use super::pipe::BytePipe;
use super::receiver::ByteReceiver;
use super::sender::ByteSender;
use crate::error::{RecvError, SendError};

/// A value and the bytes of a frame did not go together.
#[derive(Debug)]
pub struct CodecError(postcard::Error);

/// Why a value was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendValueError {
    /// It cannot be encoded.
    Encode(CodecError),
    /// Its frame was not sent.
    Send(SendError<()>),
}

/// Why no value was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvValueError {
    /// A frame came that is not a value of this type. It is not there any more.
    Decode(CodecError),
    /// No frame came.
    Recv(RecvError),
}

/// Values of any type.
impl ByteSender {
    /// Encodes a value and sends it as one frame.
    ///
    /// # Blocking
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`SendValueError::Encode`]; [`SendValueError::Send`] with those of [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions};
    ///
    /// let (mut tx, mut rx): (ByteSender, ByteReceiver) = ChannelOptions::new().both()?;
    /// tx.send_value(&("apples", vec![3u32, 4]))?;
    /// assert_eq!(rx.recv_value::<(String, Vec<u32>)>()?, ("apples".to_owned(), vec![3, 4]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendValueError> {
        self.send(&encode(value)?).map_err(SendValueError::Send)
    }

    /// Encodes a value and sends it as one frame, waiting for room for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    ///
    /// [`SendValueError::Encode`]; [`SendValueError::Send`] with those of [`send_timeout`](Self::send_timeout).
    pub fn send_value_timeout<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), SendValueError> {
        self.send_timeout(&encode(value)?, timeout).map_err(SendValueError::Send)
    }

    /// Encodes a value and sends it as one frame, if there is room for all of it.
    ///
    /// # Errors
    ///
    /// [`SendValueError::Encode`]; [`SendValueError::Send`] with those of [`try_send`](Self::try_send).
    pub fn try_send_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendValueError> {
        self.try_send(&encode(value)?).map_err(SendValueError::Send)
    }
}

/// Values of any type.
impl ByteReceiver {
    /// Receives a frame and decodes the value in it. The type must be the one that was sent: the bytes do not tell.
    ///
    /// # Blocking
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// [`RecvValueError::Decode`]; [`RecvValueError::Recv`] with those of [`recv`](Self::recv).
    pub fn recv_value<T: DeserializeOwned>(&mut self) -> Result<T, RecvValueError> {
        self.peek().map_err(RecvValueError::Recv).and_then(decode)
    }

    /// Receives a frame and decodes the value in it, waiting for it for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// As [`recv_value`](Self::recv_value), but not longer than `timeout` (monotonic clock).
    ///
    /// # Errors
    ///
    /// As for [`recv_value`](Self::recv_value), and [`RecvError::TimedOut`].
    pub fn recv_value_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, RecvValueError> {
        self.peek_timeout(timeout).map_err(RecvValueError::Recv).and_then(decode)
    }

    /// Receives a frame and decodes the value in it, if there is a frame.
    ///
    /// # Errors
    ///
    /// As for [`recv_value`](Self::recv_value), and [`RecvError::Empty`].
    pub fn try_recv_value<T: DeserializeOwned>(&mut self) -> Result<T, RecvValueError> {
        self.try_peek().map_err(RecvValueError::Recv).and_then(decode)
    }
}

/// Values of any type.
impl BytePipe {
    /// See [`ByteSender::send_value`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn send_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendValueError> {
        self.sender().send_value(value)
    }

    /// See [`ByteReceiver::recv_value`].
    #[allow(clippy::missing_errors_doc, reason = "said there")]
    pub fn recv_value<T: DeserializeOwned>(&mut self) -> Result<T, RecvValueError> {
        self.receiver().recv_value()
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SendValueError> {
    postcard::to_allocvec(value).map_err(|error| SendValueError::Encode(CodecError(error)))
}

fn decode<T: DeserializeOwned>(frame: Peek<'_>) -> Result<T, RecvValueError> {
    let decoded = postcard::from_bytes(&frame).map_err(|error| RecvValueError::Decode(CodecError(error)));
    frame.release().map_err(RecvValueError::Recv)?;
    decoded
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SendValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(error) => write!(f, "the value cannot be encoded: {error}"),
            Self::Send(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for RecvValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "the frame is no such value: {error}"),
            Self::Recv(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CodecError {}

impl std::error::Error for SendValueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            Self::Send(error) => Some(error),
        }
    }
}

impl std::error::Error for RecvValueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            Self::Recv(error) => Some(error),
        }
    }
}
