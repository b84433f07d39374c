//! Pools: what everybody does with them.

#![cfg(feature = "process")]

use shmkit::process::Pool;

shmkit::process::enable_test_support!();

fn square(number: u64) -> u64 {
    number * number
}

#[test]
fn a_map_returns_values_in_the_order_of_its_items() {
    let pool = Pool::new(2).expect("a pool");
    let squares = pool.map(square, 0..10_000).expect("values");
    assert!(squares.into_iter().eq((0..10_000).map(square)));
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let squares = pool.map(square, 0..10_000).expect("values");
        let a = start.elapsed();
        let start = std::time::Instant::now();
        let other = pool.chunked(1).map(square, 0..10_000).expect("values");
        println!("{a:?} {:?}", start.elapsed());
        assert_eq!(squares, other);
    }
    pool.close();
    pool.join();
}
