//! How processes are started.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shmkit_core::crash_point;
use shmkit_core::transfer::{self, Parcel};

use super::bootstrap::{Address, Bootstrap, Own, VARIABLE};
use super::child::{Child, Shared};
use super::codec;
use super::error::SpawnError;
use super::function::Function;
use super::handle::Process;
use super::init::Role;
use super::nursery::{Nursery, own_token};
use super::sys::{self, Start};
use super::task::Task;
use super::testing;

/// Runs `f(args)` in a new process of the same program.
///
/// The function captures nothing: a function, or a closure without an environment. Several arguments are passed as a tuple. Arguments and value go
/// through serde. Among them may be regions, handles to objects in them, queues, arrays, [tickets](shmkit_channel::Ticket) for ends of channels, and
/// open files ([`Passed`](shmkit_core::transfer::Passed)): the other process gets them.
///
/// If the function forks, it returns in the process that runs it, and nowhere else: a child that comes to its end, ends there.
///
/// # Blocking
///
/// Until the new process has been started, not until its function runs.
///
/// # Crash safety
///
/// A process that is killed in this has started the other one or not. One that has been started lives on, unless it is a
/// [daemon](ProcessOptions::daemon), and gets all of its arguments.
///
/// # Errors
///
/// [`SpawnError::NotInitialised`] if this process has not called [`init`](super::init); [`SpawnError::Daemon`] if it is one;
/// [`SpawnError::NotInProgram`]; [`SpawnError::Args`]; [`SpawnError::Io`].
///
/// # Examples
///
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let sum = shmkit_process::spawn(|(a, b): (u64, u64)| a + b, (20, 22))?;
///     assert_eq!(sum.join()?, 42);
///     Ok(())
/// }
/// ```
pub fn spawn<A, R>(f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    ProcessOptions::new().spawn(f, args)
}

/// How a process is to be started.
///
/// # Examples
///
/// ```
/// use shmkit_process::{ProcessOptions, Stdio};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shmkit_process::init();
///     let process = ProcessOptions::new()
///         .name("greeter")
///         .stdout(Stdio::null())
///         .env("GREETING", "hello")
///         .current_dir("/")
///         .spawn(|name: String| println!("{}, {name}", std::env::var("GREETING").unwrap()), "you".to_owned())?;
///     process.join()?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct ProcessOptions {
    name: Option<String>,
    is_daemon: bool,
    stdio: [Stdio; 3],
    clears_env: bool,
    /// What of the environment is changed; `None`: removed.
    env: BTreeMap<OsString, Option<OsString>>,
    directory: Option<PathBuf>,
}

/// What one of the standard streams of a process is to be.
#[derive(Debug, Default)]
pub struct Stdio(Stream);

#[derive(Debug, Default)]
enum Stream {
    #[default]
    Inherited,
    Null,
    File(OwnedFd),
}

impl Stdio {
    /// That of this process.
    pub fn inherit() -> Self {
        Self(Stream::Inherited)
    }

    /// Nothing to read; what is written, is lost.
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    /// A file to put in the place of a stream; `None`: what is there, is inherited.
    fn file(&self) -> io::Result<Option<OwnedFd>> {
        let file = match &self.0 {
            Stream::Inherited => return Ok(None),
            Stream::Null => null()?,
            Stream::File(file) => file.try_clone()?,
        };
        sys::beyond_stdio(file).map(Some)
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

/// An open file, one end of a pipe, a socket.
impl<F: Into<OwnedFd>> From<F> for Stdio {
    fn from(file: F) -> Self {
        Self(Stream::File(file.into()))
    }
}

impl ProcessOptions {
    /// A name made of a number; no daemon; streams, environment and working directory as here.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the process is called: in errors, by [`current_name`](super::current_name), and, its first 15 bytes, by `ps`.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the process ends with this one, also if this one is killed. It may not start processes itself.
    ///
    /// The end is that of SIGKILL: it has no time to do anything. A process that has become another user or group (`setuid`, `setgid`) is not ended: the
    /// kernel forgets it then. One that does so, looks for the end of its [`parent`](super::parent()) by itself.
    pub fn daemon(&mut self, daemon: bool) -> &mut Self {
        self.is_daemon = daemon;
        self
    }

    /// Its standard input.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.stdio[0] = stdin.into();
        self
    }

    /// Its standard output.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.stdio[1] = stdout.into();
        self
    }

    /// Its standard error, to which also its panics go.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.stdio[2] = stderr.into();
        self
    }

    /// Sets a variable of its environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Removes a variable from its environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Lets it have nothing of the environment of this process.
    pub fn env_clear(&mut self) -> &mut Self {
        self.clears_env = true;
        self.env.clear();
        self
    }

    /// Its working directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Runs `f(args)` in a new process of the same program; see [`spawn`].
    ///
    /// # Errors
    ///
    /// As for [`spawn`]; [`SpawnError::Io`] also if the working directory is not there.
    pub fn spawn<A, R>(&self, f: fn(A) -> R, args: A) -> Result<Process<R>, SpawnError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let name = self.name.clone().unwrap_or_else(next_name);
        let Some(role) = Role::get() else {
            return Err(SpawnError::NotInitialised { name });
        };
        if role.is_daemon {
            return Err(SpawnError::Daemon { name });
        }
        let Some(function) = Function::of(f) else {
            return Err(SpawnError::NotInProgram { name, function: std::any::type_name::<fn(A) -> R>() });
        };
        let args = match codec::pack(&args) {
            Ok(packed) => packed,
            Err(what) => return Err(SpawnError::Args { name, what }),
        };
        let bootstrap = Bootstrap {
            function,
            name,
            is_named: self.name.is_some(),
            is_daemon: self.is_daemon,
            parent: std::process::id(),
            has_output: testing::is_enabled(),
        };
        match self.start(&bootstrap, args) {
            Ok((child, socket)) => Ok(Process::new(child, socket)),
            Err(error) => Err(SpawnError::Io { name: bootstrap.name, error }),
        }
    }

    /// Runs `task` in a new process of the same program; see [`spawn`].
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_task<T: Task>(&self, task: T) -> Result<Process<T::Output>, SpawnError> {
        self.spawn(T::run, task)
    }

    fn start(&self, bootstrap: &Bootstrap, args: Parcel) -> io::Result<(Child, OwnedFd)> {
        let nursery = Nursery::get()?;
        let (ours, theirs) = transfer::sockets()?;
        let theirs = sys::beyond_stdio(theirs)?;
        let [stdin, stdout, stderr] = &self.stdio;
        let mut stdio = [stdin.file()?, stdout.file()?, stderr.file()?];
        let mut own = Own { parent: nursery.process().try_clone()?, output: None };
        if bootstrap.has_output {
            // What a harness writes before it comes to its first test is for nobody.
            let silent = sys::beyond_stdio(null()?)?;
            own.output = Some(stdio[1].replace(silent).map_or_else(|| io::stdout().as_fd().try_clone_to_owned(), Ok)?);
        }
        // What is on its way needs no copy here, and none is left.
        bootstrap.pack(args, own).map_err(io::Error::other)?.send(ours.as_fd())?;
        crash_point!("process.spawn.after_send");
        let start = self.plan(theirs, stdio)?;
        let pid = if self.is_daemon { nursery.run(move || sys::start(&start))?? } else { sys::start(&start)? };
        crash_point!("process.spawn.after_start");
        let shared = sys::open_process(pid).and_then(|process| {
            Ok(Arc::new(Shared::new(pid, bootstrap.name.clone(), self.is_daemon, process, own_token()?)))
        });
        // One that nobody looks after would never be reaped. One that others have reaped, or the kernel if SIGCHLD is ignored, has no id any more
        // that would be its own.
        let shared = shared.and_then(|shared| nursery.add(&shared).map(|()| shared)).inspect_err(|error| {
            if error.raw_os_error() != Some(libc::ESRCH) {
                sys::undo(pid);
            }
        })?;
        Ok((Child::new(shared), ours))
    }

    /// What the new process is to be for the kernel.
    fn plan(&self, socket: OwnedFd, stdio: [Option<OwnedFd>; 3]) -> io::Result<Start> {
        let directory = self.directory.as_ref().map(|directory| CString::new(directory.as_os_str().as_bytes()));
        Ok(Start {
            arguments: arguments()?,
            environment: self.environment(&socket)?,
            directory: directory.transpose()?,
            stdio,
            socket,
        })
    }

    fn environment(&self, socket: &OwnedFd) -> io::Result<Vec<CString>> {
        let inherited = if self.clears_env { None } else { Some(env::vars_os()) };
        let inherited = inherited.into_iter().flatten().filter(|(name, _)| !self.env.contains_key(name));
        let changed = self.env.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let address = Address { number: socket.as_raw_fd(), inode: sys::inode(socket)?, parent: std::process::id() };
        let own = (OsString::from(VARIABLE), OsString::from(address.to_string()));
        let all = inherited.chain(changed).filter(|(name, _)| name != VARIABLE).chain([own]);
        all.map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            Ok(CString::new(variable.into_vec())?)
        })
        .collect()
    }
}

/// The name of a process that was not given one.
fn next_name() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("process-{}", LAST.fetch_add(1, Relaxed) + 1)
}

/// The arguments of a child: those of this process, or what leads to `init` in a test program.
fn arguments() -> io::Result<Vec<CString>> {
    let own = env::args_os().map(|argument| Ok(CString::new(argument.into_vec())?));
    match testing::arguments() {
        None => own.collect(),
        Some(others) => Ok(own.take(1).collect::<io::Result<Vec<_>>>()?.into_iter().chain(others).collect()),
    }
}
