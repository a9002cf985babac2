use crate::commands::inspect::text::{method, referrers_found, sentence, sources, status, trusted};
use crate::commands::inspect::view::{BundleView, FoundView, ImageView, ReferrerView};
use crate::log;
use crate::render;

/// Formats a bundle as one HTML page.
///
/// - It needs no network: the style is inline, there are no scripts, and its content security policy forbids whatever a
///   bundle might smuggle in.
/// - Everything that comes from the bundle goes through [`Page::text`].
pub(crate) fn html(view: &BundleView) -> String {
    let mut page = Page(String::new());
    page.markup(HEAD)
        .markup(include_str!("page.css"))
        .markup("</style>\n<title>");
    page.text(&view.file)
        .markup("</title>\n</head>\n<body>\n<header><h1>");
    page.text(&view.file).markup("</h1>");
    page.badge(view.status.as_str()).markup("</header>\n");
    page.markup("<p class=\"note\">What the bundle claims. <code>stellaops bundle validate</code> proves it.</p>\n");
    facts(&mut page, view);
    if !view.warnings.is_empty() {
        page.markup("<h2>Warnings</h2>\n<ul class=\"warnings\">\n");
        for warning in &view.warnings {
            page.markup("<li>")
                .text(&sentence(warning))
                .markup("</li>\n");
        }
        page.markup("</ul>\n");
    }
    page.markup("<h2>Images</h2>\n");
    for image in &view.images {
        image_section(&mut page, image);
    }
    if !view.other_subjects.is_empty() {
        page.markup("<h2>Subjects that are not images of this bundle</h2>\n");
    }
    for subject in &view.other_subjects {
        let name = format!("{}@{}", subject.repository, subject.digest);
        section_head(&mut page, &name, &subject.found);
        referrers(&mut page, &subject.found);
        page.markup("</section>\n");
    }
    if let Some(signature) = &view.signature {
        page.markup("<h2>To check the signature</h2>\n<p class=\"note\">With the signer's public key in <code>KEY.pub</code>.");
        if let Some(key) = &signature.key_hint {
            page.markup(" The signature says that it is of the key <code>")
                .text(key);
            page.markup("</code>.");
        }
        page.markup("</p>\n<pre>");
        for line in signature
            .extract
            .iter()
            .chain(&signature.cosign)
            .chain(&signature.openssl)
        {
            page.text(line).markup("\n");
        }
        page.markup("</pre>\n");
    }
    page.markup("</body>\n</html>");
    page.0
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n";

/// A page under construction. All markup is `'static`, since it is written only here.
struct Page(String);

impl Page {
    fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, escaped for content and for quoted attribute values.
    fn text(&mut self, text: &str) -> &mut Self {
        for c in log::escape(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    fn badge(&mut self, status: &str) -> &mut Self {
        self.markup("<span class=\"badge ")
            .text(status)
            .markup("\">");
        self.text(status).markup("</span>")
    }

    fn fact(&mut self, name: &'static str, value: &str) {
        self.markup("<dt>").markup(name).markup("</dt><dd>");
        self.text(value).markup("</dd>\n");
    }
}

fn facts(page: &mut Page, view: &BundleView) {
    let counts = &view.counts;
    let size = view.size.map(|size| format!(", {}", render::bytes(size)));
    page.markup("<dl>\n");
    page.fact(
        "Form",
        &format!("{}{}", view.form, size.unwrap_or_default()),
    );
    let (blobs, bytes) = (
        render::count(counts.blobs, "blob"),
        render::bytes(counts.blob_bytes),
    );
    let images = render::count(counts.images, "image");
    page.fact("Content", &format!("{images}, {blobs} of {bytes}"));
    page.fact("Referrers", &referrers_found(counts));
    page.fact("Images without any", &counts.bare_images.to_string());
    page.fact(
        "Stream",
        &format!("{}, sequence {}", view.stream, view.sequence),
    );
    if let Some(created) = &view.created {
        page.fact("Created", created);
    }
    if let Some(base) = &view.base {
        let held = render::count(counts.blobs_in_base, "blob");
        let bytes = render::bytes(counts.blob_bytes_in_base);
        let text = format!("{base}, which holds {held} of {bytes} that are not in this bundle");
        page.fact("Base", &text);
    }
    for file in &view.trust {
        page.fact("To verify with", &trusted(file));
    }
    page.fact(
        "Signed",
        if view.signature.is_some() {
            "yes; see below"
        } else {
            "no"
        },
    );
    page.markup("<dt>Manifest</dt><dd><code>")
        .text(&view.manifest.to_string());
    page.markup("</code></dd>\n</dl>\n");
}

fn section_head(page: &mut Page, name: &str, found: &FoundView) {
    page.markup("<section class=\"image\">\n<div class=\"head\"><h3>")
        .text(name)
        .markup("</h3>");
    page.badge(&status(found))
        .markup("</div>\n<div class=\"quiet\">found by ");
    page.text(&method(found)).markup("</div>\n");
}

fn image_section(page: &mut Page, image: &ImageView) {
    section_head(page, &image.reference.to_string(), &image.found);
    page.markup("<code>")
        .text(&image.digest.to_string())
        .markup("</code>\n<div class=\"quiet\">");
    page.text(&image.media_type).markup("</div>\n");
    if let Some(same) = &image.same_as {
        page.markup("<p class=\"note\">The same image as ")
            .text(&same.to_string());
        page.markup(", where its referrers are listed.</p>\n</section>\n");
        return;
    }
    referrers(page, &image.found);
    for child in &image.children {
        let platform = child
            .platform
            .as_deref()
            .map_or("child".into(), render::foreign);
        page.markup("<h4>")
            .text(&platform)
            .markup(" <code class=\"quiet\">");
        page.text(&child.digest.to_string())
            .markup("</code></h4>\n");
        match &child.omitted {
            Some(reason) => {
                page.markup("<p class=\"note\">Not in the bundle: ")
                    .text(reason);
                page.markup("</p>\n");
            }
            None => referrers(page, &child.found),
        }
    }
    page.markup("</section>\n");
}

fn referrers(page: &mut Page, found: &FoundView) {
    if let Some(nothing) = found.nothing() {
        page.markup("<p class=\"note\">")
            .markup(nothing)
            .markup("</p>\n");
        return;
    }
    page.markup(
        "<div class=\"scroll\"><table>\n<tr><th>Category</th><th>Artifact type</th><th>Digest</th>",
    );
    page.markup("<th>Manifest size</th><th>Named by</th></tr>\n");
    for referrer in &found.referrers {
        row(page, referrer);
    }
    page.markup("</table></div>\n");
}

fn row(page: &mut Page, referrer: &ReferrerView) {
    page.markup("<tr><td class=\"category\" style=\"--depth: ")
        .text(&referrer.depth.to_string());
    page.markup("\">")
        .markup(if referrer.depth > 1 { "↳ " } else { "" });
    page.markup("<b>")
        .text(referrer.category.as_str())
        .markup("</b></td><td>");
    match &referrer.artifact_type {
        Some(artifact_type) => page.text(&render::foreign(artifact_type)),
        None => page.markup("<span class=\"quiet\">none</span>"),
    };
    page.markup("</td><td><code>")
        .text(&referrer.digest.to_string());
    page.markup("</code></td><td class=\"number\">")
        .text(&render::bytes(referrer.size));
    page.markup("</td><td>").text(&sources(referrer));
    if let Some(tag) = &referrer.tag {
        page.markup("<br><code>").text(tag).markup("</code>");
    }
    page.markup("</td></tr>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup_or_leaves_its_attribute() {
        let mut page = Page(String::new());
        page.text("</style><script>alert(1)</script> \" ' & \u{202e} \u{0}");
        assert_eq!(
            page.0,
            "&lt;/style&gt;&lt;script&gt;alert(1)&lt;/script&gt; &quot; &#39; &amp; \\u{202e} \\u{0}"
        );
    }
}
