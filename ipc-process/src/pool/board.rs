//! The board: jobs that are to be done, and who has taken which.
//!
//! A queue of jobs, and a note for each slot. The parent alone posts, so it knows how many jobs went before each. The workers take them by
//! themselves: nobody assigns, so no job waits behind a long one as long as any worker has nothing to do.
//!
//! # What is noted
//!
//! | word | written by | order |
//! |---|---|---|
//! | note of a slot: the number of a worker, 0: none | a worker, in its turn at the queue, before it takes the job of this slot | Relaxed; ordered by the queue's count of received messages |
//!
//! Who takes a job notes it first, and in the same turn. So the note is that of the worker that has taken the job, as soon as the job
//! counts as received; before that, it is nobody's, or that of one who was about to take it, and may have been killed.
//!
//! # A death
//!
//! | killed | the note | the job counts as received | so it is |
//! |---|---|---|---|
//! | before the note | of an earlier job of the slot | no | still in the queue |
//! | between the note and the receiving | of the dead | no | still in the queue: the next one takes it, and notes it |
//! | between the receiving and its result | of the dead | yes | lost with the dead |
//! | after its result was sent | of the dead | yes | done: the parent has the result, which it takes before it asks |
//!
//! The parent, when a worker is proven dead and all of its results have been taken, reads how many were received, and then the notes: a job
//! that was received is noted by the one who has it, for good; a job that was not will not be received by the dead any more. So what
//! the dead has taken is told from what it has not, whatever others take meanwhile.
//!
//! # Garbage
//!
//! A note is compared with numbers, and nothing else. What is no job, or of a slot that there is not, is noted nowhere, and `Corrupted`.

#![cfg_attr(not(ipc_loom), allow(unreachable_pub, reason = "models see it"))]

use core::sync::atomic::Ordering::Relaxed;

use shmkit_channel::{Queue, RecvError, SendError};
use shmkit_core::shim::AtomicU64;
use shmkit_core::{Error, Tailed, crash_point};

use super::job::{Id, Job};

/// The size of a note.
pub(super) const NOTE: usize = 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Board {
    queue: Queue<Job>,
    /// A note for each slot.
    notes: Tailed<AtomicU64>,
    /// What jobs are sealed with.
    key: u64,
}

impl Board {
    pub(super) fn new(queue: Queue<Job>, notes: Tailed<AtomicU64>, key: u64) -> Self {
        Self { queue, notes, key }
    }

    /// A board for models.
    #[cfg(ipc_loom)]
    pub fn model(slots: usize) -> Self {
        Self::new(Queue::model(slots as u64), Tailed::new(AtomicU64::new(0), slots * NOTE), 7)
    }

    /// How many jobs there can be at once, from their posting until their results have come.
    pub fn slots(&self) -> usize {
        (self.notes.len() / NOTE).min(self.queue.capacity())
    }

    /// Posts a job. There is room for it, if no two are posted into the same slot.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`]; [`Error::Forked`].
    pub fn post(&self, job: Job, id: Id) -> Result<(), Error> {
        crash_point!("pool.post.before_send");
        let posted = match self.queue.try_send(job.sealed(id, self.key)) {
            Ok(()) => Ok(()),
            Err(SendError::Failed { error, .. }) => Err(error),
            Err(_) => Err(Error::Corrupted { what: "room of a pool's queue", found: self.queue.len() as u64 }),
        };
        crash_point!("pool.post.after_send");
        posted
    }

    /// Takes a job, for the worker of this number.
    ///
    /// # Blocking
    ///
    /// While there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] if there will be no more; [`RecvError::Failed`].
    pub fn take(&self, worker: u64) -> Result<Job, RecvError> {
        let job = self.queue.recv_with(|job| {
            crash_point!("pool.take.before_note");
            if self.is_job(job) {
                // Ordered by the receiving, which is a store with Release.
                self.note(job.id()).store(worker, Relaxed);
            }
            crash_point!("pool.take.after_note");
            *job
        })?;
        crash_point!("pool.take.after_take");
        if self.is_job(&job) {
            Ok(job)
        } else {
            Err(RecvError::Failed(Error::Corrupted { what: "job of a pool", found: job.id().word() }))
        }
    }

    fn is_job(&self, job: &Job) -> bool {
        job.is_sealed(self.key) && job.id().slot() < self.slots()
    }

    fn note(&self, id: Id) -> &AtomicU64 {
        self.notes.word(id.slot() * NOTE)
    }

    /// Which of these jobs, that have been posted and of which no result has come, a dead worker has taken. All of its results have been
    /// received, and its death is proven.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupted`].
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn lost_with(&self, worker: u64, posted: impl IntoIterator<Item = Id>) -> Result<Vec<Id>, Error> {
        // Before the notes: see the module. Acquire, by which those of all that is counted are seen.
        let received = self.queue.received()?;
        let is_lost = |id: &Id| id.before() < received && self.note(*id).load(Relaxed) == worker;
        Ok(posted.into_iter().filter(is_lost).collect())
    }

    /// Whether nothing is to be taken at present.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Lets those who want jobs know that there will be no more.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::close`].
    pub fn close(&self) -> Result<(), Error> {
        self.queue.close()
    }
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use shmkit_channel::QueueOptions;
    use shmkit_core::Region;

    use super::super::job::Place;
    use super::*;

    const KEY: u64 = 0x5eed;

    fn board(region: &Region) -> Board {
        let queue = QueueOptions::new().capacity(4).create_in(region, "jobs").expect("room");
        let notes = region.insert_tailed("notes", AtomicU64::new(0), 4 * NOTE).expect("room");
        Board::new(queue, notes, KEY)
    }

    fn post(board: &Board, before: u64, slot: usize) -> Id {
        let id = Id::new(before, slot);
        board.post(Job::new(1, 1, 3, Place::Inline, b"abc"), id).expect("room");
        id
    }

    #[test]
    fn a_job_is_noted_as_that_of_the_one_who_has_taken_it() {
        let region = Region::anonymous(1 << 16).expect("a region");
        let board = board(&region);
        let ids = [post(&board, 0, 2), post(&board, 1, 0), post(&board, 2, 3)];
        assert_eq!(board.take(7).expect("a job").id(), ids[0]);
        assert_eq!(board.take(8).expect("a job").id(), ids[1]);
        assert_eq!(board.lost_with(7, ids).expect("a sound board"), [ids[0]]);
        assert_eq!(board.lost_with(8, ids).expect("a sound board"), [ids[1]]);
        assert!(board.lost_with(9, ids).expect("a sound board").is_empty());
    }

    /// Wherever a byte of the jobs is changed, nobody takes one that was not posted.
    #[test]
    fn a_job_that_was_scribbled_over_is_none() {
        for at in 0..4 * 64 {
            let region = Region::anonymous(1 << 16).expect("a region");
            let board = board(&region);
            let ids = [post(&board, 0, 0), post(&board, 1, 1), post(&board, 2, 2)];
            let file = File::from(region.as_fd().try_clone_to_owned().expect("a descriptor"));
            let mut all = vec![0; region.size()];
            file.read_exact_at(&mut all, 0).expect("the region");
            // The first cell, by what is in it.
            let id = ids[1].word().to_ne_bytes();
            let second = all.windows(8).position(|word| word == id).expect("the second job");
            let place = second - 8 - 64 + at;
            file.write_all_at(&[all[place] ^ 0x10], place as u64).expect("the region");
            board.close().expect("a turn");

            let mut taken = Vec::new();
            let ended = loop {
                match board.take(7) {
                    Ok(job) => taken.push(job.id()),
                    Err(error) => break error,
                }
            };

            assert!(ids.starts_with(&taken), "byte {at}: {taken:?}");
            let is_sound = at >= 3 * 64 && taken.len() == 3;
            assert!(matches!(ended, RecvError::Failed(_)) || is_sound, "byte {at}: {ended}, {taken:?}");
            assert!(board.lost_with(7, ids).is_ok_and(|lost| ids.starts_with(&lost)));
        }
    }
}
