//! The catalogue: popular providers with their quirks, built in. One TOML file a provider, under `config/providers/`.

use super::source::Source;
use super::tree::{self, Table};

/// A built-in provider.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueEntry {
    /// Its id, which `[[provider]] id` uses.
    pub id: &'static str,
    /// Its file, as shipped.
    pub text: &'static str,
}

/// All built-in providers, by id.
#[must_use]
pub const fn catalogue() -> &'static [CatalogueEntry] {
    &[
        CatalogueEntry { id: "github", text: include_str!("../../config/providers/github.toml") },
        CatalogueEntry { id: "google", text: include_str!("../../config/providers/google.toml") },
        CatalogueEntry { id: "notion", text: include_str!("../../config/providers/notion.toml") },
        CatalogueEntry { id: "slack", text: include_str!("../../config/providers/slack.toml") },
        CatalogueEntry { id: "vanta", text: include_str!("../../config/providers/vanta.toml") },
    ]
}

/// The keys of a built-in provider, with their places in its file.
pub(super) fn built_in(id: &str, sources: &mut Vec<Source>) -> Option<Table> {
    let entry = catalogue().iter().find(|entry| entry.id == id)?;
    let source = Source { name: format!("catalogue/{id}.toml"), text: entry.text.into() };
    let table = tree::parse(sources.len(), &source, &mut Vec::new());
    sources.push(source);
    Some(table)
}
