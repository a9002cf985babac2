use maud::{Markup, html};

/// Writes a table. The first cell of a row is its header.
///
/// On a narrow screen each row becomes a block whose cells carry the names of their columns. The roles are written out
/// because browsers forget those of tables that are laid out in another way.
pub(super) fn table(caption: &str, head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table role="table" {
            caption.unseen { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for name in head { th scope="col" role="columnheader" { (name) } }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (at, cell) in row.iter().enumerate() {
                            @if at == 0 { th scope="row" role="rowheader" { (cell) } }
                            @else { td role="cell" data-label=(head.get(at).unwrap_or(&"")) { (cell) } }
                        }
                    }
                }
            }
        }
    }
}
