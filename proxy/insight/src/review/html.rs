//! A review as one HTML page without scripts and assets.

use askama::Template;

use super::{Review, rows::text};

#[derive(Template)]
#[template(path = "review.html")]
struct Page<'a> {
    review: &'a Review,
    at: String,
    records: String,
}

impl Review {
    /// For a browser or a printer.
    ///
    /// # Panics
    /// Never: a text in memory can be written.
    pub fn html(&self) -> String {
        let page = Page {
            review: self,
            at: text(self.at),
            records: self.records_text(),
        };
        page.render().expect("a page in memory can be written")
    }
}
