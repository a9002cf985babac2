use crate::exit::Exit;

/// Returns what to do next after a failure with this exit code.
pub(super) fn next_step(code: u8) -> &'static str {
    const STEPS: [(Exit, &str); 10] = [
        (
            Exit::Bug,
            "This is a bug. `stellaops support collect --output FILE` gathers what a report of it needs.",
        ),
        (
            Exit::Usage,
            "Correct the configuration: `stellaops config check` shows the line. Then reload the service.",
        ),
        (
            Exit::Malformed,
            "Export the bundle that is named again: the file is damaged or was packed by another tool.",
        ),
        (
            Exit::Integrity,
            "Run the job again. If the same digest is named again, the registry has damaged content: push it again.",
        ),
        (
            Exit::Authenticity,
            "Do not use what this run brought. Ask the team that signs the images, or correct the policy if it is wrong.",
        ),
        (
            Exit::Limit,
            "Look at what reached the limit. Raise the limit in the configuration only if that much is expected.",
        ),
        (
            Exit::LocalIo,
            "Free or repair the disk: `df -h` and the permissions of the folder that is named. Then run the job again.",
        ),
        (
            Exit::Network,
            "Check that the registry answers: `stellaops registry diagnose REFERENCE` finds the cause. The next run goes on by itself.",
        ),
        (
            Exit::Access,
            "Check that the image exists and that the login is right: `stellaops registry login HOST` renews it.",
        ),
        (
            Exit::Incomplete,
            "Open the run to see what is missing. If it is gone from the registry, push it again; else run the job again.",
        ),
    ];
    let step = STEPS.into_iter().find(|(exit, _)| *exit as u8 == code);
    step.map_or("Open the run and read its log.", |(_, step)| step)
}
