//! Which bytes of the spill are free: where arguments lie that are too large for a job.
//!
//! The parent alone knows, and alone writes there; the bytes of a job are free again when its result has come. So nothing of this is in
//! shared memory, and no death leaves anything to mend.

use std::collections::BTreeMap;

/// Pieces begin at multiples of this, so that no two share a cache line.
const GRAIN: usize = 64;

/// The free pieces: where each begins, and its length. No two touch.
#[derive(Debug)]
pub(super) struct Spill {
    free: BTreeMap<usize, usize>,
}

impl Spill {
    /// All of `size` bytes are free.
    pub(super) fn new(size: usize) -> Self {
        Self { free: BTreeMap::from([(0, size)]) }
    }

    /// Takes room for so many bytes: in the first piece that has it.
    pub(super) fn take(&mut self, len: usize) -> Option<usize> {
        let len = len.next_multiple_of(GRAIN);
        let (at, size) = self.free.iter().find(|(_, size)| **size >= len).map(|(at, size)| (*at, *size))?;
        self.free.remove(&at);
        if size > len {
            self.free.insert(at + len, size - len);
        }
        Some(at)
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, mut at: usize, len: usize) {
        let mut len = len.next_multiple_of(GRAIN);
        if let Some(next) = self.free.remove(&(at + len)) {
            len += next;
        }
        if let Some((before, size)) = self.free.range(..at).next_back().map(|(before, size)| (*before, *size)) {
            if before + size == at {
                (at, len) = (before, size + len);
            }
        }
        self.free.insert(at, len);
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_overlap_and_come_back_whole() {
        let mut spill = Spill::new(1024);
        let mut taken: Vec<_> = [100, 64, 1, 300].map(|len| (spill.take(len).expect("room"), len)).to_vec();
        taken.sort_unstable();
        for pair in taken.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{taken:?}");
        }
        assert_eq!(spill.take(1000), None);

        // The middle ones first, so that each way of joining comes up.
        for index in [1, 2, 0, 3] {
            spill.give_back(taken[index].0, taken[index].1);
        }

        assert_eq!(spill.free, BTreeMap::from([(0, 1024)]));
        assert_eq!(spill.take(1024), Some(0));
        assert_eq!(spill.take(1), None);
    }
}
