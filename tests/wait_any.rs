//! `wait_any` between real processes: events, semaphores and channels in two regions, and the deaths of other processes.

mod common;

use std::time::Duration;

use shmkit::wait::Source;
use shmkit::{
    ChannelOptions, Deadline, Endpoint, Event, Peer, Receiver, RecvError, Region, Semaphore, Sender, Shm,
    UntilAvailable, UntilSet, wait_any,
};

use common::{Child, Net, Parent, Random, Reply, Stage, fork, now_ns, prompt, roles, signal, signal_thread, until};

roles!(waiter, guest, talker);

const EVENTS: [&str; 2] = ["manual", "auto"];
const CHANNELS: [&str; 3] = ["red", "green", "blue"];

// What a waiter waits for, by the index of the first; of each pair, the first is in the first region.
const MANUAL: usize = 0;
const AUTO: usize = 1;
const PERMITS: usize = 4;
const PAIRS: usize = 6;
const RECEIVERS: usize = 8;
const FURTHER: usize = 14;

/// Two stages, each with an event of each kind, two semaphores, and the sending ends of channels.
struct Harbour {
    stages: [Stage; 2],
    events: Vec<Shm<Event>>,
    permits: Vec<Shm<Semaphore>>,
    pairs: Vec<Shm<Semaphore>>,
    senders: Vec<Sender<u64>>,
}

impl Harbour {
    fn create() -> Self {
        let stages = [Stage::create(), Stage::create()];
        let regions = || stages.iter().map(|stage| &stage.region);
        let new = |name: &str| if name == "manual" { Event::new() } else { Event::auto_reset() };
        let semaphore = |name: &str| {
            let insert = |region: &Region| region.insert(name, Semaphore::new(0).expect("a bound")).expect("room");
            regions().map(insert).collect()
        };
        let sender =
            |region: &Region, name: &str| ChannelOptions::new().capacity(4).create_in(region, name).expect("a channel");
        let (permits, pairs) = (semaphore("permits"), semaphore("pairs"));
        let events =
            regions().flat_map(|region| EVENTS.map(|name| region.insert(name, new(name)).expect("room"))).collect();
        let senders = regions().flat_map(|region| CHANNELS.map(|name| sender(region, name))).collect();
        Self { stages, events, permits, pairs, senders }
    }

    /// Starts the one process that receives, and waits until it is there.
    fn waiter(&self) -> Child {
        self.start("waiter", Net::Off)
    }

    /// Starts a process that receives nothing.
    fn guests<const N: usize>(&self) -> [Child; N] {
        std::array::from_fn(|_| self.start("guest", Net::Off))
    }

    fn start(&self, role: &str, net: Net) -> Child {
        let [first, second] = &self.stages;
        let mut child = Child::spawn_with(net, role, &[first.name(), second.name()]);
        child.expect("here");
        child
    }

    fn rescues(&self) -> u32 {
        self.stages.iter().map(|stage| stage.region.rescues()).sum()
    }

    /// Makes the thing number `index` ready.
    fn cause(&mut self, index: usize) {
        match index {
            MANUAL..PERMITS => self.events[index].set(),
            PERMITS..PAIRS => self.permits[index - PERMITS].release().expect("room"),
            PAIRS..RECEIVERS => self.pairs[index - PAIRS].release_many(2).expect("room"),
            _ => self.senders[index - RECEIVERS].send(index as u64).expect("room"),
        }
    }
}

#[track_caller]
fn reply(child: &mut Child) -> Reply {
    Reply::parse(&child.hear())
}

#[track_caller]
fn ask(child: &mut Child, what: &str) -> String {
    child.tell(what);
    reply(child).text
}

/// Lets a process wait for something, and fall asleep.
#[track_caller]
fn fall_asleep(child: &mut Child, order: &str) {
    child.tell(order);
    child.until_asleep();
}

/// It says `text`, soon after `start`.
#[track_caller]
fn says_soon(child: &mut Child, start: u64, text: &str) {
    let reply = reply(child);
    assert_eq!(reply.text, text);
    assert!(reply.since(start) < prompt(), "{reply:?}");
}

/// All that a waiter can wait for.
struct Things {
    regions: [Region; 2],
    events: Vec<Shm<Event>>,
    permits: Vec<Shm<Semaphore>>,
    pairs: Vec<Shm<Semaphore>>,
    receivers: Vec<Receiver<u64>>,
    peers: Vec<Peer>,
}

impl Things {
    fn open(parent: &Parent) -> Self {
        let regions = [0, 1].map(|index| Region::open(parent.argument(index)).expect("a region"));
        let event = |region: &Region, name: &str| region.get::<Event>(name).expect("an event");
        let semaphores = |name: &str| regions.iter().map(|region| region.get(name).expect("a semaphore")).collect();
        Self {
            events: regions.iter().flat_map(|region| EVENTS.map(|name| event(region, name))).collect(),
            permits: semaphores("permits"),
            pairs: semaphores("pairs"),
            receivers: Vec::new(),
            peers: Vec::new(),
            regions,
        }
    }

    fn open_receivers(&mut self) {
        let open = |region: &Region, name: &str| Receiver::open_in(region, name).expect("the receiving end");
        self.receivers = self.regions.iter().flat_map(|region| CHANNELS.map(|name| open(region, name))).collect();
    }

    fn wait_any(&mut self, patience: Duration) -> String {
        let mut sets: Vec<UntilSet<'_>> = self.events.iter().map(|event| event.until_set()).collect();
        let until = |n: u32| move |permits| Semaphore::until_available(permits, n);
        let mut permits: Vec<UntilAvailable<'_>> =
            self.permits.iter().map(|permits| &**permits).map(until(1)).collect();
        permits.extend(self.pairs.iter().map(|permits| &**permits).map(until(2)));
        let mut sources: Vec<&mut dyn Source> = sets.iter_mut().map(|set| set as &mut dyn Source).collect();
        sources.extend(permits.iter_mut().map(|permits| permits as &mut dyn Source));
        sources.extend(self.receivers.iter_mut().map(|receiver| receiver as &mut dyn Source));
        sources.extend(self.peers.iter_mut().map(|peer| peer as &mut dyn Source));
        match wait_any(&mut sources, Deadline::after(patience)) {
            Ok(Some(index)) => index.to_string(),
            Ok(None) => "TimedOut".to_owned(),
            Err(error) => format!("{error:?}"),
        }
    }

    /// What the one who was told that something is ready does next.
    fn take(&mut self, index: usize) -> String {
        match index {
            MANUAL..PERMITS => self.events[index].try_wait().to_string(),
            PERMITS..PAIRS => self.permits[index - PERMITS].try_acquire().to_string(),
            PAIRS..RECEIVERS => self.pairs[index - PAIRS].try_acquire_many(2).to_string(),
            _ => format!("{:?}", self.receivers[index - RECEIVERS].try_recv()),
        }
    }
}

/// Waits for everything in both regions, which it has the receiving ends of.
fn waiter(parent: &mut Parent) {
    let mut things = Things::open(parent);
    things.open_receivers();
    obey(parent, &mut things);
}

/// Waits for everything in both regions but messages.
fn guest(parent: &mut Parent) {
    let mut things = Things::open(parent);
    obey(parent, &mut things);
}

fn obey(parent: &mut Parent, things: &mut Things) {
    parent.say("here");
    loop {
        let order = parent.hear();
        let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
        let number: u64 = number.parse().expect("a number");
        let start = now_ns();
        let said = match verb {
            "any" => things.wait_any(Duration::from_millis(number)),
            "take" => things.take(number as usize),
            // By itself, as one does who waits for nothing else.
            "wait" if number == AUTO as u64 => format!("{:?}", things.events[AUTO].wait()),
            "wait" => format!("{:?}", things.permits[0].acquire()),
            "watch" => {
                things.peers.push(things.regions[0].peer(number as u32).expect("a participant"));
                "watching".to_owned()
            }
            "mourn" => format!("{:?}", things.peers[0].wait_timeout(Duration::from_millis(number))),
            // A channel of its own, as the last of its receivers.
            "hear" => {
                things.receivers.push(ChannelOptions::new().create_in(&things.regions[1], "spare").expect("room"));
                "hearing".to_owned()
            }
            "set-and-kill" => {
                things.events[AUTO].set();
                signal(number as u32, libc::SIGKILL);
                "killed".to_owned()
            }
            "fork" => {
                let child = fork(|| {
                    let ends = &mut things.receivers[0];
                    assert_eq!(wait_any(&mut [ends], None).expect("an answer"), Some(0));
                    assert!(matches!(things.receivers[0].try_recv(), Err(RecvError::Failed(shmkit::Error::Forked))));
                    things.receivers.clear();
                    assert_eq!(things.wait_any(common::BOUND), AUTO.to_string());
                });
                child.reap().to_string()
            }
            "interrupts" => {
                common::interrupt_on(libc::SIGUSR1);
                "ready".to_owned()
            }
            "idle" | "busy" => {
                common::stay_on_cpu_0(verb == "idle");
                verb.to_owned()
            }
            "leave" => {
                let region = Region::anonymous(4096).expect("a region");
                *things = Things {
                    regions: [region.clone(), region],
                    events: Vec::new(),
                    permits: Vec::new(),
                    pairs: Vec::new(),
                    receivers: Vec::new(),
                    peers: Vec::new(),
                };
                "left".to_owned()
            }
            other => panic!("no order {other:?}"),
        };
        let at = now_ns();
        parent.say(format_args!("{at} {} {said}", at - start));
    }
}

/// Has the sending end of the spare channel, and sends two messages.
fn talker(parent: &mut Parent) {
    let region = Region::open(parent.argument(1)).expect("a region");
    let mut tx = Sender::<u64>::open_in(&region, "spare").expect("the sending end");
    tx.send_slice(&[5, 6]).expect("room");
    parent.say("here");
    common::sleep_for_ever()
}

#[test]
fn each_of_many_things_in_two_regions_ends_the_wait_and_can_be_taken() {
    let mut harbour = Harbour::create();
    let mut waiter = harbour.waiter();

    for index in (0..FURTHER).rev() {
        fall_asleep(&mut waiter, "any 15000");
        let start = now_ns();
        harbour.cause(index);
        says_soon(&mut waiter, start, &index.to_string());
        let expected = if index < RECEIVERS { "true".to_owned() } else { format!("Ok({index})") };
        assert_eq!(ask(&mut waiter, &format!("take {index}")), expected);
        harbour.events.iter().for_each(|event| event.reset());
    }
    assert_eq!(ask(&mut waiter, "any 1"), "TimedOut");
    assert_eq!(harbour.rescues(), 0);
}

#[test]
fn of_several_that_are_ready_the_first_is_told() {
    let mut harbour = Harbour::create();
    let mut waiter = harbour.waiter();

    for index in (0..FURTHER).rev() {
        harbour.cause(index);
        assert_eq!(ask(&mut waiter, "any 0"), index.to_string());
    }
}

#[test]
fn a_timed_wait_fails_after_its_timeout_and_not_before_whatever_signals_come() {
    let harbour = Harbour::create();
    let mut waiter = harbour.waiter();
    assert_eq!(ask(&mut waiter, "interrupts"), "ready");

    for timeout in [0, 1, 50, 300] {
        waiter.tell(format_args!("any {timeout}"));
        until("the end of the wait", || {
            signal_thread(waiter.pid(), waiter.thread(), libc::SIGUSR1);
            waiter.has_said()
        });
        let (reply, timeout) = (reply(&mut waiter), Duration::from_millis(timeout));
        assert_eq!(reply.text, "TimedOut");
        assert!(reply.took >= timeout && reply.took < timeout + prompt(), "{reply:?}");
    }
}

#[test]
fn a_forked_child_waits_for_events_but_not_for_messages_of_its_parent() {
    let harbour = Harbour::create();
    let mut waiter = harbour.waiter();

    waiter.tell("fork");
    until("the child among the participants", || harbour.stages[0].pids().len() == 3);
    harbour.events[AUTO].set();

    assert_eq!(reply(&mut waiter).text, "0");
}

// Deaths.

#[test]
fn the_death_of_a_peer_ends_the_wait_for_it() {
    let harbour = Harbour::create();
    let mut waiter = harbour.waiter();
    let [first, second, mourner] = &mut harbour.guests();
    for peer in [&*first, &*second] {
        assert_eq!(ask(&mut waiter, &format!("watch {}", peer.pid())), "watching");
    }
    assert_eq!(ask(mourner, &format!("watch {}", second.pid())), "watching");
    fall_asleep(mourner, "mourn 15000");
    fall_asleep(&mut waiter, "any 15000");

    let start = second.kill();

    says_soon(&mut waiter, start, &(FURTHER + 1).to_string());
    says_soon(mourner, start, "Ok(true)");
    second.reap();
    assert_eq!(ask(&mut waiter, "any 0"), (FURTHER + 1).to_string());
    assert_eq!(harbour.rescues(), 0);
}

#[test]
fn a_peer_that_leaves_is_gone_and_one_that_is_stopped_is_not() {
    let harbour = Harbour::create();
    let mut waiter = harbour.waiter();
    let [mut guest] = harbour.guests();
    assert_eq!(ask(&mut waiter, &format!("watch {}", guest.pid())), "watching");

    guest.signal(libc::SIGSTOP);
    common::until_stopped(guest.pid());
    assert_eq!(ask(&mut waiter, "any 50"), "TimedOut");
    guest.signal(libc::SIGCONT);
    fall_asleep(&mut waiter, "any 15000");
    let start = now_ns();
    assert_eq!(ask(&mut guest, "leave"), "left");

    says_soon(&mut waiter, start, &FURTHER.to_string());
}

#[test]
fn the_death_of_a_sender_is_told_after_its_messages() {
    let harbour = Harbour::create();
    let mut waiter = harbour.waiter();
    assert_eq!(ask(&mut waiter, "hear"), "hearing");
    let mut talker = harbour.start("talker", Net::Off);
    for message in ["Ok(5)", "Ok(6)"] {
        assert_eq!(ask(&mut waiter, "any 15000"), FURTHER.to_string());
        assert_eq!(ask(&mut waiter, &format!("take {FURTHER}")), message);
    }
    // From then on its marks at the channels have settled, and it naps no more.
    assert_eq!(ask(&mut waiter, "any 20"), "TimedOut");
    fall_asleep(&mut waiter, "any 15000");

    let start = talker.kill();

    says_soon(&mut waiter, start, &FURTHER.to_string());
    assert_eq!(ask(&mut waiter, &format!("take {FURTHER}")), "Err(Disconnected)");
    talker.reap();
    assert_eq!(harbour.rescues(), 0);
}

// Others who wait.

/// What one who waits for everything is told of, and does not take, reaches another who waits for that alone.
fn what_is_left_reaches_another(index: usize, order: &str) {
    let mut harbour = Harbour::create();
    let [mut leaver, mut patient, mut second] = harbour.guests();
    let plain = format!("wait {index}");

    for round in 0..20 {
        let (first, last) = if round % 2 == 0 { ("any 15000", &*plain) } else { (&*plain, "any 15000") };
        let (one, other) = if round % 2 == 0 { (&mut leaver, &mut patient) } else { (&mut patient, &mut leaver) };
        fall_asleep(one, first);
        fall_asleep(other, last);
        fall_asleep(&mut second, order);
        let start = now_ns();
        harbour.cause(index);
        says_soon(&mut patient, start, "Ok(())");
        // The others may have seen it, or not.
        harbour.events[MANUAL].set();
        for leaver in [&mut leaver, &mut second] {
            let told = reply(leaver).text;
            assert!([MANUAL, index].map(|index| index.to_string()).contains(&told), "{told}");
        }
        harbour.events[MANUAL].reset();
    }
    assert_eq!(harbour.rescues(), 0);
}

#[test]
fn a_set_that_others_leave_reaches_one_who_waits_for_it_alone() {
    what_is_left_reaches_another(AUTO, "any 15000");
}

#[test]
fn a_permit_that_others_leave_reaches_one_who_waits_for_it_alone() {
    what_is_left_reaches_another(PERMITS, "any 15000");
}

#[test]
fn a_set_at_the_very_deadline_of_one_reaches_another_who_waits_for_it_alone() {
    let mut harbour = Harbour::create();
    let [mut hasty, mut patient] = harbour.guests();
    let mut random = Random::new();

    for _ in 0..100 {
        hasty.tell("any 5");
        patient.tell(format_args!("wait {AUTO}"));
        random.pause(Duration::from_millis(7));
        let start = now_ns();
        harbour.cause(AUTO);
        says_soon(&mut patient, start, "Ok(())");
        reply(&mut hasty);
    }
    assert_eq!(harbour.rescues(), 0);
}

#[test]
fn a_set_for_one_that_was_killed_as_it_was_woken_reaches_another() {
    for _ in 0..10 {
        let harbour = Harbour::create();
        let [mut setter, mut victim, mut patient] = harbour.guests();
        assert_eq!(ask(&mut setter, "busy"), "busy");
        assert_eq!(ask(&mut victim, "idle"), "idle");
        fall_asleep(&mut victim, "any 15000");
        fall_asleep(&mut patient, &format!("wait {AUTO}"));
        let start = now_ns();

        assert_eq!(ask(&mut setter, &format!("set-and-kill {}", victim.pid())), "killed");

        says_soon(&mut patient, start, "Ok(())");
        victim.reap();
        assert_eq!(harbour.rescues(), 0);
    }
}
