use std::fmt::Write as _;

use rustix::system::{sysinfo, uname};

/// Variables that change what the program does and hold no secrets, except for proxies, whose logins are hidden.
const VARIABLES: [&str; 18] = [
    "CONTAINER",
    "DOCKER_CONFIG",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "INVOCATION_ID",
    "KUBERNETES_SERVICE_HOST",
    "LANG",
    "NO_PROXY",
    "REGISTRY_AUTH_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "https_proxy",
];

pub(super) fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// Describes the machine and the environment.
pub(super) fn describe() -> String {
    let system = uname();
    let mut text = format!(
        "system: {} {} ({})\nhost: {}\n",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy(),
        host_name(),
    );
    if let Ok(release) = std::fs::read_to_string("/etc/os-release") {
        let name = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        writeln!(
            text,
            "distribution: {}",
            name.unwrap_or("?").trim_matches('"')
        )
        .ok();
    }
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = sysinfo();
    let unit = u64::from(memory.mem_unit);
    writeln!(text, "cores: {cores}").ok();
    let (all, free) = (memory.totalram, memory.freeram);
    writeln!(
        text,
        "memory: {} MiB, free {} MiB",
        (all * unit) >> 20,
        (free * unit) >> 20
    )
    .ok();
    writeln!(
        text,
        "time: {}",
        jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system())
    )
    .ok();
    writeln!(text, "user: {}", rustix::process::getuid().as_raw()).ok();
    for name in VARIABLES {
        if let Ok(value) = std::env::var(name) {
            writeln!(text, "{name}={}", without_login(&value)).ok();
        }
    }
    text
}

/// Hides the user and the password of a URL.
fn without_login(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.find("://").map_or(0, |at| at + 3);
            format!("{}***@{host}", &before[..scheme])
        }
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_shown_without_its_login() {
        for (value, shown) in [
            ("http://u:p@proxy.test:3128", "http://***@proxy.test:3128"),
            ("u:p@proxy.test", "***@proxy.test"),
            ("http://proxy.test", "http://proxy.test"),
        ] {
            assert_eq!(without_login(value), shown);
        }
        assert!(describe().starts_with("system: "));
    }
}
