//! Lines to copy, for the long help of each command.

use clap::Command;

/// The words of a command, and examples of it.
const EXAMPLES: [(&str, &[&str]); 16] = [
    (
        "registry probe",
        &[
            "stellaops registry probe ghcr.io quay.io/team/app",
            "stellaops registry probe registry.example.com/team/app --all --format json",
        ],
    ),
    (
        "registry diagnose",
        &["stellaops registry diagnose registry.example.com/team/app:1.0"],
    ),
    (
        "referrers discover",
        &[
            "stellaops referrers discover registry.example.com/team/app:1.0",
            "stellaops referrers discover registry.example.com/team/app:1.0 --platforms --explain",
            "stellaops referrers discover registry.example.com/team/app:1.0 --artifact-type application/vnd.cyclonedx+json --format json",
        ],
    ),
    (
        "bundle export",
        &[
            "stellaops bundle export registry.example.com/team/app:1.0 --output bundle.tgz",
            "stellaops bundle export --config stellaops.yaml --sign-key key.pem --stream nightly --sequence 7 --output bundle.tgz",
            "stellaops bundle export registry.example.com/team/app:1.1 --base bundle.tgz --output delta.tgz",
        ],
    ),
    (
        "bundle validate",
        &[
            "stellaops bundle validate --file bundle.tgz --check-referrers",
            "stellaops bundle validate --file bundle.tgz --strict-referrer-validation --key pub.pem",
            "cat bundle.tgz | stellaops bundle validate --file -",
        ],
    ),
    (
        "bundle import",
        &[
            "stellaops bundle import --file bundle.tgz",
            "stellaops bundle import --file bundle.tgz --to registry.inside.example/mirror --strict-referrer-validation",
            "stellaops bundle import --file bundle.tgz --to oci:folder --receipt receipt.json",
        ],
    ),
    (
        "bundle pack",
        &["stellaops bundle pack extracted --output bundle.tgz"],
    ),
    (
        "bundle inspect",
        &[
            "stellaops bundle inspect --file bundle.tgz",
            "stellaops bundle inspect --file bundle.tgz --format html > bundle.html",
        ],
    ),
    (
        "bundle manifest",
        &["stellaops bundle manifest --file bundle.tgz > manifest.yaml"],
    ),
    ("bundle diff", &["stellaops bundle diff old.tgz new.tgz"]),
    (
        "store serve",
        &[
            "stellaops store serve",
            "stellaops store serve --listen 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --auth htpasswd",
        ],
    ),
    ("store list", &["stellaops store list"]),
    ("demo", &["stellaops demo"]),
    (
        "completions",
        &["stellaops completions bash > /etc/bash_completion.d/stellaops"],
    ),
    ("version", &["stellaops version --format json"]),
    (
        "",
        &[
            "stellaops demo",
            "stellaops referrers discover registry.example.com/team/app:1.0",
            "stellaops bundle export registry.example.com/team/app:1.0 --output bundle.tgz",
            "stellaops bundle import --file bundle.tgz --to registry.inside.example/mirror",
        ],
    ),
];

/// Puts the examples into the long help, before the options; what is for every command stands nowhere else.
pub(super) fn add_to(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_global = argument.is_global_set();
        argument.hide_short_help(is_global)
    });
    with_examples(command, "")
}

fn with_examples(command: Command, words: &str) -> Command {
    let below: Vec<String> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let command = below.into_iter().fold(command, |command, name| {
        let words = format!("{words} {name}").trim_start().to_owned();
        command.mut_subcommand(name, |command| with_examples(command, &words))
    });
    let own: Vec<&str> = EXAMPLES
        .iter()
        .filter(|(of, _)| *of == words)
        .flat_map(|(_, lines)| lines.iter().copied())
        .collect();
    // A command that has only others below it shows the first of each.
    let lines = match own.is_empty() {
        false => own,
        true => EXAMPLES
            .iter()
            .filter(|(of, _)| of.starts_with(&format!("{words} ")))
            .filter_map(|(_, lines)| lines.first().copied())
            .collect(),
    };
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let about = format!("{about}\n\nExamples:\n  {}", lines.join("\n  "));
    command.long_about(about)
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    fn leaves(command: &Command, words: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let words = format!("{words} {}", below.get_name())
                .trim_start()
                .to_owned();
            match below.has_subcommands() {
                true => leaves(below, &words, found),
                false => found.push(words),
            }
        }
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_a_command_line() {
        let mut names = vec![String::new()];
        leaves(&command(), "", &mut names);
        let mut with_examples: Vec<_> = EXAMPLES.iter().map(|(words, _)| *words).collect();
        names.sort();
        with_examples.sort_unstable();
        assert_eq!(names, with_examples);
        for line in EXAMPLES.iter().flat_map(|(_, lines)| *lines) {
            let line = line.split('|').next_back().unwrap();
            let words = line.split('>').next().unwrap().split_whitespace();
            let parsed = command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }
}
