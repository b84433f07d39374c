//! The inputs that are kept, through the models: the seeds, and whatever was ever found.

use std::fs;
use std::path::{Path, PathBuf};

use shmkit_fuzz_models::{Seen, TARGETS, Target};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// The inputs in a folder, in order; none if there is no such folder.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut inputs: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    inputs
}

fn replay(target: &Target, inputs: &[PathBuf]) -> Seen {
    let mut all = Seen::default();
    for input in inputs {
        // Shown if it fails: the last one is the culprit.
        println!("{}", input.display());
        let mut seen = Seen::default();
        (target.run)(&fs::read(input).expect("a file"), &mut seen);
        all.merge(&seen);
    }
    all
}

#[test]
fn every_seed_does_what_the_model_says() {
    let mut reached = String::new();
    for target in TARGETS {
        let seeds = inputs(&folder("seeds").join(target.name));
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let seen = replay(target, &seeds);
        if target.is_exact {
            for (operation, result) in seen.all() {
                reached += &format!("{}: {operation}: {result}\n", target.name);
            }
        }
    }
    let expected = fs::read_to_string(folder("seeds").join("reached.txt")).expect("what they reach");
    assert_eq!(reached, expected, "the seeds reach something else than when they were made: make them anew");
}

#[test]
fn what_was_found_once_is_not_found_again() {
    for target in TARGETS {
        replay(target, &inputs(&folder("findings").join(target.name)));
    }
}

#[test]
fn there_is_no_input_without_a_target() {
    for kind in ["seeds", "findings"] {
        for entry in inputs(&folder(kind)).into_iter().filter(|entry| entry.is_dir()) {
            let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(TARGETS.iter().any(|target| target.name == name), "{}", entry.display());
        }
    }
}
