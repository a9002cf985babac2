use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Server;

/// Debian's docker-registry in a folder of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl DockerRegistry {
    /// Starts it; `None` if it is not on the path.
    ///
    /// # Panics
    ///
    /// If the folder exists or cannot be written.
    pub fn start(folder: &Path) -> Option<Self> {
        std::fs::create_dir(folder).expect("the folder can be written");
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: \"{}\"}}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\n",
            folder.join("data").display()
        );
        std::fs::write(&config, text).expect("the folder can be written");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            // REGISTRY_* overrides the configuration.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stderr.take()?).lines();
        let address = lines.by_ref().find_map(|line| {
            let line = line.ok()?;
            let (_, behind) = line.split_once("listening on ")?;
            Some(behind.split(['"', ',', ' ']).next()?.to_owned())
        });
        // Kept reading, so that it can keep writing.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self {
            child,
            address: address?,
        })
    }

    /// Starts a proxy that delays each request by `added` milliseconds.
    ///
    /// # Panics
    ///
    /// If this program cannot be started again.
    pub fn behind(&self, added: u64) -> Server {
        Server::proxy(&self.address, added)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
