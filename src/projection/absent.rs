//! What a table certainly does not hold, known without asking it: Bloom filters over the keys that were written since the
//! table was empty. Half of what a rebuild would ask its store for is not there yet. All bits of a key are in one block, so
//! that a question costs one look at memory a filter.

use std::hash::{DefaultHasher, Hasher};

use crate::store::Table;

/// Of the filters, in blocks of 64 bytes, each taken when the one before is full: most tables are small. With 17 MiB in all
/// one key in a hundred that is not there is asked for all the same; beyond some 9,000,000 keys, ever more of them.
const SIZES: [usize; 3] = [1 << 10, 1 << 14, 1 << 18];
/// Keys of a block, on average, when a filter is full.
const KEYS_PER_BLOCK: usize = 32;

type Block = [u64; 8];

/// Knows nothing of a table that had rows when it was opened.
pub(super) struct Absent {
    knows: bool,
    filters: Vec<Filter>,
}

struct Filter {
    blocks: Vec<Block>,
    keys: usize,
}

impl Absent {
    /// It must be told of every key that is written from now on.
    pub fn of(table: &Table) -> Self {
        Self { knows: table.range(&[], &[0xFF; 64]).next().is_none(), filters: Vec::new() }
    }

    pub fn is_absent(&self, key: &[u8]) -> bool {
        self.knows && self.lacks(hash_of(key))
    }

    pub fn add(&mut self, key: &[u8]) {
        let hash = hash_of(key);
        if !self.knows || !self.lacks(hash) {
            return;
        }
        if self.filters.last().is_none_or(Filter::is_full)
            && let Some(blocks) = SIZES.get(self.filters.len())
        {
            self.filters.push(Filter { blocks: vec![[0; 8]; *blocks], keys: 0 });
        }
        self.filters.last_mut().into_iter().for_each(|filter| filter.add(hash));
    }

    fn lacks(&self, hash: u64) -> bool {
        self.filters.iter().all(|filter| filter.lacks(hash))
    }
}

impl Filter {
    fn is_full(&self) -> bool {
        self.keys >= self.blocks.len() * KEYS_PER_BLOCK
    }

    fn lacks(&self, hash: u64) -> bool {
        let block = &self.blocks[hash as usize % self.blocks.len()];
        bits(hash).any(|(word, bit)| block[word] & bit == 0)
    }

    fn add(&mut self, hash: u64) {
        let at = hash as usize % self.blocks.len();
        bits(hash).for_each(|(word, bit)| self.blocks[at][word] |= bit);
        self.keys += 1;
    }
}

fn hash_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

/// Four of a block, as the word and the bit in it, by what of the hash does not choose the block.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..4).map(move |n| hash >> (28 + 9 * n)).map(|place| ((place >> 6) as usize % 8, 1 << (place % 64)))
}

#[cfg(test)]
mod tests {
    use super::{Absent, KEYS_PER_BLOCK, SIZES};
    use crate::store::Store;

    #[test]
    fn no_key_that_was_written_is_taken_for_absent_and_few_others_for_there() {
        let store = Store::in_memory();
        let (mut absent, keys) = (Absent::of(&store.table("rows").unwrap()), 3 * SIZES[0] * KEYS_PER_BLOCK);
        let key = |n: usize| format!("pay_{n}").into_bytes();
        for n in 0..keys {
            absent.add(&key(n));
            absent.add(&key(n / 2));
        }
        assert_eq!(absent.filters.len(), 2);
        assert_eq!((0..keys).find(|n| absent.is_absent(&key(*n))), None);
        let taken_for_there = (keys..2 * keys).filter(|n| !absent.is_absent(&key(*n))).count();
        assert!(taken_for_there < keys / 50, "{taken_for_there} of {keys}");
    }

    #[test]
    fn of_a_table_that_had_rows_nothing_is_known() {
        let store = Store::in_memory();
        let table = store.table("rows").unwrap();
        assert!(Absent::of(&table).is_absent(b"another"));
        let mut batch = store.batch();
        batch.insert(&table, b"one", b"");
        batch.commit().unwrap();
        let mut absent = Absent::of(&table);
        absent.add(b"two");
        assert!(!absent.is_absent(b"another"));
    }
}
