//! A review as HTML: one page without scripts and assets, or the part of it for a page of others.

use askama::Template;

use super::{Review, rows::text};

#[derive(Template)]
#[template(path = "review.html")]
struct Page<'a> {
    review: &'a Review,
    at: String,
    records: String,
}

#[derive(Template)]
#[template(path = "review_part.html")]
struct Part<'a> {
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

    /// Headings, findings and access without the page around them, and without a style. Everything is escaped.
    ///
    /// # Panics
    /// Never: a text in memory can be written.
    pub fn html_part(&self) -> String {
        let part = Part {
            review: self,
            at: text(self.at),
            records: self.records_text(),
        };
        part.render().expect("a page in memory can be written")
    }
}
