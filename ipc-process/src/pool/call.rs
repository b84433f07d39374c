//! Calls: how functions, arguments and values travel.
//!
//! A chunk is a number of sets of arguments for one function, one after the other, as postcard encodes them. What comes back is an
//! entry for each:
//!
//! ```text
//! | 0 | value |     | 1 | message of its panic |     | 2 | what is wrong with the arguments |     | 3 | with the value |
//! ```
//!
//! A function is told by two places in the program, as their distances from one that all processes of the program know: that of the
//! function, and that of the one that calls it, [`run`] for its types.

use core::fmt::Display;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shmkit_core::transfer;

use super::error::TaskError;
use crate::process::{function, message, only_here};

const VALUE: u8 = 0;
const PANICKED: u8 = 1;
const ARGS: u8 = 2;
const NO_VALUE: u8 = 3;

/// Arguments, encoded.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) files: Vec<OwnedFd>,
}

/// Calls the function at an address with the arguments in a chunk, and appends an entry for each.
type Run = unsafe fn(usize, &[u8], Vec<OwnedFd>, u32, &mut Vec<u8>);

/// The word that tells a function. `None` if it is not part of the main program.
pub(super) fn word_of<A: DeserializeOwned, R: Serialize>(function: fn(A) -> R) -> Option<u64> {
    let half = |address| Some(i32::try_from(function::place(address)?).ok()? as u32);
    let run = half(run::<A, R> as Run as usize)?;
    Some(u64::from(run) << 32 | u64::from(half(function as usize)?))
}

/// Calls the function that a word tells.
///
/// # Safety
///
/// The word is one of [`word_of`], made by a process that runs the same program.
///
/// # Errors
///
/// If there is no code of this program.
pub(super) unsafe fn run_word(
    word: u64,
    bytes: &[u8],
    files: Vec<OwnedFd>,
    count: u32,
    entries: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let address =
        |half: u32| function::address(i64::from(half as i32)).ok_or("the function is not part of this program");
    let (run, function) = (address((word >> 32) as u32)?, address(word as u32)?);
    // SAFETY: by the caller's word, a `Run` for the types of the function is there, at the same place in the same program.
    unsafe {
        let run = mem::transmute::<*const (), Run>(core::ptr::with_exposed_provenance(run));
        run(function, bytes, files, count, entries);
    }
    Ok(())
}

impl Chunk {
    /// Encodes sets of arguments.
    pub(super) fn of<A: Serialize>(args: &[A]) -> Result<Self, String> {
        let (encoded, files) = transfer::pack(|| {
            args.iter().try_fold(Vec::with_capacity(8 * args.len()), |bytes, args| postcard::to_extend(args, bytes))
        });
        if u32::try_from(args.len()).is_err() {
            return Err("there are too many sets of arguments in a chunk".to_owned());
        }
        let bytes = encoded.map_err(|error| format!("its arguments cannot be serialised: {}", why(&error)))?;
        Ok(Self { bytes, files })
    }
}

/// See [`Run`].
///
/// # Safety
///
/// There is a `fn(A) -> R` at the address.
unsafe fn run<A: DeserializeOwned, R: Serialize>(
    function: usize,
    bytes: &[u8],
    files: Vec<OwnedFd>,
    count: u32,
    entries: &mut Vec<u8>,
) {
    // SAFETY: by the caller's word.
    let function = unsafe { mem::transmute::<*const (), fn(A) -> R>(core::ptr::with_exposed_provenance(function)) };
    let decode = |mut rest: &[u8]| {
        let args = (0..count).map(|_| {
            let (args, left) = postcard::take_from_bytes::<A>(rest)?;
            rest = left;
            Ok(args)
        });
        args.collect::<Result<Vec<A>, postcard::Error>>()
    };
    // What goes wrong in the code of the arguments goes wrong with the task, too.
    let args = match catch_unwind(AssertUnwindSafe(|| transfer::unpack(files, || decode(bytes)))) {
        Ok(Ok(args)) => args,
        Ok(Err(error)) => {
            return refuse(entries, count, ARGS, &format!("its arguments cannot be read: {}", why(&error)));
        }
        Err(cause) => return refuse(entries, count, PANICKED, &message(cause)),
    };
    let mut encoded = Vec::new();
    for args in args {
        let run = || only_here(|| postcard::to_extend(&function(args), mem::take(&mut encoded)));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => {
                entries.push(VALUE);
                entries.extend_from_slice(&value);
                encoded = value;
                encoded.clear();
            }
            Ok(Err(error)) => refuse(entries, 1, NO_VALUE, &format!("it cannot be serialised: {}", why(&error))),
            Err(cause) => refuse(entries, 1, PANICKED, &message(cause)),
        }
    }
}

/// Appends so many entries without a value.
#[cold]
fn refuse(entries: &mut Vec<u8>, count: u32, kind: u8, message: &str) {
    for _ in 0..count {
        entries.push(kind);
        // Into memory of our own, so there is nothing that could fail.
        entries.extend(postcard::to_allocvec(message).unwrap_or_default());
    }
}

/// What was wrong with a value: the format drops what its parts have said.
fn why(error: &postcard::Error) -> String {
    transfer::refusal().unwrap_or_else(|| error.to_string())
}

/// The values of tasks, one after the other, out of their entries.
pub(super) struct Values<'a, R> {
    task: &'a dyn Display,
    rest: &'a [u8],
    _values: PhantomData<fn() -> R>,
}

impl<'a, R: DeserializeOwned> Values<'a, R> {
    pub(super) fn new(task: &'a dyn Display, entries: &'a [u8]) -> Self {
        Self { task, rest: entries, _values: PhantomData }
    }

    fn take<T: DeserializeOwned>(&mut self) -> Result<T, TaskError> {
        match postcard::take_from_bytes(self.rest) {
            Ok((value, rest)) => {
                self.rest = rest;
                Ok(value)
            }
            Err(error) => {
                // Nothing that follows can be told apart any more.
                self.rest = &[];
                Err(TaskError::Value { task: self.task.to_string(), what: format!("it cannot be read: {error}") })
            }
        }
    }

    /// The value of the next task.
    pub(super) fn next(&mut self) -> Result<R, TaskError> {
        let kind = match self.rest.split_first() {
            Some((&VALUE, rest)) => {
                self.rest = rest;
                return self.take();
            }
            Some((kind, rest)) => {
                self.rest = rest;
                *kind
            }
            None => {
                let what = "what comes before it cannot be read".to_owned();
                return Err(TaskError::Value { task: self.task.to_string(), what });
            }
        };
        let (message, task) = (self.take::<String>()?, self.task.to_string());
        Err(match kind {
            PANICKED => TaskError::Panicked { task, message },
            ARGS => TaskError::Args { task, what: message },
            _ => TaskError::Value { task, what: message },
        })
    }
}
