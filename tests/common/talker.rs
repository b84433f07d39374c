//! A role that has an end of a pipe and does with it what it is told.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shmkit::{ChannelOptions, Endpoint, OpenError, Pipe, RecvError, Region, SendError};

use super::party::{Reply, answer};
use super::process::{Child, Net, Parent};
use super::stage::Stage;
use super::sys::{self, now_ns};

/// The name of the pipe in the region of a stage.
pub(crate) const PIPE: &str = "pipe";

/// A process that plays [`talker`].
#[derive(Debug)]
pub(crate) struct Talker(Child);

impl Deref for Talker {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Talker {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Talker {
    /// Starts a talker and waits until it takes part.
    #[track_caller]
    pub(crate) fn join(net: Net, stage: &Stage) -> Self {
        let mut talker = Self(Child::spawn_with(net, "talker", &[stage.name()]));
        assert_eq!(talker.reply().text, "here");
        talker
    }

    /// Starts one that has made the pipe, and one that has opened it.
    #[track_caller]
    pub(crate) fn pair(net: Net, stage: &Stage, create: &str) -> [Self; 2] {
        let mut pair = [Self::join(net, stage), Self::join(net, stage)];
        assert_eq!(pair[0].ask(create), "ok");
        assert_eq!(pair[1].ask("open"), "ok");
        pair
    }

    #[track_caller]
    pub(crate) fn reply(&mut self) -> Reply {
        Reply::parse(&self.hear())
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.reply().text
    }

    /// Tells it to wait for something, and waits until it sleeps.
    #[track_caller]
    pub(crate) fn sleep_in(&mut self, what: &str) {
        self.tell(what);
        self.until_asleep();
    }

    /// Its reply, which must have come soon after `start`.
    #[track_caller]
    pub(crate) fn reply_soon(&mut self, start: u64) -> String {
        let reply = self.reply();
        assert!(reply.since(start) < super::prompt(), "{reply:?}");
        reply.text
    }
}

/// The role: joins the stage in its first argument and obeys.
pub(crate) fn talker(parent: &mut Parent) {
    let stage = Stage::open(parent.argument(0));
    let mut pipe: Option<Pipe<u64>> = None;
    answer(parent, now_ns(), "here");
    loop {
        let order = parent.hear();
        let mut words = order.split(' ');
        let verb = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
        let start = now_ns();
        let text = match verb {
            "create" | "create-for-successors" => {
                let mut options = ChannelOptions::new();
                options.capacity(numbers[0]).successors(verb != "create");
                opened(options.create_in(&stage.region, PIPE), &mut pipe)
            }
            "open" => opened(Pipe::open_in(&stage.region, PIPE), &mut pipe),
            "succeed" => opened(Pipe::succeed_in(&stage.region, PIPE), &mut pipe),
            "drop" => {
                pipe = None;
                "dropped".to_owned()
            }
            "forget" => {
                std::mem::forget(pipe.take());
                "forgotten".to_owned()
            }
            "interrupts" => {
                sys::interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "idle" | "busy" => {
                sys::stay_on_cpu_0(verb == "idle");
                verb.to_owned()
            }
            "exit" => std::process::exit(7),
            "exec" => sys::exec_sleep(),
            "fork" => {
                let child = sys::fork(|| use_as_forked_child(pipe.as_mut().expect("an end"), &stage.region));
                child.reap().to_string()
            }
            _ => use_end(verb, &numbers, pipe.as_mut().expect("an end"), &stage),
        };
        answer(parent, start, &text);
    }
}

/// Does one thing with an end.
fn use_end(verb: &str, numbers: &[u64], pipe: &mut Pipe<u64>, stage: &Stage) -> String {
    let time = |index: usize| Duration::from_millis(numbers[index]);
    match verb {
        "send" => sent(pipe.send(numbers[0])),
        "try-send" => sent(pipe.try_send(numbers[0])),
        "timed-send" => sent(pipe.send_timeout(numbers[0], time(1))),
        // So many, counting from the first.
        "send-many" => {
            let all: Vec<u64> = (numbers[0]..numbers[0] + numbers[1]).collect();
            sent(pipe.sender().send_slice(&all))
        }
        // One after the other, until nobody is there; notes on the board how many were sent.
        "stream" => {
            let broken = (numbers[0]..).find_map(|number| {
                let error = pipe.send(number).err();
                stage.board[0].store(number + 1, Relaxed);
                error
            });
            format!("{:?}", broken.expect("no end of numbers"))
        }
        // Sends, which wakes a sleeper, and kills it before it has run, if both are on the same CPU.
        "send-and-kill" => {
            let text = sent(pipe.send(numbers[0]));
            sys::signal(numbers[1] as u32, libc::SIGKILL);
            text
        }
        "recv" => received(pipe.recv()),
        "try-recv" => received(pipe.try_recv()),
        "timed-recv" => received(pipe.recv_timeout(time(0))),
        "poll" => received(pipe.poll(time(0))),
        // As many as are told; says the last one, or what was wrong.
        "recv-many" => {
            let wrong = (numbers[0]..numbers[0] + numbers[1])
                .map(|number| (number, received(pipe.recv())))
                .find(|(number, got)| *got != number.to_string());
            wrong.map_or("ok".to_owned(), |(number, got)| format!("{got} instead of {number}"))
        }
        // All that come; notes on the board how many.
        "drain" => {
            let mut next = numbers[0];
            loop {
                match pipe.recv() {
                    Ok(number) if number == next => next += 1,
                    other => return format!("{next} {}", received(other)),
                }
                stage.board[1].store(next, Relaxed);
            }
        }
        "echo" => loop {
            match pipe.recv().map(|number| pipe.send(number)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return sent(Err(error)),
                Err(error) => return format!("{error:?}"),
            }
        },
        "is-closed" => pipe.is_closed().to_string(),
        "close" => {
            pipe.close();
            "closed".to_owned()
        }
        "close-sender" => {
            pipe.sender().close();
            "closed".to_owned()
        }
        "close-receiver" => {
            pipe.receiver().close();
            "closed".to_owned()
        }
        other => panic!("no order {other:?}"),
    }
}

/// What a forked child finds at the end of its parent: errors, and nothing that it could do any harm by.
fn use_as_forked_child(pipe: &mut Pipe<u64>, region: &Region) {
    let is_forked = |error: &shmkit::Error| matches!(error, shmkit::Error::Forked);
    let is_refused = |sent: Result<(), SendError<u64>>| matches!(sent, Err(SendError::Failed { message: 5, error }) if is_forked(&error));
    let is_missed = |got: Result<u64, RecvError>| matches!(got, Err(RecvError::Failed(error)) if is_forked(&error));
    let time = Duration::from_millis(1);
    assert!(is_refused(pipe.send(5)) && is_refused(pipe.try_send(5)) && is_refused(pipe.send_timeout(5, time)));
    assert!(is_missed(pipe.recv()) && is_missed(pipe.try_recv()) && is_missed(pipe.recv_timeout(time)));
    assert!(matches!(pipe.poll(time), Err(RecvError::Failed(error)) if is_forked(&error)));
    assert!(pipe.is_closed());
    // Its parent has it.
    assert!(matches!(Pipe::<u64>::open_in(region, PIPE), Err(OpenError::Taken)));
    pipe.close();
    assert!(matches!(pipe.send(5), Err(SendError::Disconnected(5))));
}

fn opened(got: Result<Pipe<u64>, OpenError>, pipe: &mut Option<Pipe<u64>>) -> String {
    match got {
        Ok(end) => {
            *pipe = Some(end);
            "ok".to_owned()
        }
        Err(error) => format!("{error:?}"),
    }
}

fn sent<T: Debug>(sent: Result<(), SendError<T>>) -> String {
    match sent {
        Ok(()) => "ok".to_owned(),
        Err(error) => {
            let shown = format!("{error:?}");
            format!("{shown} {:?}", error.into_message())
        }
    }
}

fn received<T: ToString>(received: Result<T, RecvError>) -> String {
    received.map_or_else(|error| format!("{error:?}"), |message| message.to_string())
}
