use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::log::Log;

/// The signals that ask a process to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to catch the signals. Needs a tokio runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        let caught = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Exit::LocalIo, format!("no signal handler: {error}")))
        };
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal and returns its number.
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// How long an interrupted command may take to clean up.
const UNWIND: Duration = Duration::from_millis(500);
/// How long the final message may take to be written: nobody may be reading it.
const SAY: Duration = Duration::from_millis(200);
/// The stack size of a main thread.
const STACK_BYTES: usize = 8 << 20;

/// Runs `command` on a thread of its own until it ends or the process receives a signal. After a signal the exit code is 128
/// plus its number, whatever the command returns at the same moment.
///
/// The command learns of the signal through the receiver and gets a moment to clean up. If it is blocked on a disk, a pipe or
/// a terminal, the process ends without it.
pub(crate) fn interruptible<T: Send + 'static>(
    runtime: &Runtime,
    log: &Arc<Log>,
    command: impl FnOnce(oneshot::Receiver<()>) -> T + Send + 'static,
) -> Result<ControlFlow<u8, T>, Failure> {
    let mut signals = {
        let _context = runtime.enter();
        Signals::new()?
    };
    let (cancel, cancelled) = oneshot::channel();
    let (end, mut ended) = oneshot::channel();
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || end.send(command(cancelled)))
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no thread: {error}")))?;
    runtime.block_on(async {
        let number = tokio::select! {
            ended = &mut ended => return Ok(match ended {
                Ok(ended) => ControlFlow::Continue(ended),
                // The thread panicked, and the panic hook has printed why.
                Err(_) => ControlFlow::Break(Exit::Bug as u8),
            }),
            number = signals.next() => number,
        };
        cancel.send(()).ok();
        tokio::select! {
            _ = ended => {}
            _ = signals.next() => {}
            () = tokio::time::sleep(UNWIND) => {}
        }
        say(log, "interrupted; run the same command again to continue");
        Ok(ControlFlow::Break(128 + number))
    })
}

/// Logs an error, unless writing it blocks.
fn say(log: &Arc<Log>, message: &'static str) {
    let (done, written) = sync_channel(1);
    let log = Arc::clone(log);
    thread::spawn(move || {
        log.error(message);
        done.send(())
    });
    written.recv_timeout(SAY).ok();
}
