//! What the code of a projection still knows of the rows that the code before it has written.

use std::collections::BTreeMap;

/// The fields of a row, by its table, its key and its value.
pub type Fields = fn(&str, &[u8], &[u8]) -> BTreeMap<String, String>;

/// What an older version of a projection has in common with a newer one.
pub struct Older {
    /// Tables with the same keys in both.
    pub tables: &'static [&'static str],
    /// [`fields`](super::Projection::fields) of a row as the older one wrote it. A field that the newer one has by another name, or does not
    /// have, is not compared.
    pub fields: Fields,
}
