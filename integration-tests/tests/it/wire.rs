//! A line between a loader and PostgreSQL that knows the protocol's messages and stops at a chosen one.
//!
//! It reads what the client sends, message by message. When the moment that a test waits for has come, it
//! holds the line and asks the test what to do; until then, and on all other connections, it only passes on.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::stack::PATIENCE;

/// When the line is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After so many bytes of rows, however far inside of a message that is.
    InCopy(usize),
    /// A transaction has copied rows, and its COMMIT has come and is not passed on.
    AtCommit,
}

/// What becomes of a line that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// It breaks.
    Break,
    /// What was held back is passed on, and no answer comes any more.
    PassOnAndFallSilent,
}

/// A line that is held; one that nobody decides about breaks.
pub(crate) struct Held(Sender<Order>);

impl Held {
    pub(crate) fn decide(&self, order: Order) {
        // Where the connection has broken by itself, nothing is left to decide.
        let _ = self.0.send(order);
    }
}

/// See the module.
pub(crate) struct Line {
    /// Where a client connects, `host:port`.
    pub(crate) address: String,
    watch: Arc<Watch>,
    held: Receiver<Held>,
}

struct Watch {
    upstream: String,
    moment: Mutex<Option<Moment>>,
    tell: Mutex<Sender<Held>>,
}

impl Line {
    /// A line to `upstream`, `host:port`.
    pub(crate) fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, held) = channel();
        let watch = Watch { upstream: upstream.to_owned(), moment: Mutex::default(), tell: Mutex::new(tell) };
        let watch = Arc::new(watch);
        let watching = Arc::clone(&watch);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let watch = Arc::clone(&watching);
                std::thread::spawn(move || watch.connect(client));
            }
        });
        Self { address, watch, held }
    }

    /// Holds the next connection that comes to this moment.
    pub(crate) fn hold_at(&self, moment: Moment) {
        *self.watch.moment.lock().unwrap() = Some(moment);
    }

    /// Waits until a connection is held; `meanwhile` is done again and again.
    pub(crate) fn wait(&self, mut meanwhile: impl FnMut()) -> Held {
        let began = std::time::Instant::now();
        loop {
            if let Ok(held) = self.held.recv_timeout(std::time::Duration::from_millis(100)) {
                return held;
            }
            assert!(began.elapsed() < PATIENCE, "no connection came to the moment");
            meanwhile();
        }
    }
}

impl Watch {
    fn connect(&self, client: TcpStream) {
        // A server that is down: the client sees its connection end.
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        let silent = Arc::new(AtomicBool::new(false));
        let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let muted = Arc::clone(&silent);
        let answering = std::thread::spawn(move || pass_answers(answers.0, answers.1, &muted));
        // However it ends, it ends for both.
        let _ = self.pass_requests(&client, &server, &silent);
        for stream in [&client, &server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = answering.join();
    }

    fn pass_requests(
        &self,
        mut client: &TcpStream,
        mut server: &TcpStream,
        silent: &AtomicBool,
    ) -> io::Result<()> {
        pass_start(client, server)?;
        let mut copied = 0;
        loop {
            let mut head = [0; 5];
            client.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let mut message = head.to_vec();
            message.resize(1 + length, 0);
            client.read_exact(&mut message[5..])?;
            match head[0] {
                // CopyData.
                b'd' => {
                    let before = copied;
                    copied += message.len();
                    if let Some(held) = self.due(|moment| matches!(moment, Moment::InCopy(at) if at < copied))
                    {
                        let Moment::InCopy(at) = held else { return Ok(()) };
                        server.write_all(&message[..at.saturating_sub(before)])?;
                        self.hold();
                        return Ok(());
                    }
                }
                // Query.
                b'Q' if message[5..].starts_with(b"COMMIT") => {
                    if copied > 0 && self.due(|moment| moment == Moment::AtCommit).is_some() {
                        if self.hold() == Order::Break {
                            return Ok(());
                        }
                        silent.store(true, Ordering::SeqCst);
                    }
                    copied = 0;
                }
                _ => {}
            }
            server.write_all(&message)?;
        }
    }

    /// Takes the moment that a test waits for, if this is it.
    fn due(&self, is_it: impl Fn(Moment) -> bool) -> Option<Moment> {
        self.moment.lock().unwrap().take_if(|moment| is_it(*moment))
    }

    fn hold(&self) -> Order {
        let (decide, order) = channel();
        let _ = self.tell.lock().unwrap().send(Held(decide));
        order.recv().unwrap_or(Order::Break)
    }
}

/// The first message has no type; a wish for encryption, which the server of a test refuses, may precede it.
fn pass_start(mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
    const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head)?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut message = head.to_vec();
        message.resize(word(0) as usize, 0);
        client.read_exact(&mut message[8..])?;
        server.write_all(&message)?;
        if !ENCRYPTION.contains(&word(4)) {
            return Ok(());
        }
    }
}

fn pass_answers(mut server: TcpStream, mut client: TcpStream, silent: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        if !silent.load(Ordering::SeqCst) && client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The server is gone: so is the line, however long the client says nothing.
    let _ = client.shutdown(Shutdown::Both);
}

/// A server that answers each message with one byte, and what it has read.
fn echo() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let hearing = Arc::clone(&heard);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = client.read(&mut buffer) {
                hearing.lock().unwrap().extend(&buffer[..length]);
                if client.write_all(b"!").is_err() {
                    break;
                }
            }
        }
    });
    (address, heard)
}

fn message(of_type: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![of_type];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

/// A client of the echo that has started.
fn client(line: &Line) -> TcpStream {
    let mut client = TcpStream::connect(&line.address).unwrap();
    client.write_all(&[0, 0, 0, 8, 0, 3, 0, 0]).unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

#[test]
fn a_line_breaks_inside_of_a_copy_after_so_many_bytes() {
    let (address, heard) = echo();
    let line = Line::to(&address);
    line.hold_at(Moment::InCopy(7));
    let mut client = client(&line);
    client.write_all(&message(b'd', b"rows and rows")).unwrap();
    line.wait(|| {}).decide(Order::Break);
    // Whatever the server still answered comes first.
    while let Ok(1..) = client.read(&mut [0; 8]) {}
    let part = &message(b'd', b"rows and rows")[..7];
    crate::stack::until("the server has heard the part", || {
        heard.lock().unwrap().ends_with(part).then_some(())
    });
}

#[test]
fn a_line_is_held_at_the_commit_of_a_copy_and_falls_silent() {
    let (address, heard) = echo();
    let line = Line::to(&address);
    line.hold_at(Moment::AtCommit);
    let mut client = client(&line);
    // A transaction that has copied nothing is not the one.
    client.write_all(&message(b'Q', b"COMMIT\0")).unwrap();
    client.read_exact(&mut [0]).unwrap();
    client.write_all(&message(b'd', b"rows")).unwrap();
    client.read_exact(&mut [0]).unwrap();
    client.write_all(&message(b'Q', b"COMMIT\0")).unwrap();
    let held = line.wait(|| {});
    assert!(heard.lock().unwrap().ends_with(b"rows"), "the second commit is held back");
    held.decide(Order::PassOnAndFallSilent);
    crate::stack::until("the server has heard it", || {
        heard.lock().unwrap().ends_with(b"COMMIT\0").then_some(())
    });
    client.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert!(client.read(&mut [0]).is_err(), "no answer");
}
