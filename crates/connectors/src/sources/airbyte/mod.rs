//! An Airbyte source as a child process, by the Airbyte protocol.
//!
//! `check`, `discover` and `read` each start the program anew, with its settings in a file that is removed
//! when it ends. Its rows go on byte for byte; its states are put together into one ([`state`]); whatever
//! it prints to standard error goes to the log. A read has succeeded if the program exits with 0 and has
//! reported no error: rows that came before a failure count only up to the last state.
//!
//! Not supported: a source that rotates its tokens asks for its settings to be changed (CONTROL), and
//! nothing here stores them; a warning says so.

mod catalog;
mod config;
mod process;
mod protocol;
mod state;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_connector::{ConnectorError, Context, ReadRequest, Source, SourceEntry, SourceMessage};
use millrace_event_model::{LoadMode, StreamSpec};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::catalog::StreamKey;
use self::config::{AirbyteSettings, Config, RunFiles};
use self::process::{Bounds, Exit, Process};
use self::protocol::{Message, SourceError};
use self::state::{Covers, States};

/// The longest a check or a discovery may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// See the module's text.
pub(crate) const ENTRY: SourceEntry = SourceEntry {
    kind: "airbyte",
    summary: "Any Airbyte source that is a program (PyPI: airbyte-source-…)",
    schema: || schemars::schema_for!(AirbyteSettings).to_value(),
    build,
};

fn build(settings: &Value, command: &[String], context: &Context) -> Result<Arc<dyn Source>, ConnectorError> {
    Ok(Arc::new(Airbyte::new(Config::parse(settings, command, context)?, Bounds::default())))
}

/// One configured source.
struct Airbyte {
    config: Config,
    bounds: Bounds,
    /// The streams as the source wrote them: `read` has to hand them back, and a [`StreamSpec`] holds
    /// less. Asked for once in the life of this value.
    offered: Mutex<Option<Vec<Value>>>,
}

#[async_trait]
impl Source for Airbyte {
    async fn check(&self) -> Result<(), ConnectorError> {
        let answer = self.ask("check", |message| match message {
            Message::Status { succeeded, message } => Some((succeeded, message)),
            _ => None,
        });
        let (succeeded, message) = answer.await?;
        if succeeded {
            return Ok(());
        }
        let context = format!("source {:?} refuses its settings: {message}", self.config.id);
        Err(ConnectorError::pause("check_failed", context))
    }

    async fn streams(&self) -> Result<Vec<StreamSpec>, ConnectorError> {
        let offered = self.discover().await?;
        catalog::specs(&offered).map_err(|error| {
            let context = format!("the catalog of source {:?} is malformed", self.config.id);
            ConnectorError::pause("malformed_catalog", context).caused_by(error)
        })
    }

    async fn read(
        &self,
        request: ReadRequest,
        out: mpsc::Sender<SourceMessage>,
    ) -> Result<(), ConnectorError> {
        let cached = self.offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let offered = match cached {
            Some(offered) => offered,
            None => self.discover().await?,
        };
        let catalog = catalog::configured(&offered, &request.streams).map_err(|stream| {
            let context =
                format!("source {:?} does not offer the stream {stream:?} any more", self.config.id);
            ConnectorError::pause("stream_gone", context)
        })?;
        let mut reading = Reading::new(request);
        let mut files = self.config.files()?;
        files.add("catalog", &catalog)?;
        if let Some(state) = reading.states.to_value() {
            files.add("state", &state)?;
        }
        let mut process = self.spawn("read", &files)?;
        match self.pump(&mut process, &mut reading, &out).await {
            Ok(()) => {}
            Err(error) => {
                process.stop().await;
                return Err(error);
            }
        }
        let exit = process.finish().await?;
        let state = reading.held_back.then(|| reading.state());
        self.verdict("read", exit, reading.failure)?;
        if let Some(state) = state {
            // The read is complete, so every row is covered. Whoever does not listen any more starts
            // from an older state, which is harmless.
            let _ = out.send(state).await;
        }
        Ok(())
    }
}

/// What a read knows at any time.
struct Reading {
    wanted: BTreeSet<StreamKey>,
    full: BTreeSet<StreamKey>,
    states: States,
    /// Streams with rows that no state covers yet. A state is handed on only when there are none: it
    /// says that all rows before it are covered, and sources may read streams side by side, each with
    /// states of its own.
    uncovered: BTreeSet<StreamKey>,
    /// There is a state that was not handed on.
    held_back: bool,
    failure: Option<SourceError>,
}

impl Reading {
    fn new(request: ReadRequest) -> Self {
        let wanted = request.streams.iter().map(StreamKey::of).collect();
        let full: BTreeSet<StreamKey> = request
            .streams
            .iter()
            .filter(|spec| spec.mode == LoadMode::Overwrite)
            .map(StreamKey::of)
            .collect();
        let states = States::from_value(request.state, |key| full.contains(key));
        Self { wanted, full, states, uncovered: BTreeSet::new(), held_back: false, failure: None }
    }

    /// All that is known of the state; null where there is none.
    fn state(&self) -> SourceMessage {
        SourceMessage::State(self.states.to_value().unwrap_or(Value::Null))
    }

    /// What the stage gets to hear of a message.
    fn take(&mut self, message: Message) -> Option<SourceMessage> {
        match message {
            Message::Record { stream, namespace, json, emitted_at } => {
                let key = StreamKey { namespace, name: stream };
                if !self.wanted.contains(&key) {
                    return None;
                }
                // A stream that is read in full has no state to wait for.
                if !self.full.contains(&key) && !self.uncovered.contains(&key) {
                    self.uncovered.insert(key.clone());
                }
                Some(SourceMessage::Record { stream: key.name, namespace: key.namespace, json, emitted_at })
            }
            Message::State(state) => {
                match self.states.apply(state, |key| self.full.contains(key)) {
                    Covers::Stream(key) => drop(self.uncovered.remove(&key)),
                    Covers::Everything => self.uncovered.clear(),
                    Covers::Nothing => {}
                }
                self.held_back = !self.uncovered.is_empty();
                (!self.held_back).then(|| self.state())
            }
            Message::Log { level, message } => Some(SourceMessage::Log { level, message }),
            Message::Error(error) => {
                let message = error.message.clone();
                self.failure = Some(error);
                Some(SourceMessage::Log { level: "error", message })
            }
            Message::Incomplete { stream } => {
                let message = format!("stream {stream:?} ended before its end");
                self.failure.get_or_insert(SourceError { message: message.clone(), config: false });
                Some(SourceMessage::Log { level: "error", message })
            }
            Message::Control => Some(SourceMessage::Log {
                level: "warn",
                message: "the source wants its settings changed, which is not supported: \
                          if it has rotated a token, put the new one into the config"
                    .to_owned(),
            }),
            Message::Catalog(_) | Message::Status { .. } | Message::Other => None,
        }
    }
}

impl Airbyte {
    fn new(config: Config, bounds: Bounds) -> Self {
        Self { config, bounds, offered: Mutex::new(None) }
    }

    fn what(&self, command: &str) -> String {
        format!("{command} of source {:?}", self.config.id)
    }

    fn spawn(&self, command: &str, files: &RunFiles) -> Result<Process, ConnectorError> {
        let mut arguments = self.config.arguments.clone();
        arguments.push(command.into());
        arguments.extend(files.arguments.iter().cloned());
        Process::spawn(&self.config.program, &arguments, self.what(command), self.bounds)
    }

    async fn discover(&self) -> Result<Vec<Value>, ConnectorError> {
        let offered = self.ask("discover", |message| match message {
            Message::Catalog(streams) => Some(streams),
            _ => None,
        });
        let offered = offered.await?;
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = Some(offered.clone());
        Ok(offered)
    }

    /// Runs a command that has one answer, among whatever else it prints.
    async fn ask<T>(
        &self,
        command: &str,
        answer_of: impl Fn(Message) -> Option<T>,
    ) -> Result<T, ConnectorError> {
        let files = self.config.files()?;
        let mut process = self.spawn(command, &files)?;
        let mut answer = None;
        let mut failure = None;
        let listening = async {
            while let Some(line) = process.next_line().await? {
                match self.parse(command, &line)? {
                    Message::Log { level, message } => {
                        tracing::info!(source = self.config.id, command, level, message, "source says");
                    }
                    Message::Error(error) => failure = Some(error),
                    message => answer = answer_of(message).or(answer.take()),
                }
            }
            Ok(())
        };
        let heard = match timeout(ANSWER_TIMEOUT, listening).await {
            Ok(heard) => heard,
            Err(_) => {
                let context = format!("{} took more than {ANSWER_TIMEOUT:?}", self.what(command));
                Err(ConnectorError::retry("source_silent", context))
            }
        };
        if let Err(error) = heard {
            process.stop().await;
            return Err(error);
        }
        let exit = process.finish().await?;
        match answer {
            // A refusal comes with an exit code of its own; the answer says more.
            Some(answer) if exit.status.success() || command == "check" => Ok(answer),
            _ => {
                self.verdict(command, exit, failure)?;
                let context = format!("{} gave no answer", self.what(command));
                Err(ConnectorError::pause("no_answer", context))
            }
        }
    }

    /// Hands on what the source says until its output ends.
    async fn pump(
        &self,
        process: &mut Process,
        reading: &mut Reading,
        out: &mpsc::Sender<SourceMessage>,
    ) -> Result<(), ConnectorError> {
        let stopped = || ConnectorError::retry("stopped", format!("{} was stopped", self.what("read")));
        loop {
            let line = tokio::select! {
                biased;
                () = out.closed() => return Err(stopped()),
                line = process.next_line() => line?,
            };
            let Some(line) = line else { return Ok(()) };
            if let Some(message) = reading.take(self.parse("read", &line)?) {
                out.send(message).await.map_err(|_| stopped())?;
            }
        }
    }

    fn parse(&self, command: &str, line: &bytes::Bytes) -> Result<Message, ConnectorError> {
        protocol::parse(line).map_err(|error| {
            let context = format!("{} printed a message that cannot be read", self.what(command));
            ConnectorError::retry("malformed_message", context).caused_by(error)
        })
    }

    /// Whether a run that ended has succeeded.
    fn verdict(&self, command: &str, exit: Exit, failure: Option<SourceError>) -> Result<(), ConnectorError> {
        let what = self.what(command);
        if let Some(failure) = failure {
            let context = format!("{what} failed: {}", failure.message);
            return Err(match failure.config {
                true => ConnectorError::pause("source_config", context),
                false => ConnectorError::retry("source_failed", context),
            });
        }
        if exit.status.success() {
            return Ok(());
        }
        let mut context = format!("{what} ended with {}", exit.status);
        if !exit.last_words.is_empty() {
            context.push_str(": ");
            context.push_str(&exit.last_words);
        }
        Err(ConnectorError::retry("source_exited", context))
    }
}
