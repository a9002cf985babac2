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
    /// Starts to configure a registry.
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
    /// Refuses every request that would change the store, with 405. Default: `false`.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = read_only;
        self
    }

    /// Offers the referrers API. Without it the endpoint answers 404 and a pushed subject is not acknowledged, so
    /// that clients keep the referrers tag. Default: `true`.
    #[must_use]
    pub fn referrers_api(mut self, offered: bool) -> Self {
        self.options.referrers_api = offered;
        self
    }

    /// Ends a page of tags or referrers after this many entries. Default: a page ends at 4 MiB only.
    #[must_use]
    pub fn page_size(mut self, entries: NonZeroUsize) -> Self {
        self.options.page_size = Some(entries);
        self
    }

    /// Ends a page of tags or referrers before it grows over this many bytes; an entry that is larger by itself
    /// has a page of its own. Default: 4 MiB, which is what clients read of a manifest.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.options.page_bytes = bytes;
        self
    }

    /// Refuses larger manifests with 413. Default: 4 MiB.
    #[must_use]
    pub fn max_manifest_bytes(mut self, bytes: u64) -> Self {
        self.options.max_manifest_bytes = bytes;
        self
    }

    /// Refuses larger blobs with 413. Default: 64 GiB.
    #[must_use]
    pub fn max_blob_bytes(mut self, bytes: u64) -> Self {
        self.options.max_blob_bytes = bytes;
        self
    }

    /// Takes manifests whose blobs or children are not there. Default: `false`.
    #[must_use]
    pub fn sparse_manifests(mut self, taken: bool) -> Self {
        self.options.sparse_manifests = taken;
        self
    }

    /// Tells clients in `OCI-Chunk-Min-Length` how small a chunk may be; smaller ones are taken all the same.
    #[must_use]
    pub fn chunk_min_bytes(mut self, bytes: u64) -> Self {
        self.options.chunk_min_bytes = Some(bytes);
        self
    }

    /// Keeps at most this many upload sessions. For a further one, the user who has the most loses the one that was idle
    /// longest. Default: 1024.
    #[must_use]
    pub fn max_upload_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Keeps at most this many connections open. For a further one, the connection is closed on which nothing has moved for
    /// the longest time, if that is 5 seconds and not the server's own work; otherwise it waits. Where there are
    /// [users](Self::users), connections without a right password have half of the places, and the oldest of them gives
    /// way to the next. Default: 1024.
    #[must_use]
    pub fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.connections.max_connections = connections.get();
        self
    }

    /// Closes a connection on which the head of a request has not come after this time, from the opening of the connection or
    /// from the last answer; also one that is idle. Over HTTP/2, one whose client does not answer a ping. Default: 60 seconds.
    #[must_use]
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.connections.head_timeout = time;
        self
    }

    /// Gives up a body that does not come on, and closes a connection whose client does not take an answer: when fewer than
    /// 16 KiB have moved in this time, unless they were the last. A request is answered with 408, and what came of an upload
    /// is kept. Default: 60 seconds.
    #[must_use]
    pub fn stall_timeout(mut self, time: Duration) -> Self {
        self.connections.stall_timeout = time;
        self
    }

    /// Closes a connection that has not shown a right password this long after it was opened, where there are
    /// [users](Self::users). Default: 30 seconds.
    #[must_use]
    pub fn sign_in_timeout(mut self, time: Duration) -> Self {
        self.connections.sign_in_timeout = time;
        self
    }

    /// Lowers the limits to what a process can do that may have this many files open: a few are left to the process, the
    /// rest is shared by connections, upload sessions, answers out of files (beyond, after 10 seconds, 503) and calls of the
    /// store. Default: 1024 of each.
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

    /// Answers requests to loopback hosts and to these only, without regard to port and case; others get 403. So no
    /// page that a browser shows can reach a server on loopback by a name of its own. Default: every host.
    #[must_use]
    pub fn allowed_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
        self.options.hosts = Some(hosts.collect());
        self
    }

    /// Tells `observer` of each request.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn ServerObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Cuts off answers that are not finished this long after the server was stopped. Default: 30 seconds.
    #[must_use]
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.connections.shutdown_timeout = time;
        self
    }

    /// Answers these users only, by basic authentication. Default: everybody.
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
