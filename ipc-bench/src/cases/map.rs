//! A shared map: looking, changing, and two processes that change different keys.

use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::sync::Mutex as StdMutex;

use shmkit::process::{MapError, SharedMap};
use shmkit::{Mutex, Region};

use crate::figure::{Comparison, SUBJECT};
use crate::ours::{InRegion, address_of, attach};
use crate::shared::Line;
use crate::solo::{Solo, Turns};
use crate::team::{Cpus, Entry, Game, Measure, Place, Play, Seat};

/// A mutex of ours, around one number, after as many multiplications as the hash of a key takes.
const SECTION: &str = "shmkit Mutex, and a hash";
/// The same for each process.
const SECTION_APART: &str = "shmkit Mutex and a hash, for each";
/// A map for each process.
const APART: &str = "shmkit, a map for each";
/// One map, in which each process changes many keys: some share a bucket with one of the other process, or lie where such a bucket is.
const MANY: &str = "shmkit, 256 keys for each";
/// A map of std under a mutex of std, in private memory.
const STD: &str = "std HashMap in a Mutex";

const NAME: &str = "map";
const CAPACITY: u64 = 4096;
/// How many keys each process has.
const KEYS: u64 = 256;

/// A look at a key that is there.
pub const GET: Solo = Solo {
    name: "map/get",
    what: "map, get of a key that is there",
    conditions: "u64 to u64, room for 4096, 256 keys in turn; the mutex is for one number",
    candidates: get,
    rows: &[Comparison::at_most(SECTION, 1.5), Comparison::listed(STD)],
};

/// A change of a key that is there.
pub const UPDATE: Solo = Solo {
    name: "map/update",
    what: "map, update of a key that is there",
    conditions: "u64 to u64, room for 4096, 256 keys in turn; adds 1; the mutex is for one number",
    candidates: update,
    rows: &[Comparison::at_most(SECTION, 1.5), Comparison::listed(STD)],
};

/// Two processes that change different keys.
pub const SIDE_BY_SIDE: Game = Game {
    name: "map/update/two_cpus",
    what: "map, updates of different keys side by side",
    conditions: "u64 to u64, room for 4096, one key for each process unless named otherwise; adds 1",
    members: 2,
    cpus: Cpus::Two,
    measure: Measure::EachRate,
    entries: &[
        Entry::of::<Sections>(SECTION_APART),
        Entry::of::<Together>(SUBJECT),
        Entry::of::<Apart>(APART),
        Entry::of::<Many>(MANY),
    ],
    rows: &[Comparison::at_least(SECTION_APART, 0.67), Comparison::at_least(APART, 0.95), Comparison::listed(MANY)],
};

fn get() -> io::Result<Vec<Turns>> {
    let (map, section, std) = (Maps::create_for(1, 1, KEYS)?, Sections::create(1)?, std());
    let [keys, section_keys, std_keys] = [(); 3].map(|()| Keys::new(0));
    Ok(vec![
        Turns::new(SUBJECT, move || {
            black_box(map.0[0].get(&keys.next()).expect("a sound map"));
        }),
        Turns::new(SECTION, move || {
            hash(&section_keys);
            black_box(*section.0[0].lock().expect("nobody dies"));
        }),
        Turns::new(STD, move || {
            black_box(std.0.lock().expect("nobody panics").get(&std_keys.next()).copied());
        }),
    ])
}

fn update() -> io::Result<Vec<Turns>> {
    let (map, section, std) = (Maps::create_for(1, 1, KEYS)?, Sections::create(1)?, std());
    let [keys, section_keys, std_keys] = [(); 3].map(|()| Keys::new(0));
    Ok(vec![
        Turns::new(SUBJECT, move || map.add(0, keys.next())),
        Turns::new(SECTION, move || {
            hash(&section_keys);
            section.add(0);
        }),
        Turns::new(STD, move || {
            if let Some(value) = std.0.lock().expect("nobody panics").get_mut(&std_keys.next()) {
                *value = black_box(*value + 1);
            }
        }),
    ])
}

/// What a map does to find the bucket of the next key: three multiplications, one after the other.
#[inline(always)]
fn hash(keys: &Keys) {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let [first, second] = black_box([0x243f_6a88_85a3_08d3, 0xb7e1_5162_8aed_2a6b]);
    let hash = fold(fold(keys.next(), first) ^ 8, second);
    black_box((u128::from(hash) * u128::from(CAPACITY)) >> 64);
}

fn std() -> Line<StdMutex<HashMap<u64, u64>>> {
    Line(StdMutex::new((0..KEYS).map(|key| (key, 1)).collect()))
}

/// The keys of a process, one after the other.
struct Keys {
    first: u64,
    next: Cell<u64>,
}

impl Keys {
    fn new(member: usize) -> Self {
        Self { first: member as u64 * KEYS, next: Cell::new(0) }
    }

    #[inline(always)]
    fn next(&self) -> u64 {
        let turn = self.next.get();
        self.next.set(turn + 1);
        black_box(self.first + turn % KEYS)
    }
}

/// Some maps, with the region that they lie in.
struct Maps(Vec<SharedMap<u64, u64>>, Region);

impl Maps {
    /// So many maps, with the first so many keys of so many processes in each.
    fn create_for(maps: usize, members: usize, keys: u64) -> io::Result<Self> {
        let region =
            Region::anonymous((maps * (CAPACITY as usize + 8) * 64).max(4096) + 4096).map_err(io::Error::other)?;
        let maps = (0..maps).map(|number| {
            let map = SharedMap::create_in(&region, &format!("{NAME} {number}"), CAPACITY)?;
            let mut all = (0..members as u64).flat_map(|member| (0..keys).map(move |key| member * KEYS + key));
            all.try_for_each(|key| map.insert(&key, 1).map(|_| ()))?;
            Ok(map)
        });
        let maps = maps.collect::<Result<_, MapError>>().map_err(io::Error::other)?;
        Ok(Self(maps, region))
    }

    fn address(&self) -> String {
        address_of(&self.1)
    }

    fn attach(address: &str) -> io::Result<Self> {
        let region = attach(address)?;
        let count = region.objects().map_err(io::Error::other)?.len();
        let open = |number| SharedMap::open_in(&region, &format!("{NAME} {number}")).map_err(io::Error::other);
        let maps = (0..count).map(open).collect::<io::Result<_>>()?;
        Ok(Self(maps, region))
    }

    #[inline(always)]
    fn add(&self, map: usize, key: u64) {
        let done = self.0[map].update(&key, |value| *value = black_box(*value + 1));
        black_box(done.expect("a sound map"));
    }
}

/// One map for all, and one key for each. With others there, it is luck whether one of them has its bucket, which makes it a tenth slower.
struct Together(Maps);

impl Place for Together {
    fn create(members: usize) -> io::Result<Self> {
        Maps::create_for(1, members, 1).map(Self)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Maps::attach(address).map(Self)
    }
}

impl Play for Together {
    fn play(&self, seat: Seat, turns: u64) {
        let key = Keys::new(seat.member).next();
        (0..turns).for_each(|_| self.0.add(0, black_box(key)));
    }
}

/// The same with many keys for each.
struct Many(Maps);

impl Place for Many {
    fn create(members: usize) -> io::Result<Self> {
        Maps::create_for(1, members, KEYS).map(Self)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Maps::attach(address).map(Self)
    }
}

impl Play for Many {
    fn play(&self, seat: Seat, turns: u64) {
        let keys = Keys::new(seat.member);
        (0..turns).for_each(|_| self.0.add(0, keys.next()));
    }
}

/// A map for each.
struct Apart(Maps);

impl Place for Apart {
    fn create(members: usize) -> io::Result<Self> {
        Maps::create_for(members, members, 1).map(Self)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        Maps::attach(address).map(Self)
    }
}

impl Play for Apart {
    fn play(&self, seat: Seat, turns: u64) {
        let key = Keys::new(seat.member).next();
        (0..turns).for_each(|_| self.0.add(seat.member, black_box(key)));
    }
}

/// A mutex for each.
struct Sections(InRegion<Mutex<u64>>);

impl Sections {
    #[inline(always)]
    fn add(&self, index: usize) {
        let mut value = self.0[index].lock().expect("nobody dies");
        *value = black_box(*value + 1);
    }
}

impl Place for Sections {
    fn create(members: usize) -> io::Result<Self> {
        InRegion::create(members, || Mutex::new(0)).map(Self)
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn attach(address: &str) -> io::Result<Self> {
        InRegion::attach(address).map(Self)
    }
}

impl Play for Sections {
    fn play(&self, seat: Seat, turns: u64) {
        let keys = Keys::new(seat.member);
        (0..turns).for_each(|_| {
            hash(&keys);
            self.add(seat.member);
        });
    }
}
