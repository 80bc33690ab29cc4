//! A running Millrace, driven from outside: the built binary, a config, a folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for any one thing. Machines that build beside it are slow; a stuck stage is not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A debug build that shares its machine has loaded, or delivered, an event within this.
pub(crate) const PER_EVENT: Duration = Duration::from_millis(20);

/// The write key of source `web` in the tests' configs.
pub(crate) const WRITE_KEY: &str = "test-write-key";

/// The binary that `cargo build -p millrace` made.
pub(crate) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("MILLRACE_BIN") {
        return PathBuf::from(named);
    }
    // <target>/debug/deps/it-… to <target>/debug/millrace.
    let test = std::env::current_exe().expect("the path of the test");
    let built = test.parent().and_then(Path::parent).expect("a target folder").join("millrace");
    assert!(
        built.exists(),
        "{} is not built: run ./test, or `cargo build -p millrace` first",
        built.display()
    );
    built
}

/// A folder with a config; processes are started in it.
pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    /// `config`: the text of `millrace.yaml`, with `{dir}` for the folder.
    pub(crate) fn new(config: &str) -> Self {
        let site = Self { folder: tempfile::Builder::new().prefix("millrace-it-").tempdir().unwrap() };
        site.write("millrace.yaml", config);
        site
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder, with `{dir}` for the folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let text = text.replace("{dir}", &self.path().display().to_string());
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// A command of the binary on this config, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.env("MILLRACE_CONFIG", self.path().join("millrace.yaml"));
        command.env("MILLRACE_DATA_DIR", self.path().join("data"));
        command.env_remove("MILLRACE_LOG");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        output(self.command(arguments))
    }

    /// Runs a command that must succeed and returns its stdout.
    pub(crate) fn stdout(&self, arguments: &[&str]) -> String {
        self.stdout_with(arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn stdout_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        let output = output(command);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The rows of a query on the warehouse `lake` as JSON objects; an error (no such table yet) is no rows.
    pub(crate) fn query(&self, sql: &str) -> Vec<Value> {
        self.query_of("lake", sql)
    }

    /// The same of a named warehouse.
    pub(crate) fn query_of(&self, warehouse: &str, sql: &str) -> Vec<Value> {
        let output = self.run(&["query", "-o", "json", "--warehouse", warehouse, sql]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts a service whose log goes to `<name>.log` in the folder.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Process {
        self.start_with(name, arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_with(&self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
        let log = self.path().join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(file);
        Process { child: command.spawn().unwrap(), log, name: name.to_owned() }
    }

    /// Starts `millrace dev` and waits until it is up.
    pub(crate) fn dev(&self) -> Dev {
        let mut process = self.start("dev", &["dev", "-o", "json"]);
        let said = process.first_line();
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        Dev { ingest: text("ingest"), admin: text("admin"), process }
    }
}

/// A running `millrace dev`.
pub(crate) struct Dev {
    pub(crate) ingest: String,
    pub(crate) admin: String,
    pub(crate) process: Process,
}

/// A child process; ended with SIGKILL when it is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// The first line it prints, as JSON.
    pub(crate) fn first_line(&mut self) -> Value {
        let stdout = self.child.stdout.take().expect("a piped stdout");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{} did not start:\n{}", self.name, self.log()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and wait for its end.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself meanwhile, which is what was wanted.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and wait for its end; returns whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        self.signal("TERM");
        until("the process ends", || self.ended()).success()
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name} {}", self.name);
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.ended().is_none()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end; one that does not come to it is killed, and the test fails.
pub(crate) fn output(command: Command) -> Output {
    output_within(PATIENCE, command)
}

/// The same of one that may take longer than most, as catching up does in a debug build after hundreds of rounds.
pub(crate) fn output_within(patience: Duration, mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (tell, ended) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(patience) else {
        let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        panic!("{command:?} did not end within {} s", patience.as_secs());
    };
    waiting.join().unwrap().unwrap();
    output.unwrap()
}

/// Looks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same of what may take longer than most.
pub(crate) fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < patience,
            "after {} s it is still not true that {what}",
            patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How often a test does to a process what it should survive: as usual, or as often as a recipe wants.
pub(crate) fn rounds(usual: usize) -> usize {
    let wanted = std::env::var("MILLRACE_TEST_ROUNDS").ok();
    wanted.map_or(usual, |rounds| rounds.parse().expect("MILLRACE_TEST_ROUNDS is a number"))
}

/// The value of a variable that `./test` sets, or a word to the reader that the test is skipped.
pub(crate) fn lent(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        println!("SKIPPED: {variable} is not set; ./test sets it where it can");
    }
    value
}
