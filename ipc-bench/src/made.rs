//! Frames that are made and looked through, byte by byte, and not just passed on.
//!
//! Who writes and reads a frame where it lies saves two copies, and that can only be compared where there is something to be written and read: the
//! sender makes each frame, all words of which are its number, and the receiver compares them all. Those who copy make it in private
//! memory, which stays in their caches, and look at their copy.

use std::io;

use shmkit::{ByteReceiver, ByteSender};

use crate::channels::Frames;
use crate::message::{Act, Carrier, Frame, Kind, OneEnd, Receiving, Sending, Stream};
use crate::team::Seat;

/// A [`Stream`] of frames that are made, and copied.
pub struct Made;

/// The same, in place.
pub struct MadeInPlace;

/// The name of our own frames that are copied.
pub const COPIED: &str = "our own, copied";

/// Makes a frame of the words `number`.
#[inline]
fn make(frame: &mut [u8], number: u64) {
    for word in frame.chunks_exact_mut(8) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
}

/// Looks at all words of a frame, and says whether each is `number`.
#[inline]
fn is_made_of(frame: &[u8], number: u64) -> bool {
    let words = frame.chunks_exact(8).map(|word| u64::from_ne_bytes(*word.first_chunk().expect("eight bytes")));
    words.fold(0, |wrong, word| wrong | (word ^ number)) == 0
}

impl<const SIZE: usize, C: Carrier<[u8]>> Act<Frame<SIZE>, C> for Made {
    type Role = OneEnd<C::Sender, C::Receiver>;

    fn role(carrier: &C, seat: Seat) -> io::Result<Self::Role> {
        <Stream as Act<Frame<SIZE>, C>>::role(carrier, seat)
    }

    fn act(role: &mut Self::Role, turns: u64) {
        Frame::<SIZE>::lend(|frame| match role {
            OneEnd::Sends(sender) => {
                for turn in 0..turns {
                    make(frame, turn);
                    sender.send(frame);
                }
            }
            OneEnd::Receives(receiver, _) => {
                for turn in 0..turns {
                    receiver.receive(frame);
                    assert!(is_made_of(frame, turn), "frames come whole and in order");
                }
            }
        });
    }
}

impl<const SIZE: usize, const CAPACITY: usize> Act<Frame<SIZE>, Frames<CAPACITY>> for MadeInPlace {
    type Role = OneEnd<ByteSender, ByteReceiver>;

    fn role(carrier: &Frames<CAPACITY>, seat: Seat) -> io::Result<Self::Role> {
        <Stream as Act<Frame<SIZE>, Frames<CAPACITY>>>::role(carrier, seat)
    }

    fn act(role: &mut Self::Role, turns: u64) {
        match role {
            OneEnd::Sends(sender) => {
                for turn in 0..turns {
                    let mut frame = sender.reserve(SIZE).expect("a receiver");
                    make(&mut frame, turn);
                    frame.commit().expect("our own end");
                }
            }
            OneEnd::Receives(receiver, _) => {
                for turn in 0..turns {
                    let frame = receiver.peek().expect("a sender");
                    assert!(frame.len() == SIZE && is_made_of(&frame, turn), "frames come whole and in order");
                    frame.release().expect("our own end");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_is_made_of_its_number_and_of_no_other() {
        let mut frame = [0; 64];
        make(&mut frame, 7);
        assert!(is_made_of(&frame, 7) && !is_made_of(&frame, 8));
        frame[63] ^= 1;
        assert!(!is_made_of(&frame, 7));
    }
}
