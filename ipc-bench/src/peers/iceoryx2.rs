//! The crate iceoryx2: publish-subscribe between processes.
//!
//! Used as its documentation says for latency: the publisher loans a sample, writes it and sends it, the
//! subscriber asks again and again. Its files and shared memory have names that belong to the team; what its
//! killed members leave is removed by a process that outlives all others.

use std::fmt::Debug;
use std::fs;
use std::hint;
use std::io;
use std::slice;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use iceoryx2::node::Node;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::child::Orders;
use crate::janitor::{self, Janitor};
use crate::message::{Carrier, Note, Receiving, Sending};
use crate::team::Place;

/// The name in results.
pub const NAME: &str = "iceoryx2";

/// The role of the process that removes what is left.
pub const JANITOR: &str = "iceoryx2-janitor";

/// How long members that are killed with their parent may still do something, about.
const ON_THEIR_WAY: Duration = Duration::from_millis(100);

/// A service for each lane, by the name of all that belongs to this team.
pub struct Services {
    name: String,
    /// Of the process that made it.
    _janitor: Option<Janitor>,
}

fn directory(name: &str) -> String {
    format!("/tmp/{name}")
}

/// What the names of shared memory begin with.
fn prefix(name: &str) -> String {
    format!("{name}_")
}

impl Place for Services {
    fn create(_: usize) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = janitor::own_name(MADE.fetch_add(1, Relaxed));
        let janitor = Janitor::start_as(JANITOR, slice::from_ref(&name))?;
        Ok(Services { name, _janitor: Some(janitor) })
    }

    fn address(&self) -> String {
        self.name.clone()
    }

    fn attach(address: &str) -> io::Result<Self> {
        set_log_level(LogLevel::Error);
        Ok(Services { name: address.into(), _janitor: None })
    }
}

/// Removes, as the janitor, what a team has left, once the process that made it is done.
///
/// Where that was killed, its members may still be on their way out, and make something: until nothing is found any more.
///
/// # Errors
/// Unfit orders, or those of waiting and of looking.
pub fn clean_as_told(orders: &Orders) -> io::Result<()> {
    janitor::await_end()?;
    let name = orders.text("names")?;
    remove(name)?;
    loop {
        thread::sleep(ON_THEIR_WAY);
        if !remove(name)? {
            return Ok(());
        }
    }
}

/// Removes all that is there; returns whether there was anything.
fn remove(name: &str) -> io::Result<bool> {
    // There is none if no member has come that far.
    let mut found = fs::remove_dir_all(directory(name)).is_ok();
    for entry in fs::read_dir("/dev/shm")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix(name)) {
            // A member may have been faster.
            found |= fs::remove_file(entry.path()).is_ok();
        }
    }
    Ok(found)
}

fn other(error: impl Debug) -> io::Error {
    io::Error::other(format!("iceoryx2: {error:?}"))
}

/// A port, and what keeps it.
pub struct Port<P> {
    port: P,
    _node: Node<ipc::Service>,
}

impl Carrier<Note> for Services {
    type Sender = Port<Publisher<ipc::Service, Note, ()>>;
    type Receiver = Port<Subscriber<ipc::Service, Note, ()>>;

    fn sender(&self, lane: usize) -> io::Result<Self::Sender> {
        let (_node, service) = self.service(lane)?;
        let port = service.publisher_builder().create().map_err(other)?;
        Ok(Port { port, _node })
    }

    fn receiver(&self, lane: usize) -> io::Result<Self::Receiver> {
        let (_node, service) = self.service(lane)?;
        let port = service.subscriber_builder().create().map_err(other)?;
        Ok(Port { port, _node })
    }
}

type Service = PortFactory<ipc::Service, Note, ()>;

impl Services {
    fn service(&self, lane: usize) -> io::Result<(Node<ipc::Service>, Service)> {
        let mut config = Config::default();
        config.global.prefix = FileName::new(prefix(&self.name).as_bytes()).map_err(other)?;
        config.global.set_root_path(&Path::new(directory(&self.name).as_bytes()).map_err(other)?);
        let node = NodeBuilder::new().config(&config).create::<ipc::Service>().map_err(other)?;
        let name = lane.to_string().as_str().try_into().map_err(other)?;
        let service = node.service_builder(&name).publish_subscribe::<Note>().open_or_create().map_err(other)?;
        Ok((node, service))
    }
}

impl Sending<Note> for Port<Publisher<ipc::Service, Note, ()>> {
    #[inline(always)]
    fn send(&mut self, message: &Note) {
        let sample = self.port.loan_uninit().expect("a sample");
        let receivers = sample.write_payload(*message).send().expect("a service");
        assert_eq!(receivers, 1, "the other one receives it");
    }
}

impl Receiving<Note> for Port<Subscriber<ipc::Service, Note, ()>> {
    #[inline(always)]
    fn receive(&mut self, message: &mut Note) {
        loop {
            match self.port.receive().expect("a service") {
                Some(sample) => return *message = *sample,
                None => hint::spin_loop(),
            }
        }
    }
}
