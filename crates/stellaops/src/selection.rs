//! Applies the rules of the configuration.

use mirror_plan::{ImageRule, Selected, Selector};

use crate::config::ImageConfig;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;

/// Returns what each entry selects, and logs what an operator should know about it.
///
/// What selects nothing is a warning, or an error if the entry is required.
pub(crate) async fn select(
    context: &Context,
    selector: &mut Selector,
    entries: &[ImageConfig],
) -> Result<Vec<Selected>, Failure> {
    let rules: Vec<ImageRule> = entries.iter().map(|entry| entry.rule.clone()).collect();
    let selected = selector
        .select(&rules)
        .await
        .map_err(|error| failure::of_plan(&error))?;
    for selected in &selected {
        for warning in &selected.warnings {
            context.log.warn(warning);
        }
    }
    let mut required = entries
        .iter()
        .zip(&selected)
        .filter(|(entry, _)| entry.required);
    if let Some((entry, _)) = required.find(|(_, selected)| selected.images.is_empty()) {
        let message = format!("{} selects nothing, and is required", entry.rule);
        return Err(Failure::new(Exit::Incomplete, message));
    }
    Ok(selected)
}
