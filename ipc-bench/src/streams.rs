//! Our own streams: bytes without frames, through [`PipeStream`]s.

use std::io::{self, Read, Write};

use shmkit::{BytePipe, PipeReader, PipeStream, PipeWriter};

use crate::channels::{Channels, Duplex};
use crate::message::{Receiving, Sending};

impl Duplex for PipeStream {
    type Ground = Channels;
    type Sender = PipeWriter;
    type Receiver = PipeReader;

    fn make(ground: &Channels, capacity: usize) -> io::Result<(PipeWriter, PipeReader)> {
        ground.make(0, capacity).map(|pipe: BytePipe| pipe.into_stream().split())
    }

    fn open(ground: &Channels) -> io::Result<(PipeWriter, PipeReader)> {
        ground.open(0).map(|pipe: BytePipe| pipe.into_stream().split())
    }
}

impl Sending<[u8]> for PipeWriter {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) {
        self.write_all(message).expect("a reader");
    }
}

impl Receiving<[u8]> for PipeReader {
    #[inline(always)]
    fn receive(&mut self, message: &mut [u8]) {
        self.read_exact(message).expect("a writer");
    }
}
