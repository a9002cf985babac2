//! `export-center`, the service: it runs the jobs of the configuration, on schedule and on demand.

mod arguments;
mod audit_job;
mod bundle_job;
#[expect(clippy::module_inception, reason = "the service is called a center")]
mod center;
mod certificates;
mod http;
mod live;
mod mirror_job;
pub(crate) mod model;
mod notify;
mod page;
mod runner;
pub(crate) mod schedule;
mod state;
mod systemd;
mod timers;
pub(crate) mod token;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use oci_content::Registry;
use tokio::signal::unix::{SignalKind, signal};

use self::arguments::{CenterCli, CenterCommand};
use self::center::Center;
use self::http::Http;
use self::state::State;
use self::systemd::ServiceManager;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::render;
use crate::signals::Signals;

/// How long runs may take to end at a safe point.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the service, and returns its exit code.
pub(crate) fn run() -> ExitCode {
    let cli = CenterCli::parse();
    let (level, format) = (cli.messages.log_level, cli.messages.log_format);
    let ended = match &cli.command {
        None => serve(cli),
        Some(CenterCommand::Token(command)) => {
            tokens(cli.config.as_deref()).and_then(|tokens| command.run(tokens.as_deref()))
        }
        Some(CenterCommand::Backup(args)) => named(cli.config.as_deref())
            .and_then(Config::read)
            .and_then(|config| State::backup(&config.center.state, &args.output)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Ok(log) = Log::new(level, format, None) {
                log.failure(&failure);
            }
            failure.code().into()
        }
    }
}

fn named(config: Option<&Path>) -> Result<&Path, Failure> {
    config.ok_or_else(|| Failure::new(Exit::Usage, "no configuration: name the file with --config"))
}

/// Returns the file of tokens that the configuration names, if there is a configuration.
fn tokens(config: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    match config {
        Some(path) => Ok(Config::read(path)?.center.tokens),
        None => Ok(None),
    }
}

fn serve(cli: CenterCli) -> Result<(), Failure> {
    let path = named(cli.config.as_deref())?.to_owned();
    let config = Config::read(&path)?;
    let log_file = cli.messages.log_file.as_ref();
    let log_file = log_file.unwrap_or(&config.center.log_file).clone();
    let (level, format) = (cli.messages.log_level, cli.messages.log_format);
    let log = Log::of_service(level, format, &log_file).map_err(|error| {
        let message = format!("the log file {}: {error}", log_file.display());
        Failure::new(Exit::LocalIo, message)
    })?;
    let log = Arc::new(log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no worker threads: {error}")))?;
    let opened = Center::open(
        config,
        path,
        cli.connections,
        Arc::clone(&log),
        runtime.handle().clone(),
    );
    let ended = opened.and_then(|center| runtime.block_on(until_told(&center, &cli.allow_host)));
    if let Err(failure) = &ended {
        log.failure_to_file(failure);
    }
    // A run that is blocked on a disk must not delay the exit.
    runtime.shutdown_background();
    ended
}

/// Serves until a signal ends it.
async fn until_told(center: &Center, allowed_hosts: &[Registry]) -> Result<(), Failure> {
    let log = center.log();
    let manager = ServiceManager::of_environment();
    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no signal handler: {error}")))?;
    let http = Http::start(center.clone(), allowed_hosts).await?;
    let config = center.config();
    log.info(&format!(
        "export-center {} has {}, its state in {}, and its page at {}",
        env!("STELLAOPS_VERSION"),
        render::count(config.jobs.len(), "job"),
        config.center.state.display(),
        http.url()
    ));
    drop(config);
    center.recover()?;
    let own = center.clone();
    let notifying = tokio::spawn(async move {
        let config = || own.config();
        own.inner.notifier.run(config).await;
    });
    let watching = tokio::spawn(certificates::watch(center.clone()));
    manager.ready();
    loop {
        let wait = center.fire_due();
        manager.is_alive();
        let wait = manager
            .interval()
            .map_or(wait, |interval| wait.min(interval));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = center.inner.woken.notified() => {}
            _ = hangup.recv() => {
                manager.reloading();
                if let Err(error) = log.reopen() {
                    log.error(&format!("The log file cannot be opened anew, and stays as it is: {error}"));
                }
                center.reload();
                http.reload();
                manager.ready();
            }
            _ = signals.next() => break,
        }
    }
    manager.stopping();
    notifying.abort();
    watching.abort();
    log.info("The service ends; what runs goes on at its next start");
    let ended = async { tokio::join!(center.stop(PATIENCE), http.shutdown()) };
    tokio::select! {
        _ = ended => {}
        // A second signal skips the wait.
        _ = signals.next() => {}
    }
    log.info("The service has ended");
    Ok(())
}
