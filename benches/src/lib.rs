//! Benchmarks of the libraries, one file each under `benches/`; this crate holds what they share.

mod docker_registry;
mod images;
mod proxy;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub use docker_registry::DockerRegistry;
pub use images::{IMAGES, REPOSITORY, fill, legacy_tags, noise, tag};
pub use proxy::proxy;

/// A registry in a process of its own, so that its work can be told from the client's: this program
/// again, with other arguments. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// What it printed first: where it listens, and whatever else the two have agreed on.
    pub greeting: String,
}

impl Server {
    /// Starts this program with `arguments` and waits for its first line.
    ///
    /// # Errors
    ///
    /// When it cannot be started or says nothing.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut greeting = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut greeting)?;
        }
        let greeting = greeting.trim_end().to_owned();
        if greeting.is_empty() {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(Self { child, greeting })
        }
    }

    /// Starts this program as a [`proxy`] for an address.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn proxy(address: &str, added_milliseconds: u64) -> Self {
        let added = added_milliseconds.to_string();
        Self::start(&["--proxy", address, &added]).expect("this program starts")
    }

    /// Returns the processor time that it has taken.
    pub fn cpu(&self) -> Duration {
        cpu(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the arguments of this program after `flag`, if it is given: the task of a child process.
pub fn arguments_behind(flag: &str) -> Option<Vec<String>> {
    let mut arguments = std::env::args();
    arguments.by_ref().find(|argument| argument == flag)?;
    Some(arguments.collect())
}

/// Returns whether to run the full measurement. `cargo test` runs benches without `--bench`: then a
/// small run shows that the code still works.
pub fn is_full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Says where a child process listens, as [`Server::start`] reads it.
pub fn announce(greeting: &str) {
    // A parent that is gone needs no answer.
    drop(writeln!(io::stdout(), "{greeting}"));
}

/// Blocks until the parent process has ended or closes this one's stdin.
pub fn serve_until_told() {
    // In both cases stdin ends.
    drop(io::copy(&mut io::stdin(), &mut io::sink()));
}

/// Returns the processor time of a process and of its children that have ended; `self` is this one.
/// Zero where there is no `/proc`.
pub fn cpu(process: &str) -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, which comes second, may hold anything but ends at the last parenthesis.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Returns the peak resident set of this process, in bytes. Zero without `/proc`.
pub fn peak_memory() -> u64 {
    peak_memory_of("self")
}

/// Returns the peak resident set of a process, in bytes. Zero once it has ended, and without `/proc`.
pub fn peak_memory_of(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}
