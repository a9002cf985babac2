//! Runs the binary in a folder of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_registry::{Persona, TestRegistry};

/// A folder, and the binary with nobody's credentials and stores.
#[derive(Debug)]
pub(crate) struct Site {
    folder: tempfile::TempDir,
}

/// What a run of the binary printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the names of the files, without the cache, which is always there.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        names
    }

    /// Runs `stellaops` with words split at spaces.
    pub(crate) async fn stellaops(&self, words: &str) -> Ran {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_stellaops"));
        self.run(
            program,
            words.split_whitespace().map(str::to_owned).collect(),
        )
        .await
    }

    /// Starts `stellaops store serve` on a free port, with more words, and waits until it listens.
    pub(crate) fn serve(&self, words: &str) -> Served {
        let program = Path::new(env!("CARGO_BIN_EXE_stellaops"));
        let mut child = command(program, self.folder.path())
            .args(["store", "serve", "--listen", "127.0.0.1:0"])
            .args(words.split_whitespace())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| {
            let line = line.unwrap();
            assert!(!line.contains("[ERROR]"), "{line}");
            line.contains("Serving ").then_some(line)
        });
        let line = line.unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let rest = Arc::clone(&written);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                rest.lock().unwrap().push(line);
            }
        });
        let (_, after) = line.split_once("://").unwrap();
        let (host, _) = after.split_once("/v2/").unwrap();
        Served {
            host: host.to_owned(),
            line,
            written,
            child,
        }
    }

    /// Runs a line of shell in the folder, with `stellaops` on the path.
    pub(crate) async fn shell(&self, line: &str) -> Ran {
        self.run("sh".into(), vec!["-c".into(), line.to_owned()])
            .await
    }

    /// Returns another binary as a command.
    pub(crate) fn command_of(&self, program: &str) -> Command {
        command(Path::new(program), self.folder.path())
    }

    /// Returns the binary as a command, for those who do not wait for its end.
    pub(crate) fn command(&self) -> Command {
        command(
            Path::new(env!("CARGO_BIN_EXE_stellaops")),
            self.folder.path(),
        )
    }

    async fn run(&self, program: PathBuf, arguments: Vec<String>) -> Ran {
        let folder = self.folder.path().to_owned();
        let run = move || command(&program, &folder).args(arguments).output().unwrap();
        let output: Output = tokio::task::spawn_blocking(run).await.unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn command(program: &Path, folder: &Path) -> Command {
    let binaries = Path::new(env!("CARGO_BIN_EXE_stellaops")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:{path}", binaries.display()))
        .env("HOME", folder.join("home"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_STATE_HOME", folder.join("state"));
    command
}

/// A store that is being served until this is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) host: String,
    /// What it said about itself.
    pub(crate) line: String,
    /// What it has written since.
    written: Arc<Mutex<Vec<String>>>,
    child: Child,
}

impl Served {
    /// Returns the first line that it has written since it listens and that has this part, waiting for it.
    pub(crate) async fn line_with(&self, part: &str) -> String {
        for _ in 0..1000 {
            let found = {
                let written = self.written.lock().unwrap();
                written.iter().find(|line| line.contains(part)).cloned()
            };
            if let Some(line) = found {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{part:?} is not in {:?}", self.written.lock().unwrap());
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; returns the exit code, or -1 where a signal has ended it.
    pub(crate) async fn ended(&mut self) -> i32 {
        for _ in 0..1000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not end");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

impl Ran {
    /// Returns stdout as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Asserts a failure as users should meet it: the documented code, one sentence that has these parts, no trace.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        let errors: Vec<_> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("[ERROR] ") || line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in {}",
                self.stderr
            );
        }
        assert!(
            !self.stderr.contains("panicked") && !self.stderr.contains("backtrace"),
            "{}",
            self.stderr
        );
        self
    }
}

/// A registry with an image of two platforms and 8 referrers: an SBOM, an attestation and a signature on the
/// index, a signature on the SBOM, an SBOM on each platform, and two legacy tags.
pub(crate) async fn registry_with_image(persona: Persona) -> TestRegistry {
    let registry = TestRegistry::start(persona).await;
    let image = registry.index("app", "1.0", &["linux/amd64", "linux/arm64"]);
    let sbom = registry.referrer(
        "app",
        &image.descriptor,
        "application/vnd.cyclonedx+json",
        "sbom",
    );
    registry.referrer(
        "app",
        &image.descriptor,
        "application/vnd.in-toto+json",
        "attestation",
    );
    registry.referrer(
        "app",
        &image.descriptor,
        "application/vnd.cncf.notary.signature",
        "signature",
    );
    registry.referrer(
        "app",
        &sbom,
        "application/vnd.cncf.notary.signature",
        "signature of the sbom",
    );
    for (place, child) in image.children.iter().enumerate() {
        registry.referrer(
            "app",
            child,
            "application/vnd.cyclonedx+json",
            format!("sbom {place}"),
        );
    }
    registry.legacy("app", &image.descriptor.digest, "sig", "legacy signature");
    registry.legacy("app", &image.descriptor.digest, "vex", "legacy vex");
    registry
}
