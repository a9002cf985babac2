use clap::Args;
use clap_complete::Shell;

use crate::commands::command_line;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::render;

/// Print a completion script
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

const EXAMPLES: &str = "stellaops completions bash > /etc/bash_completion.d/stellaops";

impl Run for CompletionsArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(), "stellaops", &mut script);
    render::text(&String::from_utf8_lossy(&script))
}
