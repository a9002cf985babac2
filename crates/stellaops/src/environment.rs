use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use registry_client::ProxyOptions;

/// The environment of the process: its variables, its user and the user's home. It is read once; what follows from it is
/// decided here, in the order that podman, skopeo and docker use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    user_id: u32,
    home: Option<PathBuf>,
}

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            user_id: rustix::process::getuid().as_raw(),
            // Also works without HOME, as under cron and systemd.
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
        }
    }

    /// Returns the path in a variable; an empty variable counts as unset.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(&OsString::from(name))?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    fn text(&self, names: [&str; 2]) -> Option<String> {
        names
            .into_iter()
            .find_map(|name| Some(self.path(name)?.to_string_lossy().into_owned()))
    }

    fn in_home(&self, path: &str) -> Option<PathBuf> {
        Some(self.home.as_deref()?.join(path))
    }

    fn configuration(&self) -> Option<PathBuf> {
        self.path("XDG_CONFIG_HOME")
            .or_else(|| self.in_home(".config"))
    }

    fn docker(&self) -> Option<PathBuf> {
        self.path("DOCKER_CONFIG")
            .or_else(|| self.in_home(".docker"))
    }

    /// Returns the files that may hold logins, whether or not they exist, in podman's order.
    pub(crate) fn credential_files(&self) -> Vec<PathBuf> {
        let runtime = match self.path("XDG_RUNTIME_DIR") {
            Some(folder) => folder.join("containers/auth.json"),
            None => format!("/run/containers/{}/auth.json", self.user_id).into(),
        };
        [
            self.path("REGISTRY_AUTH_FILE"),
            Some(runtime),
            self.configuration()
                .map(|folder| folder.join("containers/auth.json")),
            self.docker().map(|folder| folder.join("config.json")),
            self.in_home(".dockercfg"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Returns the `certs.d` folders, whether or not they exist: those of containers/image, then docker's; the user's
    /// before the machine's.
    pub(crate) fn certs_folders(&self) -> Vec<PathBuf> {
        let configuration = self.configuration();
        let user = |tool: &str| Some(configuration.as_ref()?.join(tool).join("certs.d"));
        let mut folders: Vec<_> = [
            user("containers"),
            // podman looks in the home folder and ignores XDG_CONFIG_HOME.
            self.in_home(".config/containers/certs.d"),
            Some(Path::new("/etc/containers/certs.d").to_owned()),
            user("docker"),
            self.docker().map(|folder| folder.join("certs.d")),
            Some(Path::new("/etc/docker/certs.d").to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        folders.dedup();
        folders
    }

    /// Returns the proxies set by variables, read as Go clients do: upper case wins.
    pub(crate) fn proxy(&self) -> Option<ProxyOptions> {
        let mut proxy = ProxyOptions::default();
        proxy.https = self.text(["HTTPS_PROXY", "https_proxy"]);
        proxy.http = self.text(["HTTP_PROXY", "http_proxy"]);
        // In a CGI program this variable may come from the `Proxy` header of a request: https://httpoxy.org/
        if self.path("REQUEST_METHOD").is_some() {
            proxy.http = None;
        }
        proxy.no_proxy = self.text(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        (proxy.https.is_some() || proxy.http.is_some()).then_some(proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(home: Option<&str>, variables: &[(&str, &str)]) -> Environment {
        let own = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Environment {
            variables: variables.iter().map(own).collect(),
            user_id: 1000,
            home: home.map(PathBuf::from),
        }
    }

    fn texts(paths: Vec<PathBuf>) -> Vec<String> {
        let text = |path: &PathBuf| path.display().to_string();
        paths.iter().map(text).collect()
    }

    #[test]
    fn logins_are_looked_for_in_the_order_of_podman() {
        let files = |home, variables: &[(&str, &str)]| {
            texts(environment(home, variables).credential_files())
        };
        assert_eq!(
            files(Some("/home/u"), &[]),
            [
                "/run/containers/1000/auth.json",
                "/home/u/.config/containers/auth.json",
                "/home/u/.docker/config.json",
                "/home/u/.dockercfg",
            ]
        );
        let all = [
            ("REGISTRY_AUTH_FILE", "/named.json"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("XDG_CONFIG_HOME", "/cfg"),
            ("DOCKER_CONFIG", "/docker"),
        ];
        assert_eq!(
            files(Some("/home/u"), &all),
            [
                "/named.json",
                "/run/user/1000/containers/auth.json",
                "/cfg/containers/auth.json",
                "/docker/config.json",
                "/home/u/.dockercfg",
            ]
        );
        let empty = [("REGISTRY_AUTH_FILE", ""), ("XDG_RUNTIME_DIR", "")];
        assert_eq!(files(None, &empty), ["/run/containers/1000/auth.json"]);
    }

    #[test]
    fn certificates_are_looked_for_where_containers_and_docker_do() {
        let folders = |variables: &[(&str, &str)]| {
            texts(environment(Some("/home/u"), variables).certs_folders())
        };
        assert_eq!(
            folders(&[]),
            [
                "/home/u/.config/containers/certs.d",
                "/etc/containers/certs.d",
                "/home/u/.config/docker/certs.d",
                "/home/u/.docker/certs.d",
                "/etc/docker/certs.d",
            ]
        );
        assert_eq!(
            folders(&[("XDG_CONFIG_HOME", "/cfg"), ("DOCKER_CONFIG", "/docker")]),
            [
                "/cfg/containers/certs.d",
                "/home/u/.config/containers/certs.d",
                "/etc/containers/certs.d",
                "/cfg/docker/certs.d",
                "/docker/certs.d",
                "/etc/docker/certs.d",
            ]
        );
    }

    #[test]
    fn proxies_are_those_that_go_reads() {
        let proxy = |variables: &[(&str, &str)]| environment(None, variables).proxy();
        assert_eq!(proxy(&[("NO_PROXY", "a"), ("ALL_PROXY", "http://p")]), None);
        let both = [
            ("HTTPS_PROXY", "http://upper"),
            ("https_proxy", "http://lower"),
            ("http_proxy", "http://plain"),
            ("HTTP_PROXY", ""),
            ("no_proxy", "a,b"),
        ];
        let read = proxy(&both).unwrap();
        assert_eq!(read.https.as_deref(), Some("http://upper"));
        assert_eq!(read.http.as_deref(), Some("http://plain"));
        assert_eq!(read.no_proxy, "a,b");
        let cgi = [("HTTP_PROXY", "http://evil"), ("REQUEST_METHOD", "GET")];
        assert_eq!(proxy(&cgi), None);
    }
}
