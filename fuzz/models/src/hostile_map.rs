//! Maps that somebody scribbles over, for those who look. Those that change something may wait for ever for whoever stands in a lock.

use arbitrary::{Arbitrary, Unstructured};
use shmkit::process::{MapOptions, SharedMap};

use crate::seen::{Seen, kind};
use crate::stage::{Scribble, Stage, with_stage};

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let _ = play(&mut Unstructured::new(data), seen);
}

fn play(input: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
    with_stage(|stage| {
        let start = stage.end();
        let mut options = MapOptions::new();
        let options = options.capacity(8).longest_key(12);
        let map: SharedMap<str, u32> = options.create_in(stage.region(), "map").expect("room");
        for (number, key) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            map.insert(key, number as u32).expect("room");
        }
        let end = stage.end();
        for _ in 0..100 {
            if input.is_empty() {
                break;
            }
            stage.scribble(start, end, &Scribble::arbitrary(input)?);
            look(stage, &map, <&str>::arbitrary(input)?, seen);
        }
        Ok(())
    })
}

fn look(stage: &Stage, map: &SharedMap<str, u32>, key: &str, seen: &mut Seen) {
    for key in ["a", "b", "c", "d", "e", key] {
        seen.note("get", kind(&map.get(key)));
        seen.note("contains", kind(&map.contains_key(key)));
    }
    seen.note("len", kind(&map.len()));
    // Each error is that of some entries; there are no more of them than entries.
    assert!(map.iter().count() <= 1000);
    let opened: Result<SharedMap<str, u32>, _> = SharedMap::open_in(stage.region(), "map");
    seen.note("open", kind(&opened));
    if let Ok(opened) = opened {
        let _ = (opened.get("a").is_ok(), opened.is_empty().is_ok());
        assert!(opened.iter().count() <= 10_000);
    }
}
