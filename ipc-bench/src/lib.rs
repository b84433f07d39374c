//! Benches of shmkit against the hardware's limits and against peers.
//!
//! Layers, each usable alone:
//!
//! - tools: [`pin`], [`distance`], [`clock`], [`stats`], [`signal`], [`shared`], [`child`], [`janitor`], [`proc`];
//! - the kinds of cases: one thread that does something again and again ([`solo`]), several processes that
//!   do something together ([`team`], and handing over in pairs: [`baton`]), a process that is killed while
//!   others wait ([`death`]), and what becomes of the others if they are no figures ([`killed`]);
//! - candidates: the traits in [`lock`] and [`message`], ours in [`ours`],
//!   [`channels`], [`streams`], [`ready`] and [`untrusted`], and the peers in [`floor`],
//!   [`memcpy`], [`record`], [`pthread`] and [`peers`];
//! - [`cases`]: tables of these kinds, and functions for what fits none of them. They return [`figure`]s:
//!   numbers per round, what is compared with what, and the conditions.
//!
//! The [`report`] (`src/main.rs`) and the criterion benches (`benches/`) only call the cases.
//!
//! The [`soak`] is no bench: it looks for what goes wrong when processes are killed at random.
//!
//! Many cases need other processes. They are the running binary, executed again with a role in its
//! environment, so every binary that runs a case starts its `main` with
//! [`cases::run_role_if_child`].

pub mod baton;
pub mod cases;
pub mod channels;
pub mod child;
pub mod clock;
pub mod death;
pub mod distance;
pub mod figure;
pub mod floor;
pub mod janitor;
pub mod killed;
pub mod limits;
pub mod lock;
pub mod machine;
pub mod made;
pub mod memcpy;
pub mod message;
pub mod ours;
pub mod peers;
pub mod pin;
pub mod proc;
pub mod progress;
pub mod pthread;
pub mod ready;
pub mod record;
pub mod report;
pub mod shared;
pub mod signal;
pub mod soak;
pub mod solo;
pub mod stats;
pub mod streams;
pub mod team;
pub mod untrusted;
