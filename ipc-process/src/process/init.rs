//! A process as a child: from `init` to its exit.

use std::any::Any;
use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

use shmkit_core::transfer::Parcel;

use super::bootstrap::{Address, Bootstrap, Outcome, Own, VARIABLE};
use super::once::only_here;
use super::parent::Parent;
use super::{nursery, sys, testing};

/// The code that a process ends with whose function has panicked, or could not be run: that of a program whose `main` panics.
pub(super) const FAILURE: i32 = 101;

/// What this process is. Unset before [`init`].
static ROLE: OnceLock<Role> = OnceLock::new();

/// What a process is to this module.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) is_daemon: bool,
    /// `None`: it was not started by this library.
    pub(crate) parent: Option<Parent>,
}

impl Role {
    /// What this process is, if it is initialised.
    pub(crate) fn get() -> Option<&'static Self> {
        ROLE.get()
    }
}

/// Makes it possible to start processes: to be called at the top of `main`, before anything else.
///
/// A new process runs the same program, and this is where it turns off: in a process that was started by [`spawn`](super::spawn), this does not return.
/// It runs the function, hands the value over, and ends the process. In all others, it returns at once, and processes can be started from then on.
///
/// What comes before it, every child does, too. If the process has no other thread yet, a child has no trace of it in its environment; otherwise,
/// there is a variable `SHMKIT_PROCESS`, which means nothing to others.
///
/// A program that has rights of its own (setuid, setgid or capabilities of its file) runs nothing that it is told by whoever starts it, be it one of its own
/// processes: its children end here, without a value.
///
/// A program that does not call it cannot start processes: [`SpawnError::NotInitialised`](super::SpawnError::NotInitialised). A child that does not come
/// through it runs `main`, cannot start processes either, and ends without a value.
///
/// # Examples
///
/// ```
/// fn twice(number: u32) -> u32 {
///     2 * number
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     assert_eq!(shmkit_process::spawn(twice, 21)?.join()?, 42);
///     Ok(())
/// }
/// ```
pub fn init() {
    if ROLE.get().is_some() {
        return;
    }
    let Some(variable) = env::var_os(VARIABLE) else {
        return initialise();
    };
    match find_socket(&variable) {
        // What comes over the socket says which code is to run, with which arguments.
        Ok(Some(_)) if sys::has_rights_of_its_own() => give_up(
            "this program has rights that whoever has started it need not have (setuid, setgid or capabilities)",
        ),
        Ok(Some(socket)) => {
            forget_variable();
            match Parcel::receive(socket.as_fd()).map(Bootstrap::unpack) {
                Ok(Some((bootstrap, own, args))) => run(bootstrap, own, args, &socket),
                Ok(None) => give_up("what it was told makes no sense"),
                Err(error) => give_up(&error.to_string()),
            }
        }
        Ok(None) => initialise(),
        Err(what) => give_up(what),
    }
}

/// The socket that the variable speaks of; `None` if the variable is not for this process, but was inherited from one that it was for.
fn find_socket(variable: &OsStr) -> Result<Option<OwnedFd>, &'static str> {
    let address = Address::parse(variable).ok_or("the variable is none of this library's")?;
    // SAFETY: the process that has started this one has put the socket there for it. Whether it is that one is seen by its inode; nobody else in
    // this process knows of it.
    match unsafe { sys::adopt_socket(address.number, address.inode) } {
        Some(socket) => Ok(Some(socket)),
        // It was for this process, and something has closed it: to go on as if it were none would start children without end.
        None if address.parent == std::os::unix::process::parent_id() => Err("something has closed its socket"),
        None => Ok(None),
    }
}

/// Takes the variable out of the environment, so that what this process starts by other means, or becomes, does not inherit it.
fn forget_variable() {
    if sys::is_single_threaded() || testing::is_enabled() {
        // SAFETY: there is no other thread; or there is that of a test harness, which waits for this one.
        unsafe { env::remove_var(VARIABLE) };
    }
}

/// Makes this process one that was not started by this library, and may start others.
pub(crate) fn initialise() {
    become_a(Role { name: "main".to_owned(), is_daemon: false, parent: None });
}

/// Notes what this process is. Only the first time counts.
fn become_a(role: Role) {
    if ROLE.set(role).is_ok() {
        nursery::prepare_for_forks();
    }
}

/// The name of this process: that which it was [given](super::ProcessOptions::name), `process-1` and so on, or `main` if it was not started by
/// this library.
pub fn current_name() -> &'static str {
    Role::get().map_or("main", |role| &role.name)
}

/// Whether this process was started as a [daemon](super::ProcessOptions::daemon).
pub fn is_daemon() -> bool {
    Role::get().is_some_and(|role| role.is_daemon)
}

/// The life of a child.
fn run(bootstrap: Bootstrap, own: Own, args: Parcel, socket: &OwnedFd) -> ! {
    let parent = Parent::new(bootstrap.parent, own.parent);
    if bootstrap.is_daemon {
        // From here on the kernel does it; if the parent has ended before, it does not.
        if let Err(error) = sys::end_with_parent() {
            give_up(&error.to_string());
        }
        if !parent.is_alive() {
            sys::kill_self();
        }
    }
    if let Some(Err(error)) = own.output.map(sys::set_output) {
        give_up(&error.to_string());
    }
    show_name(bootstrap.is_named.then_some(&bootstrap.name));
    let Bootstrap { function, name, is_daemon, .. } = bootstrap;
    become_a(Role { name, is_daemon, parent: Some(parent) });
    let Parcel { bytes, files } = args;
    let call = || only_here(|| function.call(&bytes, Parcel { bytes: Vec::new(), files }));
    let outcome = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Outcome::Value(value),
        Ok(Err(what)) => Outcome::Failed(what),
        Err(panic) => Outcome::Panicked(message(panic)),
    };
    let code = if matches!(outcome, Outcome::Value(_)) { 0 } else { FAILURE };
    exit(answer(outcome, code, socket))
}

/// Sends the outcome to the parent; returns the code to end with.
fn answer(outcome: Outcome, code: i32, socket: &OwnedFd) -> i32 {
    match outcome.into_parcel().send(socket.as_fd()) {
        Ok(()) => code,
        // Nobody wants to know.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => code,
        Err(error) => {
            let failed = Outcome::Failed(format!("it could not be sent: {error}"));
            // If that cannot be sent either, the code says that something was wrong.
            let _ = failed.into_parcel().send(socket.as_fd());
            FAILURE
        }
    }
}

/// What a panic has said.
pub(crate) fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said =
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(it said nothing)".to_owned());
    // It may be of a type of users, and panic again.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    said
}

/// The name for `ps`: the chosen one, or that of the program, which would be `exe` otherwise.
fn show_name(name: Option<&String>) {
    let program = || env::args_os().next().and_then(|path| Path::new(&path).file_name().map(|name| name.to_owned()));
    let shown = name.map_or_else(program, |name| Some(name.into()));
    if let Some(name) = shown.and_then(|name| CString::new(name.into_encoded_bytes()).ok()) {
        sys::set_name(&name);
    }
}

/// Ends a child that cannot begin.
fn give_up(what: &str) -> ! {
    eprintln!("shmkit: a process was started by the variable {VARIABLE}, but cannot begin: {what}");
    exit(FAILURE)
}
