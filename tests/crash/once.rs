//! A value that is made once: by one who dies or fails, or while one who dies waits.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use shmkit::shim::crash::arm;
use shmkit::{InitError, OnceLock, Shm};

use crate::common::{BOUND, Child, Name, Parent, Stage, until};
use crate::{Scene, has_died, until_sleeps_or_dies};

pub(crate) const SCENES: &[(&str, Scene)] =
    &[("once_make", beside_one_who_waits), ("once_fail", beside_one_who_waits), ("once_wait", beside_one_who_makes)];

type Value = OnceLock<[u64; 4]>;

const OF_VICTIM: [u64; 4] = [1; 4];
const OF_OTHER: [u64; 4] = [2; 4];

/// The state, whose lowest bit says that somebody waits.
fn word(value: &Value) -> &AtomicU64 {
    // SAFETY: a once-lock begins with this atomic word.
    unsafe { &*std::ptr::from_ref(value).cast() }
}

fn beside_one_who_waits(_other: &Name, victim: &mut Child, stage: &Stage) {
    let value = stage.region.insert("value", Value::new()).expect("room");
    victim.tell("go");
    until("the victim's beginning or end", || word(&value).load(Relaxed) != 0 || has_died(victim));
    let made = *value.get_or_init_timeout(BOUND, || OF_OTHER).expect("a value");
    assert!(made == OF_VICTIM || made == OF_OTHER, "torn: {made:?}");
    assert_eq!(value.get(), Some(&made));
}

fn beside_one_who_makes(_other: &Name, victim: &mut Child, stage: &Stage) {
    let value = stage.region.insert("value", Value::new()).expect("room");
    let made = value.get_or_init(|| {
        victim.tell("go");
        until_sleeps_or_dies(victim);
        OF_OTHER
    });
    assert_eq!(made.expect("a value"), &OF_OTHER);
}

/// What the victim does.
pub(crate) fn victim(scene: &str, parent: &mut Parent, stage_name: &str, die_at: usize) {
    let stage = Stage::open(stage_name);
    parent.expect("go");
    let value: Shm<Value> = stage.region.get("value").expect("the value");
    arm(die_at);
    let made = value.get_or_try_init(|| {
        until("one who waits", || word(&value).load(Relaxed) & 1 == 1);
        if scene == "once_fail" { Err(()) } else { Ok(OF_VICTIM) }
    });
    assert!(matches!(made, Ok(_) | Err(InitError::Init(()))));
}
