use std::slice;

use clap::Args;
use oci_content::Registry;
use registry_client::{CredentialSource as _, DockerConfig};

use crate::commands::login::warn_of_readers;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::logins_file::{LoginTarget, LoginsFile};
use crate::render;

/// Remove the login of a registry that `registry login`, podman or docker keeps
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct LogoutArgs {
    /// The registry, or a namespace of it that has a login of its own
    #[arg(value_name = "HOST[/NAMESPACE]")]
    pub(crate) target: LoginTarget,
}

const EXAMPLES: &str = "\
    stellaops registry logout registry.example.com";

impl Run for LogoutArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(vec![self.target.registry.clone()])
    }

    fn changes_logins(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, &self.target))
    }
}

async fn run(context: &Context, target: &LoginTarget) -> Result<(), Failure> {
    let files = context.login_files();
    let Some(path) = files.first() else {
        return render::text(&format!("There was no login of {target}"));
    };
    let mut file = LoginsFile::open(path, false, &context.gaps).await?;
    let removed = file.change(target, None)?;
    if removed {
        file.save(&context.gaps)?;
        warn_of_readers(context, &file);
    }
    for path in files {
        let one = DockerConfig::from_files(slice::from_ref(path).to_vec());
        let found = one.credentials(&target.registry, target.folder.as_ref());
        // A file that cannot be read is an error of the commands that need a login.
        if let Ok(Some(_)) = found.await {
            context.log.warn(&format!(
                "{}: this file still has a login that is used for {target}",
                path.display()
            ));
        }
    }
    let path = file.path();
    render::text(&if removed {
        format!("Removed the login of {target} from {path}")
    } else {
        format!("There was no login of {target} in {path}")
    })
}
