//! A vector in a region.
//!
//! * `layout.rs`: what lies in shared memory, and who writes it;
//! * `algorithm.rs`: looking, changing, coming and going;
//! * `options.rs`, `error.rs`: how vectors are made; what can go wrong.
//!
//! # States
//!
//! | state of a place | `get` | `set`, `update` | `push` | `pop` |
//! |---|---|---|---|---|
//! | at or beyond `len` | nothing | refused, under its lock | the first of them: fills the value that is valid by its `version`, then raises `len` | - |
//! | below `len` | copies the valid value; again if the version has changed meanwhile | under its lock: fills the other value, then raises `version` | - | the last of them: under its lock, too, lowers `len`, then raises `version` by two |
//!
//! Pushes and pops take turns under the lock of the head. A pop waits for whoever is changing the last element; and whoever has its lock and finds the
//! element there knows that it stays.
//!
//! An element that has gone may come back as another one while somebody looks at it, by a push that has not come to its end. So its version tells that it has gone,
//! and whoever looks reads it before the length. No other element disturbs the look: one who looks within its own change has the lock that a look which is disturbed
//! too often waits for, and nobody else can change the version then.
//!
//! # What a death leaves
//!
//! * Each change is one store: of `len`, or of the `version`. Before that the vector is as it was, after it as it is to be.
//! * Perhaps the lock of a dead, which the next one takes over, and a value that is not valid or beyond the length. Where that was the lock of the head, the next
//!   one raises the `version` at `len`, which the dead may not have come to.
//!
//! # Garbage
//!
//! The capacity is checked when a vector is opened, and kept privately. A length beyond it is [`Error::Corrupted`]. Every version is one, and every value.

mod algorithm;
mod error;
mod layout;
#[cfg(not(ipc_loom))]
mod options;

use core::fmt;
use core::iter::FusedIterator;
use core::slice;
use std::sync::Arc;

use bytemuck::Pod;
use shmkit_core::{Described, Error, Tailed};

use self::layout::{Head, Table};

pub use self::error::VecError;
#[cfg(not(ipc_loom))]
pub use self::options::VecOptions;

/// A vector of fixed capacity that any number of processes and threads read and change.
///
/// Its elements are plain values, which are copied in and out. Clones denote the same vector, and a forked child may go on using those that it
/// inherits.
///
/// Looking takes no lock and writes nothing. Changes of one element take turns; those who push or pop take turns with each other. Where all elements
/// are there from the beginning, and are small or need not be whole, a [`SharedArray`](shmkit_core::SharedArray) does it for less.
///
/// # What a death means
///
/// A process killed in the middle of a change has made it or not; no element is ever torn, and nobody waits for the dead. So nothing is poisoned.
///
/// # Examples
///
/// ```
/// use shmkit_process::SharedVec;
///
/// # let name = format!("shmkit-doc-vec-{}", std::process::id());
/// # let name = name.as_str();
/// let marks = SharedVec::<f64>::create(name, 100)?;
/// marks.push(2.5)?;
///
/// // In any other process:
/// let marks = SharedVec::<f64>::open(name)?;
/// marks.extend_from_slice(&[1.0, 3.0])?;
/// marks.update(1, |mark| *mark += 0.5)?;
/// assert_eq!(marks.get(1)?, Some(1.5));
/// assert_eq!(marks.iter().collect::<Result<Vec<_>, _>>()?, [2.5, 1.5, 3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedVec<T: Pod + Described> {
    table: Table<T>,
    name: Arc<str>,
}

impl<T: Pod + Described> SharedVec<T> {
    fn of(shared: Tailed<Head<T>>, name: &str) -> Result<Self, VecError> {
        Ok(Self { table: Table::new(shared)?, name: name.into() })
    }

    /// A vector for models.
    #[cfg(ipc_loom)]
    pub fn model(capacity: u64) -> Self {
        let bytes = Head::<T>::bytes(capacity).expect("a small one");
        Self::of(Tailed::new(Head::new(capacity), bytes), "model").expect("a sound one")
    }

    /// The element at `index`, if there is one.
    ///
    /// # Blocking
    ///
    /// Never, unless a hundred changes of it come in between one after the other; then it takes its turn with them. A process that is stopped in the
    /// middle of a change does not matter.
    ///
    /// # Crash safety
    ///
    /// It changes nothing.
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`].
    #[inline]
    pub fn get(&self, index: usize) -> Result<Option<T>, VecError> {
        Ok(self.table.get(index)?)
    }

    /// Gives the element at `index` another value.
    ///
    /// # Blocking
    ///
    /// While another one is changing the same element.
    ///
    /// # Crash safety
    ///
    /// A process killed in this leaves the old value or the new one.
    ///
    /// # Errors
    ///
    /// [`VecError::OutOfRange`]; [`VecError::Failed`].
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), VecError> {
        let Some(element) = self.table.change(index)? else {
            return Err(self.out_of_range(index));
        };
        element.set(&value);
        Ok(())
    }

    /// Changes the element at `index` by `change`, which gets a copy of it, and returns what `change` does. No change by others comes in between.
    ///
    /// # Blocking
    ///
    /// As [`set`](Self::set). While `change` runs, others wait who want to change the same element, or to pop it. So it must change nothing in the same vector; to look is
    /// fine, and gives the old value.
    ///
    /// # Crash safety
    ///
    /// As for [`set`](Self::set).
    ///
    /// # Errors
    ///
    /// Those of [`set`](Self::set); [`Error::Forked`] in a child that `change` has forked, in which nothing was changed: the turn is its parent's.
    ///
    /// # Panics
    ///
    /// If `change` does; nothing was changed then.
    #[inline]
    pub fn update<R>(&self, index: usize, change: impl FnOnce(&mut T) -> R) -> Result<R, VecError> {
        let Some(element) = self.table.change(index)? else {
            return Err(self.out_of_range(index));
        };
        let mut value = element.value();
        let result = change(&mut value);
        if !element.is_own() {
            return Err(VecError::Failed(Error::Forked));
        }
        element.set(&value);
        Ok(result)
    }

    /// Puts an element behind the last one; says at which index.
    ///
    /// # Blocking
    ///
    /// While another one is pushing or popping.
    ///
    /// # Crash safety
    ///
    /// A process killed in this has put it there or not.
    ///
    /// # Errors
    ///
    /// [`VecError::Full`]; [`VecError::Failed`].
    #[inline]
    pub fn push(&self, value: T) -> Result<usize, VecError> {
        self.extend_from_slice(slice::from_ref(&value))
    }

    /// Puts elements behind the last one, all at once; says at which index the first of them is.
    ///
    /// # Blocking
    ///
    /// As [`push`](Self::push).
    ///
    /// # Crash safety
    ///
    /// A process killed in this has put all of them there or none.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push); then none of them is there.
    pub fn extend_from_slice(&self, values: &[T]) -> Result<usize, VecError> {
        self.table.extend(values)?.ok_or_else(|| self.full())
    }

    /// Puts values behind the last element that an iterator makes: first all of them, in private memory, and then [put there](Self::extend_from_slice) at once.
    ///
    /// # Errors
    ///
    /// As for [`extend_from_slice`](Self::extend_from_slice). From values that do not end, no more are taken than could ever fit.
    pub fn extend(&self, values: impl IntoIterator<Item = T>) -> Result<usize, VecError> {
        let values: Vec<T> = values.into_iter().take(self.capacity().saturating_add(1)).collect();
        self.extend_from_slice(&values)
    }

    /// Takes the last element away, and returns it.
    ///
    /// # Blocking
    ///
    /// As [`push`](Self::push), and while another one is changing that element.
    ///
    /// # Crash safety
    ///
    /// A process killed in this has taken it away or not. If it has, the element is lost with it.
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`].
    pub fn pop(&self) -> Result<Option<T>, VecError> {
        Ok(self.table.pop()?)
    }

    /// How many elements there are. May be outdated when it returns.
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`].
    #[inline]
    pub fn len(&self) -> Result<usize, VecError> {
        Ok(self.table.len()?)
    }

    /// Whether there are none. May be outdated when it returns.
    ///
    /// # Errors
    ///
    /// [`VecError::Failed`].
    #[inline]
    pub fn is_empty(&self) -> Result<bool, VecError> {
        Ok(self.len()? == 0)
    }

    /// How many elements there can be.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.table.capacity
    }

    /// Goes through the elements, from the first to the last that is there when it comes to it. Each is one that was there at some point, and whole.
    pub fn iter(&self) -> VecIter<'_, T> {
        VecIter { vec: self, index: 0 }
    }

    #[cold]
    #[inline(never)]
    fn out_of_range(&self, index: usize) -> VecError {
        VecError::OutOfRange { vec: self.name.to_string(), index }
    }

    #[cold]
    #[inline(never)]
    fn full(&self) -> VecError {
        VecError::Full { vec: self.name.to_string(), capacity: self.capacity() }
    }
}

impl<T: Pod + Described> Clone for SharedVec<T> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), name: Arc::clone(&self.name) }
    }
}

impl<T: Pod + Described> fmt::Debug for SharedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SharedVec");
        debug.field("name", &self.name).field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

/// The elements of a [`SharedVec`].
#[derive(Debug)]
pub struct VecIter<'a, T: Pod + Described> {
    vec: &'a SharedVec<T>,
    /// The next one; `usize::MAX` behind the last.
    index: usize,
}

impl<T: Pod + Described> Iterator for VecIter<'_, T> {
    type Item = Result<T, VecError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.vec.get(self.index).transpose();
        self.index = if matches!(next, Some(Ok(_))) { self.index + 1 } else { usize::MAX };
        next
    }
}

impl<T: Pod + Described> FusedIterator for VecIter<'_, T> {}

impl<'a, T: Pod + Described> IntoIterator for &'a SharedVec<T> {
    type Item = Result<T, VecError>;
    type IntoIter = VecIter<'a, T>;

    fn into_iter(self) -> VecIter<'a, T> {
        self.iter()
    }
}
