//! The programs of the StellaOps referrer mirror: `stellaops`, the command line, and `export-center`, the service.
//!
//! Both compose the libraries, which decide everything that needs neither a terminal nor a clock. What they share is here:
//! configuration, log, metrics, and how jobs run.

mod announce;
mod answer_headers;
mod arguments;
mod budget;
mod center;
mod cli;
mod commands;
mod config;
mod context;
mod convert;
mod environment;
mod exit;
mod failure;
mod file_lock;
mod findings;
mod job_lock;
mod jobs;
mod log;
mod logins_file;
mod metrics;
mod metrics_listen;
mod opened_bundle;
mod planning;
mod progress;
mod receipts;
mod registry_board;
mod remedy;
mod render;
mod selection;
mod signals;
mod small_file;
mod window;
mod yaml_error;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::Global;
use crate::commands::Cli;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::metrics_listen::MetricsServer;
use crate::signals::Signals;

/// Runs the service, and returns its exit code.
pub fn export_center() -> ExitCode {
    center::run()
}

/// Runs the command line, and returns its exit code.
pub fn stellaops() -> ExitCode {
    let cli = commands::parse();
    let messages = &cli.global.messages;
    let log = match Log::new(
        messages.log_level,
        messages.log_format,
        messages.log_file.as_deref(),
    ) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            let path = messages
                .log_file
                .as_deref()
                .unwrap_or(Path::new(""))
                .display();
            let fallback = Log::new(messages.log_level, messages.log_format, None);
            let failure = Failure::new(Exit::LocalIo, format!("--log-file {path}: {error}"));
            if let Ok(fallback) = fallback {
                fallback.error(&failure.to_string());
            }
            return failure.code().into();
        }
    };
    run(cli, &log)
        .unwrap_or_else(|failure| reported(&log, &failure))
        .into()
}

fn run(cli: Cli, log: &Arc<Log>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no worker threads: {error}")))?;
    let code = if cli.command.chosen().drains() {
        runtime
            .block_on(whole(&cli, log, std::future::pending::<()>()))
            .code
    } else {
        let linger = cli.global.metrics_linger.map(Duration::from_secs);
        let (handle, own) = (runtime.handle().clone(), Arc::clone(log));
        let ended = signals::interruptible(&runtime, log, move |cancelled| {
            handle.block_on(whole(&cli, &own, cancelled))
        })?;
        match ended {
            ControlFlow::Break(code) => code,
            ControlFlow::Continue(Ended { code, metrics }) => {
                if let (Some(metrics), Some(time)) = (metrics, linger) {
                    runtime.block_on(async {
                        let mut signals = Signals::new()?;
                        tokio::select! {
                            () = metrics.linger(time) => {}
                            _ = signals.next() => {}
                        }
                        Ok::<_, Failure>(())
                    })?;
                }
                code
            }
        }
    };
    // Background reads and writes must not delay the exit.
    runtime.shutdown_background();
    Ok(code)
}

/// The outcome of a command.
struct Ended {
    code: u8,
    /// The server of its metrics, which may have to run a little longer.
    metrics: Option<MetricsServer>,
}

/// Runs a command until it ends or is cancelled, and writes everything that is due at its end.
async fn whole<T>(cli: &Cli, log: &Arc<Log>, cancelled: impl Future<Output = T> + Send) -> Ended {
    let mut metrics = None;
    let code = match in_context(cli, log, &mut metrics, cancelled).await {
        Ok(()) => 0,
        Err(failure) => reported(log, &failure),
    };
    Ended { code, metrics }
}

async fn in_context<T>(
    cli: &Cli,
    log: &Arc<Log>,
    server: &mut Option<MetricsServer>,
    cancelled: impl Future<Output = T> + Send,
) -> Result<(), Failure> {
    let command = cli.command.chosen();
    let named = command.registries();
    let context = Context::new(&cli.global, Arc::clone(log), command)?;
    if let Some(path) = &cli.global.metrics_file {
        small_file::check_writable(path).map_err(|error| metrics_file_failure(path, &error))?;
    }
    let configured = context.config.registries();
    for registry in configured.iter().chain(named.iter().flatten()) {
        context.metrics.expect(registry);
    }
    for job in context.config.jobs.keys() {
        context.metrics.expect_job(job);
    }
    if let Some(address) = cli.global.metrics_listen {
        *server = Some(MetricsServer::start(address, Arc::clone(&context.metrics)).await?);
    }
    let result = tokio::select! {
        result = command.run(&context) => result,
        // The one who cancels logs why.
        _ = cancelled => Ok(()),
    };
    let written = write_metrics(&cli.global, &context);
    log.warn_of_gaps(&context.gaps);
    context.warn_of_caches();
    if let (Err(_), Err(unwritten)) = (&result, &written) {
        log.error(&unwritten.to_string());
    }
    result
        .map_err(|failure| context.explained(failure))
        .and(written)
}

fn reported(log: &Log, failure: &Failure) -> u8 {
    log.failure(failure);
    failure.code()
}

fn write_metrics(global: &Global, context: &Context) -> Result<(), Failure> {
    let Some(path) = &global.metrics_file else {
        return Ok(());
    };
    let written = context.metrics.write(path, &context.gaps);
    written.map_err(|error| metrics_file_failure(path, &error))
}

fn metrics_file_failure(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("--metrics-file {}: {error}", path.display());
    Failure::new(Exit::LocalIo, message)
}
