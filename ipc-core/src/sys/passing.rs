//! Descriptors on their way to other processes: inherited through `exec`, or sent over a socket.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::file::{self, Lock};

/// The most descriptors of a message that are looked at. The kernel drops the others.
const MOST_FILES: usize = 8;

/// Lets what `command` starts have `file`, whose shared lock on `byte` goes along; returns the number that it has there, which is the one
/// that it has here.
///
/// Only that child gets it: here, and in all other children, it stays `FD_CLOEXEC`. The first child that comes to be has the lock by
/// itself: from then on, a descriptor that is left here keeps nobody alive.
pub(crate) fn inherit(command: &mut Command, file: OwnedFd, byte: u64) -> io::Result<RawFd> {
    // The first three are put in place for the child by the standard library.
    let file = if file.as_raw_fd() < 3 { file.try_clone()? } else { file };
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let number = file.as_raw_fd();
    // SAFETY: between fork and exec the closure only makes system calls on what it owns; it takes no lock and no memory.
    unsafe { command.pre_exec(move || become_own(file.as_fd(), &path, byte)) };
    Ok(number)
}

/// Lets what `command` starts have `file`, too, without anything that would have to change hands; returns its number there.
pub(crate) fn inherit_shared(command: &mut Command, file: OwnedFd) -> io::Result<RawFd> {
    let file = if file.as_raw_fd() < 3 { file.try_clone()? } else { file };
    let number = file.as_raw_fd();
    let survive_exec = move || {
        // SAFETY: no memory is involved; the descriptor is open, for the closure owns it.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure only makes a system call on what it owns; it takes no lock and no memory.
    unsafe { command.pre_exec(survive_exec) };
    Ok(number)
}

/// In the child: replaces `file`, which the parent has, too, by one of its own, which keeps the lock and survives `exec`.
fn become_own(file: BorrowedFd<'_>, path: &CStr, byte: u64) -> io::Result<()> {
    // SAFETY: a path that ends with a zero byte; the descriptor is new and nobody else's.
    let own = unsafe {
        match libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY) {
            -1 => return Err(io::Error::last_os_error()),
            own => OwnedFd::from_raw_fd(own),
        }
    };
    // There is no moment without a lock. If another one has the byte, the lock was given up long ago; whoever wants to use the file
    // finds that out.
    if file::try_lock(&own, byte, Lock::Shared)? {
        file::unlock(file, byte)?;
    }
    // SAFETY: no memory is involved; the number is that of `file`, which has done its duty. A descriptor made by `dup2` survives `exec`.
    match unsafe { libc::dup2(own.as_raw_fd(), file.as_raw_fd()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes possession of a descriptor that was inherited, so that no further child inherits it.
///
/// # Safety
///
/// Nobody else in this process owns it.
pub(crate) unsafe fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as the call has shown, and the caller says that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Room for the control data of a message. A control message begins like a `cmsghdr`, so it is aligned like one.
#[repr(C)]
union Control {
    _header: libc::cmsghdr,
    bytes: [u8; CONTROL],
}

// SAFETY: arithmetic, nothing else.
const CONTROL: usize = unsafe { libc::CMSG_SPACE((MOST_FILES * size_of::<RawFd>()) as u32) as usize };

/// Sends `bytes`, and with them `files`, not more than [`MOST_FILES`], over a Unix socket: all or, with an error, nothing.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    if files.len() > MOST_FILES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = MaybeUninit::<Control>::zeroed();
    let len = (files.len() * size_of::<RawFd>()) as u32;
    // SAFETY: zeroes are a msghdr without anything. The control data has room for the header with as many descriptors behind it as
    // are written there, which were counted above, and is aligned for the header. All that the message names lives over the call, which only reads.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(len) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
        for (at, file) in files.iter().enumerate() {
            libc::CMSG_DATA(header).cast::<RawFd>().add(at).write_unaligned(file.as_raw_fd());
        }
        again(|| libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL))?
    };
    // The kernel takes as few bytes as these in one piece.
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// What came over a socket.
#[derive(Debug)]
pub(crate) struct Received {
    /// How many of the bytes that were asked for. Fewer only if the other side has sent fewer and closed, or lets us wait for too long.
    pub(crate) bytes: usize,
    /// The descriptors that came along, which later children do not inherit.
    pub(crate) files: Vec<OwnedFd>,
    /// There were more, which are lost.
    pub(crate) is_cut: bool,
}

/// Receives bytes from a Unix socket, and the descriptors that come with them.
///
/// An error means that nothing has been received.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    let mut received = receive_some(socket, bytes)?;
    while received.bytes > 0 && received.bytes < bytes.len() {
        match receive_some(socket, &mut bytes[received.bytes..]) {
            Ok(more) if more.bytes > 0 => {
                received.bytes += more.bytes;
                received.files.extend(more.files);
                received.is_cut |= more.is_cut;
            }
            _ => break,
        }
    }
    Ok(received)
}

fn receive_some(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = MaybeUninit::<Control>::zeroed();
    let mut files = Vec::with_capacity(MOST_FILES);
    // SAFETY: as in `send`; the call writes to the bytes and the control data, no more than there is room for, and says in the message how
    // much. The macros stay within that. Each descriptor that the kernel has put there is new and nobody else's, and read once.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL;
        let received = again(|| libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC))?;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data = libc::CMSG_DATA(header);
                let len = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let numbers = (0..len / size_of::<RawFd>()).map(|at| data.cast::<RawFd>().add(at).read_unaligned());
                files.extend(numbers.map(|number| OwnedFd::from_raw_fd(number)));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok(Received { bytes: received, files, is_cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
    }
}

/// Repeats a call while signals interrupt it.
fn again(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
