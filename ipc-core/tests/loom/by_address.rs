//! The table of regions by address: one who looks while it is changed.

use core::sync::atomic::Ordering::{Acquire, Release};
use std::sync::Arc;

use loom::sync::atomic::AtomicU32;
use loom::thread;
use shmkit_core::shim::explore::explore;
use shmkit_core::shim::model::Numbers;

/// One region takes the place of another one in the table, at other addresses.
#[test]
fn one_who_looks_while_a_region_comes_in_the_place_of_another_finds_no_mixture() {
    explore(2, || {
        let table = Arc::new(Numbers::new());
        table.fill(&[(10..20, 1)]);
        let reader = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let found = [15, 25, 35].map(|address| table.find(address));
                assert!(matches!(found[0], Some(0 | 1) | None), "in the first one: {found:?}");
                assert!(matches!(found[1], Some(0) | None), "in between: {found:?}");
                assert!(matches!(found[2], Some(0 | 2) | None), "in the second one: {found:?}");
            }
        });
        table.fill(&[(30..40, 2)]);
        reader.join().unwrap();
        assert_eq!([15, 25, 35].map(|address| table.find(address)), [Some(0), Some(0), Some(2)]);
    });
}

/// Whoever got a handle to a region after it was entered finds that, or is to ask the registry: never nothing, and never what lay there before.
#[test]
fn one_who_has_a_handle_does_not_find_what_lay_there_before() {
    explore(2, || {
        let table = Arc::new(Numbers::new());
        table.fill(&[(10..20, 1)]);
        let handle = Arc::new(AtomicU32::new(0));
        let reader = thread::spawn({
            let (table, handle) = (Arc::clone(&table), Arc::clone(&handle));
            move || {
                if handle.load(Acquire) == 1 {
                    let found = table.find(15);
                    assert!(matches!(found, Some(2) | None), "{found:?}");
                }
            }
        });
        table.fill(&[(12..22, 2)]);
        handle.store(1, Release);
        // Another region comes before it.
        table.fill(&[(2..8, 3), (12..22, 2)]);
        reader.join().unwrap();
    });
}
