//! What vectors do, seen by one process.

#![cfg(not(ipc_loom))]

use std::thread;

use shmkit_core::{Error, Region};
use shmkit_process::{SharedVec, VecError, VecOptions};

fn vec<T: bytemuck::Pod + shmkit_core::Described>(capacity: u64) -> SharedVec<T> {
    VecOptions::new().capacity(capacity).anonymous().expect("a vector")
}

fn elements(vec: &SharedVec<u64>) -> Vec<u64> {
    vec.iter().collect::<Result<_, _>>().expect("elements")
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn elements_come_and_go_at_the_end_and_change_in_place() -> Result<(), VecError> {
    let vec = vec::<u64>(10);

    assert_eq!((vec.len()?, vec.get(0)?, vec.pop()?), (0, None, None));
    assert_eq!(vec.push(5)?, 0);
    assert_eq!(vec.extend_from_slice(&[6, 7])?, 1);
    assert_eq!(vec.extend((8..10).map(|n| n * 10))?, 3);
    vec.set(1, 60)?;
    assert_eq!(vec.update(2, |element| std::mem::replace(element, 70))?, 7);
    assert_eq!(elements(&vec), [5, 60, 70, 80, 90]);
    assert_eq!(vec.pop()?, Some(90));
    assert_eq!((vec.len()?, vec.get(4)?, vec.is_empty()?), (4, None, false));
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_as_a_whole() -> Result<(), VecError> {
    let vec = vec::<u64>(3);
    vec.push(1)?;

    assert!(matches!(vec.extend_from_slice(&[2, 3, 4]), Err(VecError::Full { capacity: 3, .. })));
    assert!(matches!(vec.extend(0..), Err(VecError::Full { .. })));
    assert_eq!(elements(&vec), [1]);
    vec.extend_from_slice(&[2, 3])?;
    let refused = vec.push(4).expect_err("no room");
    assert_eq!(refused.to_string(), "the vector \"vec\" has room for 3 elements, which is not enough: make it larger");
    assert_eq!(vec.extend_from_slice(&[])?, 3);
    Ok(())
}

#[test]
fn what_is_not_there_is_not_changed() -> Result<(), VecError> {
    let vec = vec::<u64>(3);
    vec.push(1)?;

    for index in [1, 2, 3, usize::MAX] {
        let refused = vec.set(index, 0).expect_err("no element");
        assert_eq!(refused.to_string(), format!("the vector \"vec\" has no element {index}"));
        assert!(matches!(vec.update(index, |_| ()), Err(VecError::OutOfRange { .. })));
        assert_eq!(vec.get(index)?, None);
    }
    Ok(())
}

#[test]
fn any_sequence_of_changes_is_that_of_a_plain_vector() -> Result<(), VecError> {
    let mut random = Random(1);
    let mut model = Vec::new();
    let vec = vec::<u64>(20);
    for step in 0..50_000 {
        let index = random.below(22) as usize;
        match random.below(6) {
            0 if model.len() < 20 => {
                assert_eq!(vec.push(step)?, model.len());
                model.push(step);
            }
            0 => assert!(matches!(vec.push(step), Err(VecError::Full { .. }))),
            1 => assert_eq!(vec.pop()?, model.pop()),
            2 => match model.get_mut(index) {
                Some(element) => {
                    *element = step;
                    vec.set(index, step)?;
                }
                None => assert!(matches!(vec.set(index, step), Err(VecError::OutOfRange { .. }))),
            },
            3 if index < model.len() => {
                model[index] += 1;
                assert_eq!(vec.update(index, |element| std::mem::replace(element, *element + 1))? + 1, model[index]);
            }
            4 if model.len() + 3 <= 20 => {
                vec.extend_from_slice(&[step; 3])?;
                model.extend([step; 3]);
            }
            _ => assert_eq!(vec.get(index)?, model.get(index).copied()),
        }
        assert_eq!(vec.len()?, model.len());
        if step % 100 == 0 {
            assert_eq!(elements(&vec), model);
        }
    }
    Ok(())
}

#[test]
fn elements_of_any_size_come_back_as_they_were() -> Result<(), VecError> {
    let long = vec::<[u16; 301]>(5);
    for number in 0..5 {
        long.push([number; 301])?;
    }
    long.set(2, [22; 301])?;
    assert_eq!(long.iter().map(|element| element.map(|e| (e[0], e[300]))).collect::<Result<Vec<_>, _>>()?[2], (22, 22));
    let odd = vec::<[u8; 9]>(5);
    odd.push([7; 9])?;
    odd.update(0, |element| element[8] = 8)?;
    assert_eq!(odd.get(0)?, Some([7, 7, 7, 7, 7, 7, 7, 7, 8]));
    Ok(())
}

#[test]
fn threads_lose_and_tear_nothing() -> Result<(), VecError> {
    let vec = vec::<[u64; 3]>(4 * 2000 + 1);
    vec.push([0; 3])?;
    thread::scope(|scope| {
        for _ in 0..4 {
            let vec = vec.clone();
            scope.spawn(move || {
                for _ in 0..2000 {
                    vec.push([1; 3]).expect("room");
                    vec.update(0, |sum| sum.iter_mut().for_each(|part| *part += 1)).expect("the first");
                    let seen = vec.get(0).expect("a look").expect("the first");
                    assert_eq!(seen, [seen[0]; 3]);
                }
            });
        }
    });
    assert_eq!((vec.len()?, vec.get(0)?), (8001, Some([8000; 3])));
    assert!(vec.iter().skip(1).all(|element| element.is_ok_and(|element| element == [1; 3])));
    Ok(())
}

/// An element that comes and goes is seen as one that was there, or not at all.
#[test]
fn who_looks_beside_pushes_and_pops_sees_what_was_there() {
    let vec = vec::<[u64; 3]>(1);
    thread::scope(|scope| {
        for number in 1..=2_u64 {
            let vec = vec.clone();
            scope.spawn(move || {
                for _ in 0..5000 {
                    let pushed = vec.push([number; 3]);
                    assert!(matches!(pushed, Ok(0) | Err(VecError::Full { .. })), "{pushed:?}");
                    let popped = vec.pop().expect("a turn");
                    assert!(popped.is_none_or(|seen| seen == [seen[0]; 3] && seen[0] != 0), "{popped:?}");
                }
            });
        }
        for _ in 0..20_000 {
            let seen = vec.get(0).expect("a look");
            assert!(seen.is_none_or(|seen| seen == [seen[0]; 3] && seen[0] != 0), "{seen:?}");
        }
    });
}

#[test]
fn a_change_that_panics_changes_nothing_and_leaves_the_turn_to_others() -> Result<(), VecError> {
    let vec = vec::<u64>(1);
    vec.push(1)?;
    let panicking = std::panic::AssertUnwindSafe(|| vec.update(0, |_| std::panic::resume_unwind(Box::new(()))));
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(vec.get(0)?, Some(1));
    vec.set(0, 2)?;
    Ok(())
}

#[test]
fn vectors_lie_in_regions_beside_other_things_and_know_their_types() -> Result<(), VecError> {
    let region = Region::anonymous(1 << 16)?;
    SharedVec::<u32>::create_in(&region, "ages", 10)?.push(33)?;

    let opened = SharedVec::<u32>::open_in(&region, "ages")?;
    assert_eq!((opened.get(0)?, opened.capacity()), (Some(33), 10));
    let wrong = SharedVec::<i32>::open_in(&region, "ages").expect_err("other elements");
    assert!(matches!(&wrong, VecError::Failed(Error::WrongType { .. })), "{wrong}");
    assert!(matches!(
        VecOptions::new().capacity(u64::MAX).anonymous::<u8>(),
        Err(VecError::Failed(Error::NoSpace { .. }))
    ));
    Ok(())
}
