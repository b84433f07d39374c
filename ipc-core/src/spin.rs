//! How long to look before sleeping.
//!
//! Between two CPUs a change arrives within a fraction of a microsecond, and any sleep costs tens of them; on one CPU, or with more
//! runnable threads than CPUs, looking only keeps away the one who would bring the change. Neither is known beforehand, so each
//! thread learns from what its looking came to: after a time in vain it leaves the next occasion out, then the next two, four, up to
//! 64, until looking was worth it again.
//!
//! Measured with two to eight processes on two CPUs: looking for less than ten microseconds makes two that hand over to one another fall
//! asleep at every disturbance, and find out of it rarely; with shorter pauses, those that have no CPU of their own lose half of their
//! speed.

use core::cell::Cell;

use crate::shim::spin_loop;

/// How often to look in one go: some ten microseconds.
const LOOKS: u32 = 500;

/// The most occasions in a row to leave out.
const LONGEST_PAUSE: u32 = 64;

/// What a thread does before it sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spinning {
    /// It looks for some ten microseconds where that has been of use lately.
    #[default]
    Adaptive,
    /// It always looks for some ten microseconds: whoever brings the change runs on another CPU, surely.
    Always,
    /// It sleeps at once: threads of higher priority must not be kept waiting, or power counts.
    Never,
}

/// What a thread knows.
#[derive(Clone, Copy)]
struct Experience {
    spinning: Spinning,
    /// How many occasions are still to be left out.
    left_out: u32,
    /// How many to leave out after the next look in vain.
    pause: u32,
}

std::thread_local! {
    static EXPERIENCE: Cell<Experience> =
        const { Cell::new(Experience { spinning: Spinning::Adaptive, left_out: 0, pause: 1 }) };
}

/// Sets what the calling thread does before it sleeps on anything of this library, from now on.
pub fn set_spinning(spinning: Spinning) {
    EXPERIENCE.set(Experience { spinning, left_out: 0, pause: 1 });
}

/// Looks for a while, if that is likely to be of use, until `look` finds something.
///
/// # Blocking
///
/// For some ten microseconds at most.
pub fn spin<R>(look: impl FnMut() -> Option<R>) -> Option<R> {
    // In a model each look would only multiply the orders to explore.
    if cfg!(ipc_loom) {
        return None;
    }
    let mut experience = EXPERIENCE.get();
    match experience.spinning {
        Spinning::Never => return None,
        Spinning::Adaptive if experience.left_out > 0 => {
            experience.left_out -= 1;
            EXPERIENCE.set(experience);
            return None;
        }
        _ => {}
    }
    let found = look_up_to(LOOKS, look);
    if found.is_some() {
        experience.pause = 1;
    } else {
        experience.left_out = experience.pause;
        experience.pause = (experience.pause * 2).min(LONGEST_PAUSE);
    }
    EXPERIENCE.set(experience);
    found
}

/// Calls `look` until it finds something, at most `looks` times, whatever earlier calls were good for: for locks, which are mostly held for so
/// short a time that there is nothing to learn.
pub fn spin_briefly<R>(looks: u32, look: impl FnMut() -> Option<R>) -> Option<R> {
    if cfg!(ipc_loom) || EXPERIENCE.get().spinning == Spinning::Never {
        return None;
    }
    look_up_to(looks, look)
}

fn look_up_to<R>(looks: u32, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    (0..looks).find_map(|_| {
        spin_loop();
        look()
    })
}

#[cfg(all(test, not(ipc_loom)))]
mod tests {
    use super::*;

    fn looks_of(occasions: u32, found: bool) -> u32 {
        let mut looks = 0;
        for _ in 0..occasions {
            let _ = spin(|| {
                looks += 1;
                found.then_some(())
            });
        }
        looks
    }

    #[test]
    fn one_who_finds_at_once_looks_each_time() {
        assert_eq!(looks_of(10, true), 10);
    }

    #[test]
    fn one_who_looks_in_vain_does_so_ever_more_rarely() {
        // The 1st, then one, two, four, eight and sixteen left out: the 3rd, 6th, 11th, 20th and 37th.
        assert_eq!(looks_of(37, false), 6 * LOOKS);
        // 32, and from then on always 64.
        assert_eq!(looks_of(33 + 10 * (LONGEST_PAUSE + 1), false), 11 * LOOKS);
    }

    #[test]
    fn one_who_never_spins_does_not_look() {
        set_spinning(Spinning::Never);
        assert_eq!(looks_of(10, true), 0);
    }

    #[test]
    fn one_who_always_spins_looks_whatever_came_of_it() {
        set_spinning(Spinning::Always);
        assert_eq!(looks_of(10, false), 10 * LOOKS);
    }
}
