//! `grantd providers`: the built-in catalogue, and one entry as it is shipped.

use super::args::ProvidersArgs;
use super::end::End;
use super::terminal;
use crate::config::{CatalogueEntry, catalogue};
use serde_json::json;

/// Lists the catalogue, or prints one entry.
///
/// # Errors
/// 1 for a name that is not in it.
pub(super) fn providers(args: &ProvidersArgs) -> Result<(), End> {
    let Some(name) = &args.name else {
        terminal::say(if args.json { all_as_json().to_string() } else { all_as_text() });
        return Ok(());
    };
    let entry = catalogue().iter().find(|entry| entry.id == name).ok_or_else(|| {
        End::refused(format!(
            "the catalogue has no {name:?}: `grantd providers` lists it; any other provider can be spelled out in the configuration"
        ))
    })?;
    terminal::say(if args.json { read(entry).to_string() } else { entry.text.trim_end().to_owned() });
    Ok(())
}

fn all_as_text() -> String {
    let head = ["ID", "NAME", "ROTATION", "DOCUMENTATION"].map(str::to_owned).to_vec();
    let rows = catalogue().iter().map(|entry| {
        let read = read(entry);
        let text = |key: &str| read.get(key).and_then(|value| value.as_str()).unwrap_or("").to_owned();
        vec![entry.id.to_owned(), text("name"), text("rotation"), text("docs")]
    });
    terminal::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn all_as_json() -> serde_json::Value {
    json!({ "providers": catalogue().iter().map(read).collect::<Vec<_>>() })
}

fn read(entry: &CatalogueEntry) -> serde_json::Value {
    toml::from_str(entry.text).unwrap_or_default()
}
