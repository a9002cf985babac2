use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use oci_content::MAX_MANIFEST_BYTES;
use tokio::sync::Semaphore;

use crate::connections::ConnectionLimits;
use crate::server::RegistryServer;
use crate::sessions::Sessions;
use crate::shared::{Options, Shared};
use crate::store::Store;
use crate::traffic::ServerObserver;

/// Configures a [`RegistryServer`].
#[derive(Debug)]
pub struct RegistryServerBuilder {
    store: Arc<dyn Store>,
    options: Options,
    connections: ConnectionLimits,
    max_sessions: usize,
    max_files: usize,
    observer: Option<Arc<dyn ServerObserver>>,
    #[cfg(feature = "basic-auth")]
    users: Option<crate::Htpasswd>,
}

impl RegistryServer {
    /// Starts the configuration of a registry.
    pub fn builder(store: Arc<dyn Store>) -> RegistryServerBuilder {
        RegistryServerBuilder {
            store,
            options: Options {
                read_only: false,
                referrers_api: true,
                page_size: None,
                page_bytes: MAX_MANIFEST_BYTES,
                max_manifest_bytes: MAX_MANIFEST_BYTES,
                max_blob_bytes: 64 << 30,
                sparse_manifests: false,
                chunk_min_bytes: None,
                hosts: None,
            },
            connections: ConnectionLimits::default(),
            max_sessions: 1024,
            max_files: 1024,
            observer: None,
            #[cfg(feature = "basic-auth")]
            users: None,
        }
    }
}

impl RegistryServerBuilder {
    /// Sets whether requests that would change the store are refused with 405. Default: `false`.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = read_only;
        self
    }

    /// Sets whether the referrers API is offered. Without it, the endpoint answers 404 and a pushed
    /// subject is not acknowledged, so that clients maintain the referrers tag. Default: `true`.
    #[must_use]
    pub fn referrers_api(mut self, offered: bool) -> Self {
        self.options.referrers_api = offered;
        self
    }

    /// Limits the entries on a page of tags or referrers. Default: no limit besides that of the
    /// bytes.
    #[must_use]
    pub fn page_size(mut self, entries: NonZeroUsize) -> Self {
        self.options.page_size = Some(entries);
        self
    }

    /// Limits the bytes of a page of tags or referrers. A larger entry has a page of its own.
    /// Default: 4 MiB, which is as much as clients read of a manifest.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.options.page_bytes = bytes;
        self
    }

    /// Limits the bytes of a manifest; larger ones are refused with 413. Default: 4 MiB.
    #[must_use]
    pub fn max_manifest_bytes(mut self, bytes: u64) -> Self {
        self.options.max_manifest_bytes = bytes;
        self
    }

    /// Limits the bytes of a blob; larger ones are refused with 413. Default: 64 GiB.
    #[must_use]
    pub fn max_blob_bytes(mut self, bytes: u64) -> Self {
        self.options.max_blob_bytes = bytes;
        self
    }

    /// Sets whether manifests are accepted whose blobs or children are missing. Default: `false`.
    #[must_use]
    pub fn sparse_manifests(mut self, taken: bool) -> Self {
        self.options.sparse_manifests = taken;
        self
    }

    /// Sends this size to clients in `OCI-Chunk-Min-Length`. Smaller chunks are accepted
    /// nevertheless. Default: not sent.
    #[must_use]
    pub fn chunk_min_bytes(mut self, bytes: u64) -> Self {
        self.options.chunk_min_bytes = Some(bytes);
        self
    }

    /// Limits the number of upload sessions. When the limit is reached, a new session replaces the
    /// one that has been idle longest of the user who has the most. Default: 1024.
    #[must_use]
    pub fn max_upload_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Limits the number of open connections. When the limit is reached, a new connection replaces
    /// the one that has been quiet longest, if that is at least 5 seconds and the server is not
    /// working on its request; otherwise it waits. With [users](Self::users), connections that have
    /// not sent a correct password share half of the limit, and a new one replaces the oldest of
    /// them. Default: 1024.
    #[must_use]
    pub fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.connections.max_connections = connections.get();
        self
    }

    /// Limits the time from the opening of a connection, or from the last answer, to the complete
    /// head of the next request. Then the connection is closed, also if it is idle. Over HTTP/2,
    /// limits the time to the answer to a ping. Default: 60 seconds.
    #[must_use]
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.connections.head_timeout = time;
        self
    }

    /// Limits the time in which 16 KiB of a body, or its end, must be transferred. A request that
    /// is slower is answered with 408, and an upload keeps what it has received; a connection whose
    /// client reads an answer more slowly is closed. Default: 60 seconds.
    #[must_use]
    pub fn stall_timeout(mut self, time: Duration) -> Self {
        self.connections.stall_timeout = time;
        self
    }

    /// Limits the time from the opening of a connection to the first correct password, if there are
    /// [users](Self::users). Default: 30 seconds.
    #[must_use]
    pub fn sign_in_timeout(mut self, time: Duration) -> Self {
        self.connections.sign_in_timeout = time;
        self
    }

    /// Lowers the limits for a process that may have this many files open. A quarter, at most 64,
    /// is left to the process; connections, upload sessions, answers from files (503 after a wait
    /// of 10 seconds) and calls of the store share the rest equally. Default: 1024 of each.
    #[must_use]
    pub fn open_files(mut self, files: u64) -> Self {
        let own = (files / 4).min(64);
        let each = usize::try_from((files - own) / 4).unwrap_or(usize::MAX);
        let lowered = |limit: usize| limit.min(each).max(1);
        self.connections.max_connections = lowered(self.connections.max_connections);
        self.max_sessions = lowered(self.max_sessions);
        self.max_files = lowered(self.max_files);
        self
    }

    /// Answers only requests for these hosts and for loopback, whatever their port and case; others
    /// get 403. This keeps web pages from reaching a server on loopback through a host name of
    /// their own. Default: every host.
    #[must_use]
    pub fn allowed_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
        self.options.hosts = Some(hosts.collect());
        self
    }

    /// Reports each request to `observer`. Default: none.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn ServerObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Limits the time that unfinished answers have after the server was stopped. Default: 30
    /// seconds.
    #[must_use]
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.connections.shutdown_timeout = time;
        self
    }

    /// Answers only these users, with basic authentication. Default: everybody.
    #[cfg(feature = "basic-auth")]
    #[must_use]
    pub fn users(mut self, users: crate::Htpasswd) -> Self {
        self.users = Some(users);
        self.connections.guarded = true;
        self
    }

    /// Builds the registry.
    pub fn build(self) -> RegistryServer {
        RegistryServer {
            shared: Arc::new(Shared {
                store: self.store,
                options: self.options,
                connections: self.connections,
                sessions: Sessions::new(self.max_sessions),
                observer: self.observer,
                files: Arc::new(Semaphore::new(self.max_files)),
                calls: Semaphore::new(self.max_files),
                #[cfg(feature = "basic-auth")]
                users: self.users,
            }),
        }
    }
}
