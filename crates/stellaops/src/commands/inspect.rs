//! `bundle inspect`: what a bundle says of itself. Nothing is proved by it; that is for `bundle validate`.

mod html;
mod opened;
mod signature;
mod text;
mod view;

pub(crate) use opened::OpenedBundle;
use view::BundleView;

use crate::cli::{InspectArgs, InspectFormat};
use crate::exit::{Exit, Failure};
use crate::render;

pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let bundle = OpenedBundle::open(&args.file)?;
    let view = BundleView::new(&bundle);
    match args.format {
        InspectFormat::Json => {
            let json = serde_json::to_value(&view)
                .map_err(|error| Failure::new(Exit::LocalIo, format!("the result: {error}")))?;
            render::json(&json)
        }
        InspectFormat::Html => render::text(&html::html(&view)),
        InspectFormat::Text => render::text(&text::text(&view)),
    }
}
