//! Streams: bytes without frames, by `std::io::Read` and `Write`.
//!
//! What is written goes as frames of whatever length fits in at the moment, and what is read is the bytes of all frames, one after the other.
//! So a stream at one side and frames at the other go together, too.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use shmkit_core::wait::{Armed, FutexWord, Source};
use shmkit_core::{Deadline, Error};

use super::receiver::{self, ByteReceiver, Found};
use super::ring::{FIRST, LAST, Record, WORD};
use super::sender::{ByteSender, longest_piece};
use crate::duplex::receiving_source;
use crate::ends::Ended;
use crate::error::RecvError;

/// The writing end of a stream, made of a [`ByteSender`].
///
/// To write waits until there is room for at least some bytes, and writes as many as there is room for. Nothing is buffered: what was written
/// can be read. When the reader is gone, to write fails with [`ErrorKind::BrokenPipe`]. Dropping it ends the stream.
///
/// # Examples
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
///
/// use shmkit_channel::{ByteReceiver, ByteSender, ChannelOptions};
///
/// let (tx, rx): (ByteSender, ByteReceiver) = ChannelOptions::new().both()?;
/// let (mut writer, reader) = (tx.into_writer(), BufReader::new(rx.into_reader()));
/// writeln!(writer, "one line")?;
/// writeln!(writer, "and another")?;
/// drop(writer);
/// assert_eq!(reader.lines().collect::<Result<Vec<_>, _>>()?, ["one line", "and another"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PipeWriter {
    sender: ByteSender,
    timeout: Option<Duration>,
}

/// The reading end of a stream, made of a [`ByteReceiver`].
///
/// To read waits until there is something. It returns 0 only when the writer is gone and all that it has written was read, and a writer that
/// was killed ends the stream as one that was dropped does: whoever has to know the difference sends frames, or something at the end.
///
/// A successor of a reader that was killed begins with the frame that that one was in the middle of, from its beginning.
#[derive(Debug)]
pub struct PipeReader {
    receiver: ByteReceiver,
    /// How much of the frame that comes next has been read.
    done: usize,
    timeout: Option<Duration>,
}

/// Both ends of streams, one each way, made of a [`BytePipe`](super::BytePipe).
///
/// # Examples
///
/// ```
/// use shmkit_channel::{BytePipe, ChannelOptions};
/// use std::io::{Read, Write};
///
/// let (one, other) = ChannelOptions::new().both::<BytePipe>()?;
/// let (mut one, mut other) = (one.into_stream(), other.into_stream());
/// one.write_all(b"ping")?;
/// let mut word = [0; 4];
/// other.read_exact(&mut word)?;
/// assert_eq!(&word, b"ping");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PipeStream {
    writer: PipeWriter,
    reader: PipeReader,
}

impl ByteSender {
    /// Makes a stream of it, which writes bytes without frames.
    pub fn into_writer(self) -> PipeWriter {
        PipeWriter { sender: self, timeout: None }
    }

    /// Sends as many of the bytes as fit in at present, in one frame: at least one, if there are any.
    fn send_some(&mut self, bytes: &[u8], deadline: Option<Deadline>) -> Result<usize, Ended> {
        let most = bytes.len().min(longest_piece(self.place, &self.extent));
        let least = self.slot(1).need;
        if !self.is_ready(self.slot(most).need)? && self.room() < least {
            self.wait_for_room(least, deadline)?;
        }
        let len = self.fitting(most);
        let slot = self.slot(len);
        self.end.channel().store(slot.payload(), &bytes[..len]);
        self.publish(slot, Record { len, kind: FIRST | LAST });
        Ok(len)
    }

    /// How many of `most` bytes have room in one record: at least one, as there is room for that.
    fn fitting(&self, most: usize) -> usize {
        let left = self.place.left(&self.extent);
        // What is left behind so much else, and two headers.
        let behind = |front: usize| self.room().saturating_sub(front + 2 * WORD) / WORD * WORD;
        let before_the_end = behind(0).min(left - WORD);
        most.min(before_the_end.max(behind(left)))
    }
}

impl ByteReceiver {
    /// Makes a stream of it, which reads bytes without frames.
    pub fn into_reader(self) -> PipeReader {
        PipeReader { receiver: self, done: 0, timeout: None }
    }
}

impl PipeWriter {
    /// Sets for how long a write waits for room, at most, before it fails with [`ErrorKind::TimedOut`]; `None`: for ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for no time at all.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = check_timeout(timeout)?;
        Ok(())
    }
}

impl PipeReader {
    /// Sets for how long a read waits for something, at most, before it fails with [`ErrorKind::TimedOut`]; `None`: for ever.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for no time at all.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = check_timeout(timeout)?;
        Ok(())
    }

    /// Copies the next bytes of the frame that was found.
    fn copy(&mut self, found: Found, buffer: &mut [u8]) -> usize {
        let len = found.len();
        // The frame may be another one than before if somebody has scribbled over its header, and shorter.
        let done = self.done.min(len);
        let count = (len - done).min(buffer.len());
        let buffer = &mut buffer[..count];
        match found {
            Found::InPlace(_) => self.receiver.end.channel().load(self.receiver.payload() + done, buffer),
            Found::Kept(_) | Found::Fetched(_) => buffer.copy_from_slice(&self.receiver.kept()[done..done + count]),
        }
        self.done = done + count;
        if self.done >= len {
            self.done = 0;
            self.receiver.give_up(found);
        }
        count
    }
}

impl PipeStream {
    pub(super) fn new(writer: PipeWriter, reader: PipeReader) -> Self {
        Self { writer, reader }
    }

    /// The end that writes.
    pub fn writer(&mut self) -> &mut PipeWriter {
        &mut self.writer
    }

    /// The end that reads.
    pub fn reader(&mut self) -> &mut PipeReader {
        &mut self.reader
    }

    /// Takes the stream apart, for two threads. Each part closes its own way when it is dropped.
    pub fn split(self) -> (PipeWriter, PipeReader) {
        (self.writer, self.reader)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let deadline = self.timeout.and_then(Deadline::after);
        self.sender.send_some(bytes, deadline).map_err(|ended| match ended {
            Ended::TimedOut => io::Error::new(ErrorKind::TimedOut, "nobody has made room in the stream"),
            Ended::Gone => io::Error::new(ErrorKind::BrokenPipe, "nobody is there who would read the stream"),
            Ended::Failed(error) => io::Error::other(error),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let patience = receiver::Patience::Until(self.timeout.and_then(Deadline::after));
        let mut count = 0;
        // An empty frame is not the end.
        while count == 0 && !buffer.is_empty() {
            count = match self.receiver.fetch(&mut [], patience) {
                Ok(found) => self.copy(found, buffer),
                Err(RecvError::Disconnected) => return Ok(0),
                Err(RecvError::Failed(error)) => return Err(io::Error::other(error)),
                Err(_) => return Err(io::Error::new(ErrorKind::TimedOut, "nothing has come through the stream")),
            };
        }
        Ok(count)
    }
}

impl Write for PipeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Read for PipeStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// What is waited for is something to read, or the end of the stream.
impl Source for PipeReader {
    fn word(&self) -> &dyn FutexWord {
        self.receiver.word()
    }

    fn is_ready(&mut self) -> bool {
        // An empty frame is nothing to read. A sender of nothing else does not keep the caller from looking at the clock.
        for _ in 0..self.receiver.capacity() {
            match self.receiver.look(&mut []) {
                Ok(Some(found)) if found.len() == 0 => self.receiver.give_up(found),
                Ok(None) => return self.receiver.end.is_other_gone().unwrap_or(true),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }

    fn arm(&mut self) -> Result<Armed, Error> {
        self.receiver.arm()
    }

    fn disarm(&mut self, may_be_woken: bool) {
        self.receiver.disarm(may_be_woken);
    }
}

receiving_source!([] PipeStream, reader);

fn check_timeout(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    if timeout == Some(Duration::ZERO) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a timeout of no time"));
    }
    Ok(timeout)
}
