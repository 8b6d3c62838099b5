//! What the code of a projection still knows of the rows that the code before it has written.

use std::collections::BTreeMap;

/// The fields of a row, by its table, its key and its value.
pub type Fields = fn(&str, &[u8], &[u8]) -> BTreeMap<String, String>;

/// What an older version of a projection has in common with a newer one.
pub struct Older {
    /// Tables with the same keys in both.
    pub tables: &'static [&'static str],
    pub rows: OlderRows,
}

/// How its rows were written.
pub enum OlderRows {
    /// As the newer one writes them: byte for byte.
    Alike,
    /// Otherwise: they are compared field by field.
    Otherwise {
        /// [`fields`](super::Projection::fields) of a row as the older one wrote it.
        fields: Fields,
        /// Fields that only one of the two versions has, with all below them. These are not compared; any other field that one
        /// row has and the other has not is a difference.
        of_one: &'static [&'static str],
    },
}

impl OlderRows {
    /// Is the field one that only one of the versions has?
    pub(super) fn is_of_one(of_one: &[&str], field: &str) -> bool {
        let below =
            |of_one: &&str| field.strip_prefix(of_one).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        of_one.iter().any(below)
    }
}
