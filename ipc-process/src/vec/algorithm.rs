//! What is done to a vector: looking without a lock, changing an element under its lock, coming and going under that of the head.

use bytemuck::Pod;
use shmkit_core::identity::{self, Token};
use shmkit_core::raw_lock::{Held, NotHeld, RawLock};
use shmkit_core::shim::spin_loop;
use shmkit_core::{Described, Error, crash_point};

use super::layout::{Element, Table};

/// How often one looks again without the lock, if others come in between. In models once is like often.
const LOOKS: u32 = if cfg!(ipc_loom) { 1 } else { 100 };

/// A lock that is held; given up when dropped, also by a panic.
///
/// Two words without padding, so that it stays in registers: whether the last owner has died is asked where the lock is waited for.
struct Turn<'a> {
    lock: &'a RawLock,
    token: Token,
}

impl<'a> Turn<'a> {
    /// Waits for the lock. If its last owner has died with it, does `mend` first.
    #[inline]
    fn take(lock: &'a RawLock, mend: impl FnOnce()) -> Result<Self, Error> {
        let token = match lock.lock_if_free() {
            Some(held) => held.token,
            None => Self::wait(lock, mend)?,
        };
        Ok(Self { lock, token })
    }

    #[cold]
    #[inline(never)]
    fn wait(lock: &RawLock, mend: impl FnOnce()) -> Result<Token, Error> {
        let held = lock.lock(None).map_err(|error| match error {
            NotHeld::Failed(error) => error,
            NotHeld::TimedOut => Error::Busy,
        })?;
        if held.after_death {
            mend();
        }
        Ok(held.token)
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock(Held { token: self.token, after_death: false });
    }
}

/// An element that is there, and stays there and as it is until this is dropped.
pub(super) struct Changing<'a, T: Pod + Described> {
    element: Element<'a, T>,
    turn: Turn<'a>,
}

impl<T: Pod + Described> Changing<'_, T> {
    /// Whether it is of the calling process; not so in a child that was forked meanwhile.
    pub(super) fn is_own(&self) -> bool {
        identity::is_own(self.turn.token)
    }

    #[inline]
    pub(super) fn value(&self) -> T {
        self.element.read()
    }

    #[inline]
    pub(super) fn set(&self, value: &T) {
        self.element.set(value);
    }
}

impl<T: Pod + Described> Table<T> {
    /// The element at `index`; `None` if there is none.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Result<Option<T>, Error> {
        if index >= self.capacity {
            return Ok(None);
        }
        match self.try_get(index)? {
            Some(found) => Ok(found),
            None => self.get_again(index),
        }
    }

    /// The same, or `None` if somebody came in between.
    #[inline]
    fn try_get(&self, index: usize) -> Result<Option<Option<T>>, Error> {
        let element = self.element(index);
        let version = element.begin_to_read();
        if index >= self.len()? {
            return Ok(Some(None));
        }
        // It is there, and stays as long as the version does.
        Ok(element.try_read(version).map(Some))
    }

    #[cold]
    fn get_again(&self, index: usize) -> Result<Option<T>, Error> {
        for _ in 0..LOOKS {
            if let Some(found) = self.try_get(index)? {
                return Ok(found);
            }
            spin_loop();
        }
        Ok(self.change(index)?.map(|element| element.value()))
    }

    /// The element at `index`, to be changed; `None` if there is none.
    ///
    /// Whoever calls this makes an error of its `None` in the place where it returns that. In a result of their own, the element and an error of many words would
    /// share memory.
    #[inline]
    pub(super) fn change(&self, index: usize) -> Result<Option<Changing<'_, T>>, Error> {
        if index >= self.capacity {
            return Ok(None);
        }
        let element = self.element(index);
        let turn = Turn::take(element.lock(), || {})?;
        // Who takes it away needs this lock, too.
        if index >= self.len()? {
            return Ok(None);
        }
        Ok(Some(Changing { element, turn }))
    }

    /// Waits for the turn to push or pop. If the last one has died with it, an element may have gone without a word.
    #[inline]
    fn take_turn(&self) -> Result<Turn<'_>, Error> {
        Turn::take(&self.shared().lock, || {
            // A length that makes no sense is reported by whoever has the turn.
            if let Some(gone) = self.len().ok().filter(|len| *len < self.capacity) {
                self.element(gone).disturb();
            }
        })
    }

    /// Puts elements behind the last one, all by one store; says where the first one is. `None` if there is no room for all of them.
    pub(super) fn extend(&self, values: &[T]) -> Result<Option<usize>, Error> {
        let _turn = self.take_turn()?;
        let len = self.len()?;
        if values.len() > self.capacity - len {
            return Ok(None);
        }
        for (index, value) in (len..).zip(values) {
            self.element(index).fill(value);
            crash_point!("vec.push.after_value");
        }
        self.set_len(len + values.len());
        crash_point!("vec.push.after_len");
        Ok(Some(len))
    }

    /// Takes the last element away, by one store.
    pub(super) fn pop(&self) -> Result<Option<T>, Error> {
        let _turn = self.take_turn()?;
        let Some(last) = self.len()?.checked_sub(1) else {
            return Ok(None);
        };
        let element = self.element(last);
        // Nobody is changing it, and nobody will who has seen that it is there.
        let _changing = Turn::take(element.lock(), || {})?;
        let value = element.read();
        self.set_len(last);
        crash_point!("vec.pop.after_len");
        // Who has seen the old length and looks at the element must not take what the next push writes there for it.
        element.disturb();
        crash_point!("vec.pop.after_disturb");
        Ok(Some(value))
    }
}
