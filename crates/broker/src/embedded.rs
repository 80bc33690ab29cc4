//! The broker on a thread and a runtime of its own.

use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nisshi_broker::broker::Builder;
use tokio::sync::oneshot;
use url::Url;
use uuid::Uuid;

use crate::BrokerError;
use crate::folder::Folder;

/// A broker of one node has one number; clients learn it from the metadata.
const NODE_ID: i32 = 1;

/// Two threads: the storage engine has one writer, so more would only wait for it.
const WORKER_THREADS: usize = 2;

/// Making the schema takes under a second, replaying the log of a killed process a few. Beyond this
/// something is wrong that waiting does not mend.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long blocking work of the engine may go on after the stop; its transactions are safe either way.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Between two tries to reach a broker that is starting.
const PROBE_PAUSE: Duration = Duration::from_millis(10);

/// A Kafka-compatible broker in this process.
///
/// It has a runtime of its own, so that a busy stage cannot starve it and it can outlive the stages at
/// shutdown. Dropping it stops it too, and waits.
#[derive(Debug)]
pub struct EmbeddedBroker {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

type UnsetBuilder = Builder<
    PhantomData<i32>,
    PhantomData<String>,
    PhantomData<Uuid>,
    PhantomData<Url>,
    PhantomData<Url>,
    PhantomData<Url>,
>;

impl EmbeddedBroker {
    /// Opens `data_dir` (made if it is not there) and listens on 127.0.0.1, on `port` or on any free one.
    /// Blocks until the broker answers, which takes under a second.
    ///
    /// # Errors
    /// [`BrokerError::InUse`] names the process that has the folder open; the others say what is in the
    /// way.
    pub fn start(data_dir: &Path, port: Option<u16>) -> Result<Self, BrokerError> {
        let folder = Folder::open(data_dir)?;
        let port = free_port(port)?;
        let listener = listener_url(port)?;
        folder.note_address(&format!("127.0.0.1:{port}"))?;
        let broker = UnsetBuilder::default()
            .node_id(NODE_ID)
            .cluster_id(folder.cluster_id()?)
            .incarnation_id(Uuid::now_v7())
            .listener(listener.clone())
            .advertised_listener(listener)
            .storage(folder.storage_url()?)
            .silent(true);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("millrace-broker")
            .enable_all()
            .build()
            .map_err(BrokerError::System)?;
        let (stop, stop_requested) = oneshot::channel::<()>();
        let (has_ended, ended) = oneshot::channel();
        let (failed, failure) = mpsc::channel();
        let run = move || {
            runtime.block_on(async {
                let serve = async {
                    let mut broker = broker.build().await?;
                    broker.serve(tokio::time::Instant::now()).await
                };
                // The listener and its connections belong to `serve`: dropping it closes them all.
                tokio::select! {
                    result = serve => {
                        let reason = result.err().map_or_else(|| "without a reason".to_owned(), |e| e.to_string());
                        tracing::error!(reason, "the embedded broker ended by itself");
                        // Nobody listens after the start.
                        let _ = failed.send(reason);
                    }
                    _ = stop_requested => {}
                }
            });
            runtime.shutdown_timeout(STOP_GRACE);
            // Only now may another broker open the folder.
            drop(folder);
            let _ = has_ended.send(());
        };
        let thread = std::thread::Builder::new()
            .name("millrace-broker".to_owned())
            .spawn(run)
            .map_err(BrokerError::System)?;

        let broker = Self { port, stop: Some(stop), ended, thread: Some(thread) };
        broker.wait_until_it_answers(&failure)?;
        tracing::info!(port, folder = %data_dir.display(), "embedded broker started");
        Ok(broker)
    }

    /// Where the broker that has `data_dir` open listens, in whichever process of this machine it runs;
    /// none when none does.
    #[must_use]
    pub fn running(data_dir: &Path) -> Option<String> {
        crate::folder::address_of_running(data_dir)
    }

    /// Where clients connect: `127.0.0.1:<port>`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops listening, closes the storage and gives up the folder. Whatever was acked is stored.
    pub async fn stop(mut self) {
        self.request_stop();
        // An error means that it had ended already.
        let _ = (&mut self.ended).await;
        tracing::info!(port = self.port, "embedded broker stopped");
    }

    fn request_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that it has ended already.
            let _ = stop.send(());
        }
    }

    fn wait_until_it_answers(&self, failure: &mpsc::Receiver<String>) -> Result<(), BrokerError> {
        let started = Instant::now();
        while started.elapsed() < START_DEADLINE {
            match failure.try_recv() {
                Ok(reason) => return Err(BrokerError::Ended(reason)),
                Err(TryRecvError::Disconnected) => {
                    return Err(BrokerError::Ended("its thread is gone".to_owned()));
                }
                Err(TryRecvError::Empty) => {}
            }
            if answers(self.port) {
                return Ok(());
            }
            std::thread::sleep(PROBE_PAUSE);
        }
        Err(BrokerError::NoAnswer { port: self.port, waited: START_DEADLINE })
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The port that was asked for, if it is free; else any free one. It is let go again here and taken by
/// the broker a moment later: the engine cannot be handed a socket.
fn free_port(wanted: Option<u16>) -> Result<u16, BrokerError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0)));
    let listener = TcpListener::bind(address).map_err(|error| match wanted {
        Some(port) if error.kind() == ErrorKind::AddrInUse => BrokerError::PortInUse { port },
        _ => BrokerError::System(error),
    })?;
    listener.local_addr().map(|address| address.port()).map_err(BrokerError::System)
}

fn listener_url(port: u16) -> Result<Url, BrokerError> {
    Url::parse(&format!("tcp://127.0.0.1:{port}")).map_err(|error| BrokerError::Ended(error.to_string()))
}

/// Kafka's ApiVersions request, version 0: key 18, correlation id 1, no client id. Every broker answers it
/// before anything else.
const API_VERSIONS_REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// How long one probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

fn answers(port: u16) -> bool {
    let probe = || -> std::io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.write_all(&API_VERSIONS_REQUEST)?;
        stream.read_exact(&mut [0; 8])
    };
    probe().is_ok()
}
