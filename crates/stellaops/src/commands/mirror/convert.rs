use std::path::PathBuf;

use clap::Args;

use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::convert::{self, Kind, Weight};
use crate::exit::{Exit, Failure};
use crate::small_file::read_option;
use crate::{render, yaml_error};

/// Write our configuration from that of another tool; what has no counterpart is named, and passwords are not copied
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ConvertArgs {
    /// The tool that the file was written for
    #[arg(long, value_name = "KIND")]
    pub(crate) from: Kind,
    /// Where the images go, for skopeo and oc-mirror, which have the target on their command lines
    #[arg(long, value_name = "REGISTRY[/PREFIX]", value_parser = convert::target)]
    pub(crate) to: Option<convert::Target>,
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

const EXAMPLES: &str = "\
    stellaops mirror convert --from regsync regsync.yml > mirror.yaml\n\
    stellaops mirror convert --from skopeo sync.yml --to registry.inside.example/mirror > mirror.yaml";

impl Run for ConvertArgs {
    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async { run(self, context) })
    }
}

fn run(args: &ConvertArgs, context: &Context) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let bytes = read_option(&args.file, "file")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Usage, format!("{name}: it is not UTF-8 text")))?;
    if args.from == Kind::Regsync && args.to.is_some() {
        let message = "--to: a regsync file names its targets itself";
        return Err(Failure::new(Exit::Usage, message));
    }
    let converted = convert::convert(args.from, &text, args.to.clone())
        .map_err(|(reason, place)| yaml_error::failure(&name, &text, Some(place), &reason))?;
    let file = args.file.file_name().unwrap_or_default().to_string_lossy();
    render::text(&converted.yaml(&file))?;
    let notes = converted.all_notes();
    for note in &notes {
        context.log.warn(&format!(
            "{name}:{}: {}",
            note.line,
            render::foreign(&note.text)
        ));
    }
    let left_out = notes.iter().filter(|note| note.weight == Weight::LeftOut);
    match left_out.count() {
        0 => {
            let jobs = render::count(converted.jobs(), "job");
            context.log.info(&format!("{name}: converted into {jobs}"));
            Ok(())
        }
        count => Err(Failure::new(
            Exit::Incomplete,
            format!(
                "{name}: {} could not be converted; the configuration names them in comments",
                render::count(count, "part")
            ),
        )),
    }
}
