//! What operators have rejected: positions at which a fold could not go on, and which every fold passes over, for ever
//! (DESIGN.md 4). They come from the control log, by way of whoever reads it; here they are only known.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::journal::Position;
use crate::lock::lock;

/// Every rejected position, in the order in which they were told. Cheap to clone; all clones are one list.
#[derive(Clone, Default)]
pub struct Rejections(Arc<Mutex<Vec<Position>>>);

impl Rejections {
    /// Tells the fold. A position is told once, and never taken back.
    pub fn tell(&self, position: Position) {
        lock(&self.0).push(position);
    }

    /// All but the first `known`.
    pub(super) fn after(&self, known: usize) -> Vec<Position> {
        lock(&self.0).get(known..).unwrap_or_default().to_vec()
    }
}

/// What a fold knows of them.
#[derive(Default)]
pub(super) struct Known {
    pub count: usize,
    pub positions: HashSet<Position>,
}

impl Known {
    pub fn learn(&mut self, positions: &[Position]) {
        self.count += positions.len();
        self.positions.extend(positions);
    }

    /// Asked for every record; nearly always there is none.
    pub fn has(&self, position: Position) -> bool {
        !self.positions.is_empty() && self.positions.contains(&position)
    }
}
