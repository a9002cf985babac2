//! The long help of the commands.

use clap::Command;

/// Joins the description of each command and its examples, which its file gives as `long_about`, into one text. The
/// global options, which are the same everywhere, are hidden from the short help.
pub(super) fn complete(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_global = argument.is_global_set();
        argument.hide_short_help(is_global)
    });
    with_examples(command)
}

fn with_examples(command: Command) -> Command {
    let examples = examples(&command);
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    command
        .mut_subcommands(with_examples)
        .long_about(format!("{about}\n\nExamples:\n  {}", examples.join("\n  ")))
}

/// Returns the examples of a command; for a group, the first example of each of its commands.
fn examples(command: &Command) -> Vec<String> {
    match command.get_long_about() {
        Some(lines) => lines.to_string().lines().map(str::to_owned).collect(),
        None => {
            let below = command.get_subcommands();
            below
                .filter_map(|command| examples(command).into_iter().next())
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::{Cli, command_line};
    use super::*;

    fn visit(command: &Command, with: &mut impl FnMut(&Command)) {
        with(command);
        // `help` is clap's own.
        for below in command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
        {
            visit(below, with);
        }
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_a_command_line_of_it() {
        let mut cli = Cli::command();
        cli.build();
        visit(&cli, &mut |command| {
            let examples = examples(command);
            assert!(!examples.is_empty(), "{}", command.get_name());
            for line in examples {
                let line = line.split('|').next_back().unwrap();
                let words = line.split('>').next().unwrap().split_whitespace();
                let parsed = command_line().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
                let name = command.get_bin_name().unwrap_or_default();
                assert!(line.trim_start().starts_with(name), "{line}: {name}");
            }
        });
    }
}
