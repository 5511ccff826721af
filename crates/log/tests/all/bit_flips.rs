//! A part of what `cargo run --release -p ottla-log --example bit_flips` does in full.

use crate::flips;
use crate::support::block_on;

#[test]
fn a_thousand_bits() {
    let counts = block_on(flips::run(1, 1_000));
    assert_eq!(counts.flips, 1_000);
    assert_eq!((counts.files.len(), counts.nodes.len()), (9, 4), "{counts:?}");
    assert_eq!(counts.offline + counts.refused + counts.cut + counts.unchanged, 1_000, "{counts:?}");
    assert!(counts.refused > 200 && counts.unchanged > 200, "{counts:?}");
}

#[test]
fn the_last_two_batches_at_every_byte() {
    assert!(block_on(flips::cut_at_every_byte()) > 200);
}
